"""Write the lists of the splits of the HRI30 paper.

Writes classInd.txt and trainlist01.txt to testlist03.txt. The splits hold out the first 4,
3 and 5 of 14 groups. They are a rule, so that no data is needed; split.type=paper applies
the same rule without lists.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('--paper', action='store_true', required=True,
                    help="the paper's splits")
parser.add_argument('--out', required=True, metavar='D', help='folder of the lists')


def main(args) -> None:
    from ..datasets.paper import write_paper_lists
    for number, counts in write_paper_lists(args.out).items():
        print(f'split {number}: {counts["train"]:,} clips train, {counts["test"]:,} test')
    print('Train with --cfg-options split.type=lists split.number=1 '
          f'split.folder={args.out}')
