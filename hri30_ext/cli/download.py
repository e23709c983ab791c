"""Download HRI30 with checksums, unpack and check it.

Downloads the files of the record of HRI30, lays the clips out and checks every one. A
later call keeps the files that an interrupted one completed.

Exits as hri30 check does, and with 2 where the data cannot be downloaded.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('--root', default='data/hri30', metavar='D',
                    help='data folder; default: %(default)s')
parser.add_argument('--record', metavar='URL', help="description of the record in the form "
                    "of Zenodo's API; default: that of HRI30")


def main(args) -> None:
    from .. import doctor
    from ..apis.downloading import ARCHIVES, RECORD, download
    from ..names import HRI30_CLASSES
    counts = download(args.root, args.record or RECORD)
    print(f'{args.root}: ' + ', '.join(f'{count:,} files {folder}'
                                       for folder, count in sorted(counts.items())))
    print(f'The archives in {args.root}/{ARCHIVES} are no longer needed.')
    examination = doctor.examine(args.root, HRI30_CLASSES)
    print(doctor.format_table(examination))
    sys.exit(examination.exit_code)
