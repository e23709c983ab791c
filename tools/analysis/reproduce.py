"""Trains and tests a config on the three splits of the HRI30 paper."""

import argparse

from hri30_ext import cli

CONFIG = ('configs/slowonly/'
          'slowonly_k400-pretrained-r50_1xb16-8x4x1-256px-paper-100e_hri30-rgb.py')


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Train a config on the whole training side of each of the three splits '
                    'of the paper and test the last epoch; nothing is chosen by test '
                    'clips. Writes one table with intervals, as a block for a page. An '
                    'interrupted call resumes.')
    parser.add_argument('config', metavar='CONFIG', nargs='?', default=CONFIG,
                        help="default: the paper's recipe")
    parser.add_argument('--out', required=True, metavar='D')
    cli.add_slurm_argument(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings of all splits')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.apis.reproducing import format_reproduction, reproduce
    report = reproduce(args.config, args.out, args.cfg_options, args.slurm)
    print(f'\n{format_reproduction(report)}\n\nThe same in {args.out}/reproduction.md')


if __name__ == '__main__':
    cli.run(main)
