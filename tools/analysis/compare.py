"""Compare two models on the same labelled clips: the difference in top-1, its 95% interval
(a bootstrap over groups of recordings), McNemar's exact test, and the classes in which
clips flipped.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
parser.add_argument('a', metavar='A', help='result folder of tools/test.sh')
parser.add_argument('b', metavar='B', help='another one, of the same clips')
parser.add_argument('--json', metavar='FILE', help='write the values here as well')


def main(args) -> None:
    from hri30_ext.evaluation.compare import compare_folders
    print(compare_folders(args.a, args.b, args.json))


if __name__ == '__main__':
    cli.run(main, parser)
