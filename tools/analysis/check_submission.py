"""Checks a submission against the test clips and the training file."""

import argparse
import sys

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Check a test_set_labels.csv before handing it in: its rows against '
                    'the test clips, its names and ids against '
                    'annotations/train_set_labels.csv.',
        epilog='Exit status: 0 clean, 1 warnings alone, 2 errors.')
    parser.add_argument('submission', metavar='SUBMISSION.csv')
    parser.add_argument('--root', required=True, metavar='DATA_ROOT',
                        help='the data folder, with test_set/ and annotations/')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.evaluation.submission import check_submission, format_findings
    findings = check_submission(args.submission, args.root)
    print(format_findings(findings, args.submission))
    sys.exit(findings.status)


if __name__ == '__main__':
    cli.run(main)
