"""Build the engines of TensorRT for an exported ONNX model, on the machine that runs it.
With --provider tensorrt, the other programs find them and start at once. Needs no torch.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
parser.add_argument('model', metavar='FOLDER',
                    help='of tools/deploy/export.py --format onnx --precision fp32')


def main(args) -> None:
    from hri30_ext.deploy.runtime.engines import build_engines
    built = build_engines(args.model)
    print(f'Engines: built, or found, in {built["seconds"]:.0f} s. Largest difference of a '
          f'probability from the CPU, clips of noise: {built["max_difference"]:.2g}')


if __name__ == '__main__':
    cli.run(main, parser)
