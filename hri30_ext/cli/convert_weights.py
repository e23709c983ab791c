"""Convert the SlowOnly weights of PyTorchVideo.

The source is SLOW_8x8_R50.pyth, the result for start=pytorchvideo; docs/models.md has more.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('source', metavar='SOURCE.pyth')
parser.add_argument('target', metavar='TARGET.safetensors')


def main(args) -> None:
    from ..checkpoints.converting import convert_slowonly
    print(f'{args.target}: {convert_slowonly(args.source, args.target)} tensors')
