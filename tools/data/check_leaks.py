"""Looks for clips that are in two splits, without training."""

import argparse
import sys

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Look for clips that are in two of the splits train, val and test: '
                    'by name, by content, and as changed copies (re-encoded, rescaled, '
                    'cut at the ends). Exits with 1 if there are any.',
        epilog='Fingerprints of the clips are stored, which makes a training start faster.')
    parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='such as data_root=PATH split.type=random')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.choose_device('cpu')
    from hri30_ext.config import load_config, parse_options
    from hri30_ext.doctor.leaks import check_config
    leaks = check_config(load_config(args.config, parse_options(args.cfg_options)))
    print(leaks)
    sys.exit(1 if leaks.found else 0)


if __name__ == '__main__':
    cli.run(main)
