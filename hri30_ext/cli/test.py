"""Test a checkpoint and predict the test clips.

Writes metrics where labels are known, and predictions everywhere.

More views of every clip: --cfg-options test_clips=3 test_flip=True. GPUS=N NNODES=M
NODE_RANK=.. MASTER_ADDR=.. PORT=.. before the command share the clips among processes.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('config', metavar='CONFIG', nargs='?',
                    help='the config that was trained; left out: that in the folder of the '
                         'checkpoint, with the settings of the training')
parser.add_argument('checkpoint', metavar='CHECKPOINT', help='.pth or .safetensors')
cli.add_runtime_arguments(parser)
parser.add_argument('--split', choices=('val', 'test', 'all'), default='all',
                    help='all: val, and test where there are test clips (default)')
parser.add_argument('--out', metavar='D',
                    help='gets val/ and test/; default the folder of the checkpoint')
parser.add_argument('--deterministic', action='store_true',
                    help='the same bytes twice on the same machine, in any number of '
                         'processes, slower')


def main(args) -> None:
    from mmengine.dist import is_main_process

    from ..apis import test
    metrics = test(args.config, args.checkpoint, args.split, args.out, args.options,
                   args.launcher)
    # The process that wrote the files says how it went.
    if is_main_process() and any('num_failed' in one for one in metrics.values()):
        sys.exit(3)
