"""Average the probabilities of several models.

Writes the result folder that hri30 test writes for one model.

Example: hri30 ensemble A/test B/test --out AB --weights fitted --fit-on A/val B/val
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('folders', nargs='+', metavar='FOLDER',
                    help='result folders of tools/test.sh, one a model')
parser.add_argument('--out', required=True, metavar='D', help='the new folder')
parser.add_argument('--weights', choices=('equal', 'fitted'), default='equal',
                    help='fitted: those with the lowest loss on --fit-on '
                         '(default: %(default)s)')
parser.add_argument('--fit-on', nargs='+', default=[], metavar='FOLDER',
                    help='validation folders of the same models, in the same order')


def main(args) -> None:
    from ..apis.ensemble import ensemble, format_ensemble
    summary = ensemble(args.folders, args.out, args.weights, args.fit_on)
    print(format_ensemble(summary, args.out))
