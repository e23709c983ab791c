"""Examines a data folder before a training: every clip from end to end, names, labels."""

import argparse
import sys

from hri30_ext.utils import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Look for what is wrong with a data folder. Every clip is decoded from '
                    'end to end, in a process of its own that may crash or hang; names, '
                    'annotations and copies are checked.',
        epilog='Exits with 0 where the data are clean, 1 where there are warnings, 3 where '
               'there are errors (training or testing would stop, lose clips or learn what '
               'is wrong), 2 where the call itself is wrong, such as no such folder. After '
               '--fix, with what the folder is then; after --undo, with 0.')
    parser.add_argument('root', metavar='DATA_ROOT')
    parser.add_argument('--json', metavar='FILE', help='write all findings, and what is '
                        'known of each clip')
    parser.add_argument('--fix', action='store_true',
                        help='move clips that are an error in themselves into '
                             'DATA_ROOT/set_aside, and take their rows, and those of '
                             'missing clips, out of the annotation; labels are never '
                             'changed')
    parser.add_argument('--undo', nargs='?', const='', metavar='MANIFEST',
                        help='move back what --fix moved last, or what MANIFEST says')
    parser.add_argument('--workers', type=int, metavar='N',
                        help='clips that are read at once; default: one a core')
    parser.add_argument('--seconds', type=float, default=30, metavar='S',
                        help='time limit for each clip, twice as '
                             'long where it is tried again; default: %(default)s')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help="class names of other data; default: HRI30's")
    parser.add_argument('--no-near', action='store_true',
                        help='do not look for changed copies of clips')
    parser.add_argument('--cases', type=int, default=5, metavar='N',
                        help='cases of each kind to print, 0 for all; default: %(default)s')
    args = parser.parse_args()
    if args.workers is not None and args.workers < 1:
        parser.error(f'--workers is {args.workers}: expected 1 or more')
    if not args.seconds > 0:
        parser.error(f'--seconds is {args.seconds}: expected more than 0')
    if args.cases < 0:
        parser.error(f'--cases is {args.cases}: expected 0 or more')
    if args.undo is not None and (args.fix or args.json):
        parser.error('--undo goes with neither --fix nor --json')
    return args


def main() -> None:
    args = parse_args()
    from hri30_ext.datasets import HRI30_CLASSES, doctor
    if args.undo is not None:
        print(doctor.format_moved(doctor.undo(args.root, args.undo or None), back=True))
        return

    def examine(known=None) -> doctor.Examination:
        found = doctor.examine(args.root, args.classes or HRI30_CLASSES, args.workers,
                               args.seconds, near=not args.no_near, known=known)
        print(doctor.format_table(found, args.cases))
        return found
    found = examine()
    if args.fix:
        moved = doctor.set_aside(found)
        print(doctor.format_moved(moved))
        if moved.folder:
            print()
            found = examine(found.clips)
    if args.json:
        doctor.write_json(found, args.json)
    sys.exit(found.exit_code)


if __name__ == '__main__':
    cli.run(main)
