"""Predict clips, or a camera, with a model.

Exit status: 3 if clips could not be read.
"""

import sys
from pathlib import Path

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('model', metavar='MODEL',
                    help='an exported folder, a checkpoint, a work folder, or a config '
                         '(.py) and its checkpoint, as two arguments')
parser.add_argument('sources', metavar='SOURCE', nargs='+',
                    help='video, folder, pattern such as "clips/*.avi"; 0: a camera')
parser.add_argument('--csv', metavar='F', help='table, as predictions.csv of a test')
parser.add_argument('--json', metavar='F', help='the same as JSON, with full scores')
parser.add_argument('--save', metavar='F.mp4', help='annotated video')
parser.add_argument('--top', type=cli.at_least(1), default=3, metavar='K',
                    help='classes to print; default: %(default)s')
parser.add_argument('--device', metavar='cpu|cuda[:N]', help='where a checkpoint runs')
cli.add_inference_arguments(parser)


def main(args) -> None:
    model, sources = [args.model], args.sources
    if args.model.endswith('.py'):
        model.append(sources.pop(0))
    if not sources:
        cli.fail('expected a video, a folder or 0 after the model.')
    camera = sources[0].isdecimal() and not Path(sources[0]).exists()
    if camera and (sources[1:] or args.csv or args.json):
        cli.fail('a camera: expected no other source and neither --csv nor --json; '
                 'hri30 stream writes its events as JSON lines.')
    from ..apis import Recognizer
    from ..apis.predicting import find_clips, predict, watch
    clips = {} if camera else find_clips(sources)  # before the model is loaded
    recognizer = Recognizer.open(*model, threads=args.threads, provider=args.provider)
    if camera:
        watch(recognizer, sources[0], args.save)
    elif predict(recognizer, clips, args.top, args.csv, args.json, args.save):
        sys.exit(3)
