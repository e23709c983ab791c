"""Draws the training curves of several runs over each other."""

import argparse

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Draw the training curves of several runs over each other, and say '
                    'what the best epoch of each was.')
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR',
                        help='work folders of tools/train.sh')
    parser.add_argument('--out', default='training_curves.png', metavar='FILE.png',
                        help='default: %(default)s in the current folder')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.evaluation.curves import compare_runs
    print(compare_runs(args.runs, args.out))
    print(f'\nCurves: {args.out}')


if __name__ == '__main__':
    cli.run(main)
