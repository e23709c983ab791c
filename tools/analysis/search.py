"""Searches settings: trains with those that the trials before make promising."""

import argparse
from pathlib import Path

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Search the settings with the best validation accuracy of the last '
                    'epoch, with Optuna: a tree-structured Parzen estimator, and pruning '
                    'by the median. An interrupted search goes on; machines that share '
                    'the folder share the search.',
        epilog='For example: search.py CONFIG --space lr=1e-4:1e-2:log decay=cosine,step '
               '--trials 30 --out work_dirs/search')
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--space', nargs='+', required=True, metavar='KEY=VALUES',
                        help='LOW:HIGH or LOW:HIGH:log, whole numbers if both are; or '
                             'choices A,B,C')
    parser.add_argument('--trials', type=int, default=30, metavar='N',
                        help='in all; default: %(default)s')
    parser.add_argument('--out', required=True, metavar='D',
                        help='gets search.journal, search.png, best.py and the trials')
    parser.add_argument('--seed', type=int, default=0, help='of the proposals')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings of all trials')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.apis.searching import search
    best = search(args.config, args.space, args.trials, args.out, args.cfg_options,
                  args.seed)
    settings = ' '.join(f'{key}={value}' for key, value in best['settings'].items())
    print(f'\nBest: trial {best["trial"]}, validation top-1 {best["top1"]:.4f}, which is '
          f'too high: these clips chose it.\n{settings}\nConfig: '
          f'{Path(args.out) / "best.py"}; picture: {Path(args.out) / "search.png"}')


if __name__ == '__main__':
    cli.run(main)
