"""Cross-validate over groups of recordings.

Trains on all groups but those of one fold and scores that one, for every fold and seed. The
last epoch is scored; held-out clips choose nothing. An interrupted call resumes.
"""

from .. import cli

parser = cli.Parser(__doc__)
cli.add_runs_arguments(parser, seeds=[1])
parser.add_argument('--folds', default='all', metavar='K|all',
                    help='2 to the number of groups; all (default): leave one out')
parser.add_argument('--random', action='store_true',
                    help='add a random split of the same clips, which leaks')


def main(args) -> None:
    if args.folds != 'all' and not args.folds.isdecimal():
        parser.error(f'--folds {args.folds}: expected a number or all')
    from ..apis.crossval import crossval, format_crossval
    report = crossval(args.config, None if args.folds == 'all' else int(args.folds),
                      args.seeds, args.out, args.cfg_options, args.random)
    print('\n' + format_crossval(report))
    print(f'Results of all folds together: {args.out}/*/seed*/')
