"""Tests a checkpoint; tools/test.sh calls this in the project's environment."""

import argparse
import sys

from hri30_ext import cli

#: Exit status where all was done but for clips that could not be read.
CLIPS_FAILED = 3


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        prog='tools/test.sh', description='Test a checkpoint: metrics where labels are '
                                          'known, predictions everywhere.',
        epilog='More views of every clip: --cfg-options test_clips=3 test_flip=True. '
               'GPUS=N NNODES=M NODE_RANK=.. MASTER_ADDR=.. PORT=.. before the command '
               'share the clips among processes.')
    parser.add_argument('config', metavar='CONFIG', help='the config that was trained')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its .pth file')
    parser.add_argument('--split', choices=('val', 'test', 'all'), default='all',
                        help='all: val, and test where there are test clips (default)')
    parser.add_argument('--out', metavar='D', help='gets val/ and test/; default the '
                                                   'folder of the checkpoint')
    parser.add_argument('--deterministic', action='store_true',
                        help='the same bytes twice on the same machine, in any number of '
                             'processes, slower')
    cli.add_runtime_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.choose_device(args.device)
    if args.deterministic:
        cli.make_deterministic(args)
    from mmengine.dist import is_main_process

    from hri30_ext.apis import test
    from hri30_ext.config import parse_options
    metrics = test(args.config, args.checkpoint, split=args.split, out=args.out,
                   options=parse_options(args.cfg_options), launcher=args.launcher)
    # The process that wrote the files says how it went.
    if is_main_process() and any('num_failed' in one for one in metrics.values()):
        sys.exit(CLIPS_FAILED)


if __name__ == '__main__':
    cli.run(main)
