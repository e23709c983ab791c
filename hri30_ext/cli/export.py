"""Export a checkpoint to run without torch.

Writes a folder for ONNX Runtime or OpenVINO, and compares it with the trained model on the
validation clips; an export that differs too much is not kept.

To predict with it: hri30 predict FOLDER CLIP...
"""

import os

from .. import cli

parser = cli.Parser(__doc__)
cli.add_trained_arguments(parser)
parser.add_argument('--format', default='openvino', metavar='onnx|openvino',
                    help='default: %(default)s')
parser.add_argument('--precision', default='fp32', metavar='P',
                    help='onnx: fp32, int8; openvino: fp32, fp16 (weights), bf16, int8; '
                         'default: %(default)s')
parser.add_argument('--out', required=True, metavar='FOLDER',
                    help='a new folder, or an exported one, which is replaced')


def main(args) -> None:
    from .. import modules  # noqa: F401  (first: it fixes what the others import)
    from ..apis.exporting import export
    from ..names import command
    info = export(args.config, args.checkpoint, args.format, args.precision, args.out,
                  options=args.options)
    predict = command('predict.sh', os.path.abspath(args.out))
    print(f'Exported: {args.out} ({info.format} {info.precision}, {len(info.classes)} '
          f'classes)\nTo predict: {predict} CLIP...')
