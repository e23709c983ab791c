"""Cut the parts that a table names out of long recordings, into class folders."""

import sys

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Clips have exactly the frames from start to before end, '
                    'and no sound. They are copied where the first frame is a keyframe, '
                    'else encoded with little loss. Exit status 3: some could not be read. '
                    'Training and tests read parts of recordings without cutting, too: see '
                    'docs/your_data.md.')
parser.add_argument('table', metavar='TABLE', help='with path, label, start and end in '
                    'seconds; CSV, TSV or Parquet')
parser.add_argument('--root', metavar='R', help='folder of the recordings; default: that of '
                    'the table')
parser.add_argument('--out', required=True, metavar='D', help='gets <label>/<recording>_'
                    '<start>-<end>.mp4, or the ending of the recording, and clips.csv')
parser.add_argument('--overwrite', action='store_true', help='replace clips')


def main(args) -> None:
    cli.choose_device('cpu')
    from hri30_ext.apis.recordings import cut_table
    if cut_table(args.table, args.root, args.out, args.overwrite):
        sys.exit(3)


if __name__ == '__main__':
    cli.run(main, parser)
