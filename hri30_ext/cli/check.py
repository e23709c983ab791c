"""Check a data folder: clips, names, labels and copies.

Every clip is decoded from end to end, in a process of its own that may crash or hang.

Exits with 0 where the data are clean, 1 where there are warnings, 3 where there are
errors (training or testing would stop, lose clips or learn what is wrong), 2 where the
call itself is wrong, such as no such folder. After --fix, with the state that training
then sees.
"""

import sys

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('root', metavar='DATA_ROOT')
parser.add_argument('--json', metavar='FILE',
                    help='write all findings, and the properties of each clip')
parser.add_argument('--fix', action='store_true',
                    help='list broken and missing training clips in annotations/'
                         'leave_out.csv, which training leaves out')
cli.add_workers_argument(parser)
parser.add_argument('--seconds', type=cli.at_least(.1, float), default=30, metavar='S',
                    help='time limit for each clip; default: %(default)s')
parser.add_argument('--classes', nargs='+', metavar='NAME',
                    help="class names of other data; default: HRI30's")


def main(args) -> None:
    from .. import doctor
    from ..names import HRI30_CLASSES
    from ..utils.fileio import atomic_write_json
    examination = doctor.examine(args.root, args.classes or HRI30_CLASSES, args.workers,
                                 args.seconds)
    print(doctor.format_table(examination))
    if args.fix:
        print(doctor.leave_out(examination), end='\n\n')
        examination = doctor.apply_list(examination)
        print(doctor.format_table(examination))
    if args.json:
        atomic_write_json(args.json, doctor.to_json(examination), indent=1)
    sys.exit(examination.exit_code)
