"""Train a config.

GPUS=N NNODES=M NODE_RANK=.. MASTER_ADDR=.. PORT=.. before the command train in several
processes.
"""

import argparse
from pathlib import Path

from .. import cli
from ..names import PROJECT_ROOT

parser = cli.Parser(__doc__)
parser.add_argument('config', metavar='CONFIG', nargs='?',
                    help='a file in configs/; left out with --resume: that of the work '
                         'folder, with its settings')
parser.add_argument('--work-dir', metavar='D',
                    help='for checkpoints and logs; default work_dirs/<CONFIG>')
parser.add_argument('--resume', nargs='?', const=True, default=False, metavar='CKPT',
                    help='go on from a checkpoint, from the last one in a work folder, or '
                         'from the last one in that of --work-dir')
parser.add_argument('--overwrite', action='store_true',
                    help='delete the checkpoints in the work folder, and start over')
parser.add_argument('--help-settings', action='store_true',
                    help='list all settings, with the defaults of CONFIG')
parser.add_argument('--deterministic', action='store_true',
                    help='the same numbers twice on the same machine, slower')
parser.add_argument('--dry-run', action='store_true',
                    help='take one step with two clips, and estimate the memory')
parser.add_argument('--print-work-dir', action='store_true', help=argparse.SUPPRESS)
cli.add_runtime_arguments(parser)


def main(args) -> None:
    if args.help_settings:
        from ..apis.overview import print_settings
        print_settings(args.config)
        return
    if args.config is None and (args.dry_run or not args.resume):
        parser.error('expected CONFIG, or --resume WORK_DIR')
    if args.print_work_dir:  # for tools/slurm_train.sh
        if args.config:
            folder = PROJECT_ROOT / 'work_dirs' / Path(args.config).stem
        else:
            folder = Path(args.resume)
            folder = folder.parent if folder.is_file() else folder
        print(Path(args.work_dir or folder).absolute())
        return
    if args.dry_run:
        from ..apis.dry_run import dry_run
        print(f'\n{dry_run(args.config, args.options)}')
        return
    from ..apis import train
    train(args.config, args.work_dir, args.resume, args.options, args.launcher,
          args.overwrite)
