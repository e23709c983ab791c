"""Train and test on the three splits of the paper.

Trains a config on the whole training side of each split and tests the last epoch; nothing
is chosen by test clips. Writes one table with intervals, as a block for a page. An
interrupted call resumes.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('config', metavar='CONFIG', nargs='?',
                    help="default: the paper's recipe",
                    default='configs/slowonly/slowonly_k400-pretrained-r50_1xb16-8x4x1-'
                            '256px-paper-100e_hri30-rgb.py')
parser.add_argument('--out', required=True, metavar='D', help='folder of the runs')
cli.add_options_argument(parser, 'settings of all splits')


def main(args) -> None:
    from ..apis.reproducing import format_reproduction, reproduce
    report = reproduce(args.config, args.out, args.cfg_options)
    print(f'\n{format_reproduction(report)}\n\nThe same in {args.out}/reproduction.md')
