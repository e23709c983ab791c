"""Compares numbers of views of a clip at test time: gain beside cost."""

import argparse
from pathlib import Path

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Test a checkpoint with several views of every clip, without and with '
                    'the mirrored clip, and print what that gains and what it costs.',
        epilog='To test with what is worth it: tools/test.sh CONFIG CHECKPOINT '
               '--cfg-options test_clips=3 test_flip=True')
    parser.add_argument('config', metavar='CONFIG', help='the config that was trained')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its .pth file')
    parser.add_argument('--split', choices=('val', 'test'), default='val',
                        help='default: %(default)s; nothing should be chosen by test')
    parser.add_argument('--clips', type=int, nargs='+', default=[1, 3, 10], metavar='V',
                        help='numbers of views; default 1 3 10')
    parser.add_argument('--out', required=True, metavar='D',
                        help='gets views.json, and a result folder a row')
    cli.add_runtime_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.choose_device(args.device)
    from hri30_ext.apis.views import compare_views, format_views
    from hri30_ext.config import parse_options
    rows = compare_views(args.config, args.checkpoint, args.out, split=args.split,
                         clips=args.clips, options=parse_options(args.cfg_options))
    print(f'\n{format_views(rows)}\n\nRows: {Path(args.out) / "views.json"}')


if __name__ == '__main__':
    cli.run(main)
