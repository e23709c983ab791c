"""Predicts clips or a camera; tools/predict.sh calls this in the project's environment."""

import argparse
import os
import sys
from pathlib import Path

from hri30_ext import cli

#: Exit status where all was done but for clips that could not be read.
CLIPS_FAILED = 3


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        prog='tools/predict.sh', description='Predict clips, or a camera, with a model.',
        epilog='For example: tools/predict.sh work_dirs/demo/best.safetensors clips/. Exit '
               'status: 3 if clips could not be read.')
    parser.add_argument('model', metavar='MODEL',
                        help='an exported folder, a checkpoint of this project, or a '
                             'config (.py) and its checkpoint, as two arguments')
    parser.add_argument('sources', metavar='SOURCE', nargs='+',
                        help='video, folder of videos, pattern such as "clips/*.avi"; or '
                             '0 for a camera, until Ctrl-C')
    parser.add_argument('--csv', metavar='F', help='table, as predictions.csv of a test')
    parser.add_argument('--json', metavar='F', help='the same as JSON, with full scores')
    parser.add_argument('--save', metavar='F.mp4', help='annotated video of all clips')
    parser.add_argument('--top', type=int, default=3, metavar='K',
                        help='classes to print; default: %(default)s')
    parser.add_argument('--window-seconds', type=float, metavar='S',
                        help='of a camera: length of what the model sees; default: the '
                             'median training clip')
    parser.add_argument('--device', metavar='cpu|cuda[:N]',
                        help='where a checkpoint runs; by default CUDA if available')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    model, sources = [args.model], args.sources
    if args.model.endswith('.py'):
        model.append(sources.pop(0))
        if not sources:
            cli.fail(f'{" ".join(model)}: expected a video, a folder or 0 as well.')
    if args.top < 1:
        cli.fail(f'--top {args.top}: expected 1 or more.')
    camera = sources[0].isdecimal() and not Path(sources[0]).exists()
    if camera and (sources[1:] or args.csv or args.json):
        cli.fail('a camera: expected no other source and neither --csv nor --json.\n'
                 'tools/deploy/stream.py writes the events of a camera as JSON lines.')
    cli.choose_device(args.device)
    # Read when OpenCV is imported, which cameras need.
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    from hri30_ext.apis import Recognizer
    from hri30_ext.apis.predicting import find_clips, predict, watch
    clips = {} if camera else find_clips(sources)  # before the model is loaded
    recognizer = Recognizer.open(*model)
    if camera:
        watch(recognizer, sources[0], args.save, args.window_seconds)
    elif predict(recognizer, clips, args.top, args.csv, args.json, args.save):
        sys.exit(CLIPS_FAILED)


if __name__ == '__main__':
    cli.run(main)
