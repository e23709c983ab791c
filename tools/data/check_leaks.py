"""Look for clips that are in two of the splits train, val and test: by name, by content,
and as changed copies (re-encoded, rescaled, cut at the ends). Exits with 1 if there are
any.
"""

import sys

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Fingerprints of the clips are stored, which makes a '
                                    'training start faster.')
parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
cli.add_options_argument(parser, 'such as data_root=PATH split.type=random')
parser.set_defaults(device='cpu')


def main(args) -> None:
    from hri30_ext.config import load_config
    from hri30_ext.doctor.leaks import check_config
    leaks = check_config(load_config(args.config, args.options))
    print(leaks)
    sys.exit(1 if leaks.found else 0)


if __name__ == '__main__':
    cli.run(main, parser)
