"""Measures how fast this project is beside plain MMAction2."""

import argparse
import sys
from pathlib import Path

from hri30_ext.utils import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Measure this project against plain MMAction2 on the same clips, both '
                    'in turns, and compare the ratios with their goals.',
        epilog='Leave the machine alone meanwhile. The file is written after every row.')
    parser.add_argument('--out', metavar='FILE.json', help='gets the figures')
    parser.add_argument('--list', action='store_true', help='print the rows, and stop')
    parser.add_argument('--rows', nargs='+', metavar='NAME',
                        help='measure these; default: all but the long ones')
    parser.add_argument('--all', action='store_true', help='measure the long ones as well')
    parser.add_argument('--data', metavar='D',
                        help='a data folder, used as it is; default: clips of 720x480 are '
                             'rendered')
    parser.add_argument('--checkpoint', metavar='FILE.pth',
                        help="of the demo's model, for test_top1")
    parser.add_argument('--rounds', type=int, metavar='N',
                        help="pairs of turns; default: each row's own")
    parser.add_argument('--limit', type=float, default=40, metavar='MINUTES',
                        help='for each training of time_to_accuracy; default: %(default)s')
    parser.add_argument('--scratch', metavar='D',
                        help='where to make the scratch folder (2 GB; 10 with '
                             'time_to_accuracy); default: where the system has its own')
    cli.add_runtime_arguments(parser)
    args = parser.parse_args()
    if not (args.list or args.out):
        parser.error('the following arguments are required: --out (or --list)')
    if args.rounds is not None and args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: expected 1 or more')
    return args


def main() -> None:
    args = parse_args()
    cli.choose_device(args.device)
    from mmengine.device import get_device

    from hri30_ext.benchmark.rows import choose_rows, format_table
    from hri30_ext.benchmark.runner import ROWS, run, scratch_folder
    from hri30_ext.benchmark.setup import Setup
    from hri30_ext.config import parse_options

    if args.list:
        for row in ROWS:
            print(f'{row.name:<26}{row.what}{"" if row.default else " (not by default)"}')
        return
    rows = choose_rows(ROWS, args.rows, args.all)
    with scratch_folder(args.scratch) as scratch:
        outcomes = run(rows, Setup(
            work_dir=scratch, data_root=args.data and str(Path(args.data).resolve()),
            options=parse_options(args.cfg_options), device=get_device(),
            rounds=args.rounds, limit=args.limit,
            checkpoint=args.checkpoint and str(Path(args.checkpoint).resolve())), args.out)
    print(f'{format_table(rows, outcomes)}\n\nFigures: {args.out}')
    if any(outcome.failed for outcome in outcomes):
        sys.exit(1)


if __name__ == '__main__':
    cli.run(main)
