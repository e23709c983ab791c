"""Trains a config; tools/train.sh calls this in the project's environment."""

import argparse
from pathlib import Path

from hri30_ext import cli

ROOT = Path(__file__).resolve().parents[1]


class _HelpSettings(argparse.Action):
    """Lists the settings and ends the program."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from hri30_ext.apis.overview import print_settings
        print_settings(getattr(namespace, 'config', None))
        parser.exit()


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        prog='tools/train.sh', description='Train a config.',
        epilog='GPUS=N NNODES=M NODE_RANK=.. MASTER_ADDR=.. PORT=.. before the command '
               'train in several processes.')
    parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
    parser.add_argument('--work-dir', metavar='D',
                        help='for checkpoints and logs; default work_dirs/<CONFIG>')
    parser.add_argument('--resume', nargs='?', const=True, default=False,
                        metavar='CKPT', help='go on from CKPT, or from the last '
                                             'checkpoint in the work folder')
    parser.add_argument('--overwrite', action='store_true',
                        help='delete the checkpoints of an earlier training in the work '
                             'folder, and start over')
    parser.add_argument('--help-settings', nargs=0, action=_HelpSettings,
                        help='list all settings, with the defaults of CONFIG')
    parser.add_argument('--deterministic', action='store_true',
                        help='the same numbers twice on the same machine, slower')
    parser.add_argument('--dry-run', action='store_true',
                        help='take one step of rank 0 of GPUS x NNODES, without the '
                             'others, and estimate the memory')
    parser.add_argument('--print-work-dir', action='store_true', help=argparse.SUPPRESS)
    cli.add_runtime_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.print_work_dir:  # for tools/slurm_train.sh
        print(Path(args.work_dir or ROOT / 'work_dirs' / Path(args.config).stem).absolute())
        return
    cli.choose_device(args.device)
    if args.deterministic:
        args.cfg_options.append('deterministic=True')
    from hri30_ext.apis import train
    from hri30_ext.config import parse_options
    if args.dry_run:
        from hri30_ext.apis.dry_run import dry_run
        print(f'\n{dry_run(args.config, parse_options(args.cfg_options))}')
        return
    train(args.config, work_dir=args.work_dir, resume=args.resume,
          options=parse_options(args.cfg_options), launcher=args.launcher,
          overwrite=args.overwrite)


if __name__ == '__main__':
    cli.run(main)
