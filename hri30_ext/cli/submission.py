"""Check a test_set_labels.csv before submission.

Compares its rows with the test clips, and its names and ids with
annotations/train_set_labels.csv.

Exit status: 0 clean, 2 errors.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('submission', metavar='SUBMISSION.csv')
parser.add_argument('--root', required=True, metavar='DATA_ROOT',
                    help='the data folder, with test_set/ and annotations/')


def main(args) -> None:
    from ..evaluation.submission import check_submission, format_findings
    findings = check_submission(args.submission, args.root)
    print(format_findings(findings, args.submission))
    sys.exit(findings.status)
