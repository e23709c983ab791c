"""Counts how often a clip that runs backwards is given the opposite class."""

import argparse

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Count how often clips that run backwards are given the opposite class '
                    '(forward/backward, left/right, pick up/put down).',
        epilog='Test a checkpoint with configs/debug/*-reversed-*.py first.')
    parser.add_argument('results', help='result folder of the reversed clips, with '
                                        'labels in its scores.npz')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.evaluation.motion import format_opposites
    from hri30_ext.evaluation.results import Results
    print(format_opposites(Results.load(args.results, need_labels=True)))


if __name__ == '__main__':
    cli.run(main)
