"""Train settings with several seeds and compare them.

Trains every arm with every seed, tests its last checkpoint on the validation clips, and
prints mean and spread. An interrupted sweep resumes.

For example: hri30 sweep CONFIG --arm "none: flip=None" --arm "aware: flip=label_aware"
--seeds 1 2 3 --out work_dirs/flips
"""

from pathlib import Path

from .. import cli

parser = cli.Parser(__doc__)
cli.add_runs_arguments(parser, seeds=[1, 2, 3])
parser.add_argument('--arm', action='append', required=True, metavar='"NAME: K=V ..."',
                    help='settings to compare; {seed} in a value becomes the seed')


def main(args) -> None:
    from ..apis.sweep import format_sweep, parse_arms, sweep
    rows = sweep(args.config, parse_arms(args.arm), args.seeds, args.out, args.cfg_options)
    print('\n' + format_sweep(rows))
    print(f'\nMean ± standard deviation over the seeds, of the last epoch. '
          f'Curves: {Path(args.out) / "curves.png"}')
