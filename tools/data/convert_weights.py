"""Convert SLOW_8x8_R50.pyth of PyTorchVideo for load_from; docs/models.md says which mean
and deviation go with it.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
parser.add_argument('source', metavar='SOURCE.pyth')
parser.add_argument('target', metavar='TARGET.safetensors')


def main(args) -> None:
    from hri30_ext.checkpoints.converting import convert_slowonly
    print(f'{args.target}: {convert_slowonly(args.source, args.target)} tensors')


if __name__ == '__main__':
    cli.run(main, parser)
