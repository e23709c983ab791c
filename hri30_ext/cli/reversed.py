"""Count how often reversed clips get the opposite class.

Opposites are forward and backward, left and right, pick up and put down.

Test a checkpoint with configs/debug/*-reversed-*.py first.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('results', help='result folder of the reversed clips, with labels in '
                                    'its scores.npz')


def main(args) -> None:
    from ..evaluation.motion import format_opposites
    from ..evaluation.results import Results
    print(format_opposites(Results.load(args.results, need_labels=True)))
