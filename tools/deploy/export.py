"""Exports a checkpoint to a folder that runs without torch and MMAction2."""

import argparse
import os
import shlex
import sys

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Export a checkpoint for ONNX Runtime or OpenVINO, and compare it with '
                    'the trained model on the validation clips; an export that differs too '
                    'much is not kept.',
        epilog='To predict with it: python -m hri30_ext.deploy.run FOLDER CLIP...')
    parser.add_argument('config', metavar='CONFIG', help='the config that was trained')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its .pth file')
    parser.add_argument('--format', default='openvino', metavar='onnx|openvino',
                        help='default: %(default)s')
    parser.add_argument('--precision', default='fp32', metavar='P',
                        help='onnx: fp32, int8; openvino: fp32, fp16 (weights), bf16, '
                             'int8; default: %(default)s')
    parser.add_argument('--out', required=True, metavar='FOLDER',
                        help='a new folder, or an exported one, which is replaced')
    parser.add_argument('--calibration-clips', type=int, default=128, metavar='N',
                        help='training clips to calibrate int8 on, at most; '
                             'default: %(default)s')
    cli.add_runtime_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.choose_device(args.device)
    import hri30_ext.modules  # noqa: F401  (first: it fixes what the others import)
    from hri30_ext.apis.exporting import export
    from hri30_ext.config import parse_options
    info = export(args.config, args.checkpoint, args.format, args.precision, args.out,
                  options=parse_options(args.cfg_options),
                  device='cuda' if (args.device or '').startswith('cuda') else 'cpu',
                  calibration_clips=args.calibration_clips)
    print(f'Exported: {args.out} ({info.format} {info.precision}, {len(info.classes)} '
          'classes)\nTo predict: ' + shlex.join([
              sys.executable, '-m', 'hri30_ext.deploy.run', os.path.abspath(args.out)])
          + ' CLIP...')


if __name__ == '__main__':
    cli.run(main)
