"""Count how often clips that run backwards are given the opposite class (forward/backward,
left/right, pick up/put down).
"""

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Test a checkpoint with configs/debug/*-reversed-*.py '
                                    'first.')
parser.add_argument('results', help='result folder of the reversed clips, with labels in '
                                    'its scores.npz')


def main(args) -> None:
    from hri30_ext.evaluation.motion import format_opposites
    from hri30_ext.evaluation.results import Results
    print(format_opposites(Results.load(args.results, need_labels=True)))


if __name__ == '__main__':
    cli.run(main, parser)
