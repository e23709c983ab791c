"""Average the probabilities of several models on the same clips, and write the result
folder that tools/test.sh writes for one.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Example: ensemble.py A/test B/test --out AB --weights '
                                    'fitted --fit-on A/val B/val')
parser.add_argument('folders', nargs='+', metavar='FOLDER',
                    help='result folders of tools/test.sh, one a model')
parser.add_argument('--out', required=True, metavar='D', help='the new folder')
parser.add_argument('--weights', choices=('equal', 'fitted'), default='equal',
                    help='fitted: those with the lowest loss on --fit-on '
                         '(default: %(default)s)')
parser.add_argument('--fit-on', nargs='+', default=[], metavar='FOLDER',
                    help='validation folders of the same models, in the same order')


def main(args) -> None:
    from hri30_ext.apis.ensemble import ensemble, format_ensemble
    summary = ensemble(args.folders, args.out, args.weights, args.fit_on)
    print(format_ensemble(summary, args.out))


if __name__ == '__main__':
    cli.run(main, parser)
