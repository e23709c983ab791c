"""Search for clips that are in two splits.

Compares train, val and test by name and content. Exits with 1 if there are any.

Changed copies (encoded again, scaled, cut at the ends) are found by hri30 check.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
cli.add_options_argument(parser, 'such as data_root=PATH split.type=random')
parser.set_defaults(device='cpu')


def main(args) -> None:
    from ..config import load_config
    from ..doctor.leaks import check_config
    leaks = check_config(load_config(args.config, args.options))
    print(leaks)
    sys.exit(1 if leaks.pairs else 0)
