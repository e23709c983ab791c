"""Convert weights of PyTorchVideo or transformers.

The result has the names of mmaction2. SOURCE is SLOW_8x8_R50.pyth, for start=pytorchvideo
of SlowOnly; or model.safetensors of MCG-NJU/videomae-base-finetuned-ssv2, for start=ssv2 of
VideoMAE. docs/models.md has more.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('source', metavar='SOURCE')
parser.add_argument('target', metavar='TARGET.safetensors')


def main(args) -> None:
    from ..checkpoints.converting import convert_weights
    print(f'{args.target}: {convert_weights(args.source, args.target)} tensors')
