"""Cut labelled parts out of long recordings.

Parts go into class folders. Clips have exactly the frames from start to before end, without
sound, and are encoded with little loss. Training also reads parts without cutting.

Exit status 3: some clips could not be cut.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('table', metavar='TABLE', help='CSV or TSV: path, label, '
                    'start and end in seconds')
parser.add_argument('--root', metavar='R', help='folder of the recordings; default: that '
                    'of the table')
parser.add_argument('--out', required=True, metavar='D', help='gets <label>/<recording>_'
                    '<start>-<end>.mp4 and clips.csv')
parser.add_argument('--overwrite', action='store_true', help='replace clips')


def main(args) -> None:
    from ..apis.recordings import cut_table
    if cut_table(args.table, args.root, args.out, args.overwrite):
        sys.exit(3)
