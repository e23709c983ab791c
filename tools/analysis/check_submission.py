"""Check a test_set_labels.csv before handing it in: its rows against the test clips, its
names and ids against annotations/train_set_labels.csv.
"""

import sys

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Exit status: 0 clean, 1 warnings alone, 2 errors.')
parser.add_argument('submission', metavar='SUBMISSION.csv')
parser.add_argument('--root', required=True, metavar='DATA_ROOT',
                    help='the data folder, with test_set/ and annotations/')


def main(args) -> None:
    from hri30_ext.evaluation.submission import check_submission, format_findings
    findings = check_submission(args.submission, args.root)
    print(format_findings(findings, args.submission))
    sys.exit(findings.status)


if __name__ == '__main__':
    cli.run(main, parser)
