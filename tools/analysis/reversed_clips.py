"""Counts how often a clip that runs backwards is given the opposite class."""

import argparse

from hri30_ext.utils import cli


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
    import numpy as np

    from hri30_ext.evaluation.motion import count_opposites
    from hri30_ext.evaluation.results import Results
    results = Results.load(args.results, need_labels=True)
    counts = count_opposites(results.labels_N, results.predicted_N, results.classes)
    print(f'{"class":42} opposite  own  clips')
    for name, (opposite, own, clips) in counts.items():
        print(f'{name:42} {opposite:8} {own:4} {clips:6}')
    opposite, own, clips = np.sum(list(counts.values()), axis=0)
    print(f'{"all":42} {opposite:8} {own:4} {clips:6}')


if __name__ == '__main__':
    cli.run(main)
