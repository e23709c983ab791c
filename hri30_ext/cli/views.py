"""Test a checkpoint with several views of every clip.

Prints what more views, and the mirrored clip, gain and what they cost.

To test with what is worth it: hri30 test CONFIG CHECKPOINT --cfg-options test_clips=3
test_flip=True
"""

from pathlib import Path

from .. import cli

parser = cli.Parser(__doc__)
cli.add_trained_arguments(parser)
parser.add_argument('--split', choices=('val', 'test'), default='val',
                    help='default: %(default)s; nothing should be chosen by test')
parser.add_argument('--clips', type=int, nargs='+', default=[1, 3, 10], metavar='V',
                    help='numbers of views; default 1 3 10')
parser.add_argument('--out', required=True, metavar='D',
                    help='gets views.json, and a result folder a row')


def main(args) -> None:
    from ..apis.views import compare_views, format_views
    rows = compare_views(args.config, args.checkpoint, args.out, split=args.split,
                         clips=args.clips, options=args.options)
    print(f'\n{format_views(rows)}\n\nRows: {Path(args.out) / "views.json"}')
