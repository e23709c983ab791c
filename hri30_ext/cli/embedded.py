"""Render the synthetic data set.

HRI30's classes as actions of a drawn worker, in a layout of HRI30. An interrupted call
resumes with the missing clips.
"""

import argparse

from .. import cli


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a size: expected WIDTHxHEIGHT, such as 720x480')
    return int(width), int(height)


parser = cli.Parser(__doc__)
parser.add_argument('out', nargs='?', help='folder of the data set')
parser.add_argument('--train-groups', type=int, default=12, metavar='N',
                    help='groups of training clips (default: %(default)s)')
parser.add_argument('--test-groups', type=int, default=4, metavar='N',
                    help='other groups, of test clips (default: %(default)s)')
parser.add_argument('--clips', type=int, default=2, metavar='N',
                    help='clips of each class and group (default: %(default)s)')
parser.add_argument('--classes', nargs='+', metavar='CLASS',
                    help='names or ids, 1 to 30; default: all')
parser.add_argument('--layout', choices=('released', 'scripts', 'ucf'), default='released',
                    help='scripts: train/ and test/video_001.avi; ucf: videos/<Class>/'
                         'v_<Class>_g01_c01.avi, test groups first (default: %(default)s)')
parser.add_argument('--codec', choices=('mpeg4', 'mjpeg', 'dv'), default='mpeg4',
                    help='dv is interlaced, 720x480 (default: %(default)s)')
parser.add_argument('--size', type=parse_size, default=(720, 480), metavar='WxH',
                    help='default: 720x480')
parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
parser.add_argument('--workers', type=int, metavar='N',
                    help='processes (default: one per core)')
parser.add_argument('--overwrite', action='store_true',
                    help='replace a data set made with other options')
parser.add_argument('--preview', metavar='FILE.png',
                    help='write a sheet with frames of every class, and no data set if no '
                         'folder is named')


def main(args) -> None:
    if not (args.out or args.preview):
        parser.error('name a folder for the data set, or --preview FILE.png')
    if args.workers is not None and args.workers < 1:
        parser.error(f'--workers is {args.workers}: expected 1 or more')
    from .. import synthetic
    try:
        if args.preview:
            synthetic.write_preview(args.preview, seed=args.seed)
            print(f'wrote {args.preview}')
        if args.out:
            rendered = synthetic.write_dataset(
                args.out, args.train_groups, args.test_groups, args.clips,
                args.codec, args.size, args.seed, args.workers, args.classes,
                overwrite=args.overwrite, layout=args.layout)
            print(f'{args.out} is complete; rendered {rendered} clips')
    except (ValueError, OSError) as error:  # an option out of its range, a full disk
        cli.fail(str(error))
