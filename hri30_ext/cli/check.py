"""Check a data folder: clips, names, labels and copies.

Every clip is decoded from end to end, in a process of its own that may crash or hang.
"""

import sys

from .. import cli

parser = cli.Parser(
    __doc__, epilog='Exits with 0 where the data are clean, 1 where there are warnings, 3 '
                    'where there are errors (training or testing would stop, lose clips or '
                    'learn what is wrong), 2 where the call itself is wrong, such as no '
                    'such folder. After --fix, with the state that training then sees; '
                    'after --undo, with 0.')
parser.add_argument('root', metavar='DATA_ROOT')
parser.add_argument('--json', metavar='FILE',
                    help='write all findings, and the properties of each clip')
parser.add_argument('--fix', action='store_true',
                    help='list broken and missing training clips in '
                         'DATA_ROOT/annotations/leave_out.csv, which training leaves out; '
                         'nothing is moved or edited')
parser.add_argument('--undo', action='store_true',
                    help='delete the list')
parser.add_argument('--workers', type=int, metavar='N',
                    help='clips that are read at once; default: one a core')
parser.add_argument('--seconds', type=float, default=30, metavar='S',
                    help='time limit for each clip, doubled when a clip that hung is read '
                         'again; default: %(default)s')
parser.add_argument('--classes', nargs='+', metavar='NAME',
                    help="class names of other data; default: HRI30's")
parser.add_argument('--no-near', action='store_true',
                    help='do not look for changed copies of clips')
parser.add_argument('--cases', type=int, default=5, metavar='N',
                    help='cases of each kind to print, 0 for all; default: %(default)s')


def main(args) -> None:
    if args.workers is not None and args.workers < 1:
        parser.error(f'--workers is {args.workers}: expected 1 or more')
    if not 0 < args.seconds < 1e6:
        parser.error(f'--seconds is {args.seconds}: expected more than 0, less than 1e6')
    if args.cases < 0:
        parser.error(f'--cases is {args.cases}: expected 0 or more')
    if args.undo and (args.fix or args.json):
        parser.error('--undo goes with neither --fix nor --json')
    from .. import doctor
    from ..names import HRI30_CLASSES
    from ..utils.fileio import atomic_write_json
    if args.undo:
        print(doctor.undo(args.root))
        return

    examination = doctor.examine(args.root, args.classes or HRI30_CLASSES, args.workers,
                                 args.seconds, near=not args.no_near)
    print(doctor.format_table(examination, args.cases))
    if args.fix:
        print(doctor.leave_out(examination), end='\n\n')
        examination = doctor.apply_list(examination)
        print(doctor.format_table(examination, args.cases))
    if args.json:
        atomic_write_json(args.json, doctor.to_json(examination), indent=1)
    sys.exit(examination.exit_code)
