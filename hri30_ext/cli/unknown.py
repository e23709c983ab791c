"""Measure how well a model rejects unknown actions.

Prints the AUROC, and the share of their clips that pass where 95 % of the clips of its
classes do.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('checkpoint', metavar='CHECKPOINT', help='of both results')
parser.add_argument('known', metavar='KNOWN', help='result folder of clips of its classes')
parser.add_argument('unknown', metavar='UNKNOWN', help='of clips of other actions')


def main(args) -> None:
    from ..evaluation.open_set import measure_unknown
    print(measure_unknown(args.checkpoint, args.known, args.unknown))
