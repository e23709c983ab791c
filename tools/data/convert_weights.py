"""Converts weights of PyTorchVideo's SlowOnly to those that load_from takes."""

from hri30_ext import cli


def parse_args():
    parser = cli.Parser(
        description='Convert SLOW_8x8_R50.pyth of PyTorchVideo for load_from; '
                    'docs/models.md says which mean and deviation go with it.')
    parser.add_argument('source', metavar='SOURCE.pyth')
    parser.add_argument('target', metavar='TARGET.safetensors')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.checkpoints.converting import convert_slowonly
    print(f'{args.target}: {convert_slowonly(args.source, args.target)} tensors')


if __name__ == '__main__':
    cli.run(main)
