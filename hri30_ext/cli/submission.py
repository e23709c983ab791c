"""Check a test_set_labels.csv before submission.

Compares its rows with the test clips, and its names and ids with
annotations/train_set_labels.csv.

Exit status: 0 clean, 2 errors.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('submission', metavar='SUBMISSION.csv')
parser.add_argument('--root', required=True, metavar='DATA_ROOT',
                    help='the data folder, with test_set/ and annotations/')


def main(args) -> None:
    from ..evaluation.submission import check_submission
    rows = check_submission(args.submission, args.root)
    print(f'{args.submission}: {rows} rows, nothing to correct.')
