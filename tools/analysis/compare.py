"""Compare two models on the same labelled clips: the difference in top-1, its 95% interval
(over groups of recordings), McNemar's exact test, and the classes in which
clips flipped. With three folders or more, such as of the splits of the paper: confusions of
direction, of tool, and of picking up and putting down, side by side.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
parser.add_argument('folders', metavar='FOLDER', nargs='+',
                    help='result folders of tools/test.sh; two are of the same clips')
parser.add_argument('--json', metavar='FILE', help='write the values here as well')


def main(args) -> None:
    if len(args.folders) == 1:
        cli.fail('one FOLDER: expected two or more')
    from hri30_ext.evaluation.compare import compare_folders
    print(compare_folders(*args.folders, json_file=args.json))


if __name__ == '__main__':
    cli.run(main, parser)
