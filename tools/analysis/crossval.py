"""Cross-validates a config over groups of recordings."""

import argparse

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Train on all groups of recordings but those of one fold and score '
                    'that one, for every fold and seed. The last epoch is scored; held-out '
                    'clips choose nothing. An interrupted call resumes.')
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--folds', default='all', metavar='K|all',
                        help='2 to the number of groups; all (default): leave one out')
    parser.add_argument('--seeds', type=int, nargs='+', default=[1])
    parser.add_argument('--random', action='store_true',
                        help='add a random split of the same clips, which leaks')
    parser.add_argument('--out', required=True, metavar='D')
    cli.add_slurm_argument(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings of all runs')
    args = parser.parse_args()
    if args.folds != 'all' and not args.folds.isdigit():
        parser.error(f'--folds {args.folds}: expected a number or all')
    return args


def main() -> None:
    args = parse_args()
    from hri30_ext.apis.crossval import crossval, format_crossval
    report = crossval(args.config, None if args.folds == 'all' else int(args.folds),
                      args.seeds, args.out, args.cfg_options, args.random, args.slurm)
    print('\n' + format_crossval(report))
    print(f'Results of all folds together: {args.out}/*/seed*/')


if __name__ == '__main__':
    cli.run(main)
