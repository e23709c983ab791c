"""Draw the training curves of several runs over each other.

Prints what the best epoch of each was.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('runs', nargs='+', metavar='WORK_DIR',
                    help='work folders of tools/train.sh')
parser.add_argument('--out', default='training_curves.png', metavar='FILE.png',
                    help='default: %(default)s in the current folder')


def main(args) -> None:
    from ..evaluation.curves import compare_runs
    print(compare_runs(args.runs, args.out))
    print(f'\nCurves: {args.out}')
