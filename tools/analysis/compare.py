"""Compares two models on the same clips: difference, interval, test, and classes."""

import argparse

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Compare two models on the same labelled clips: the difference in '
                    'top-1, its 95% interval (a bootstrap over groups of recordings), '
                    "McNemar's exact test, and the classes in which clips flipped.")
    parser.add_argument('a', metavar='A', help='result folder of tools/test.sh')
    parser.add_argument('b', metavar='B', help='another one, of the same clips')
    parser.add_argument('--json', metavar='FILE', help='write the values here as well')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.evaluation.compare import compare_folders
    print(compare_folders(args.a, args.b, args.json))


if __name__ == '__main__':
    cli.run(main)
