"""Render the synthetic data set.

HRI30's classes as actions of a drawn worker, in a layout of HRI30. An interrupted call
resumes with the missing clips.
"""

from .. import cli


def size(text: str) -> tuple[int, int]:
    width, height = map(cli.at_least(1), text.split('x'))
    return width, height


parser = cli.Parser(__doc__)
parser.add_argument('out', nargs='?', help='folder of the data set')
parser.add_argument('--train-groups', type=int, default=12, metavar='N',
                    help='groups of training clips (default: %(default)s)')
parser.add_argument('--test-groups', type=int, default=4, metavar='N',
                    help='other groups, of test clips (default: %(default)s)')
parser.add_argument('--clips', type=int, default=2, metavar='N',
                    help='clips of each class and group (default: %(default)s)')
parser.add_argument('--classes', nargs='+', metavar='CLASS', help='names or ids')
parser.add_argument('--layout', choices=('released', 'scripts', 'ucf'), default='released',
                    help='scripts: train/ and test/video_001.avi; ucf: videos/<Class>/'
                         'v_<Class>_g01_c01.avi, test groups first (default: %(default)s)')
parser.add_argument('--size', type=size, default=(720, 480), metavar='WxH',
                    help='default: 720x480')
parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
cli.add_workers_argument(parser)
parser.add_argument('--overwrite', action='store_true',
                    help='replace a data set made with other options')
parser.add_argument('--preview', metavar='FILE.png',
                    help='write a sheet with frames of every class')


def main(args) -> None:
    if not (args.out or args.preview):
        parser.error('name a folder for the data set, or --preview FILE.png')
    from .. import synthetic
    try:
        if args.preview:
            synthetic.write_preview(args.preview, seed=args.seed)
            print(f'wrote {args.preview}')
        if args.out:
            rendered = synthetic.write_dataset(
                args.out, args.train_groups, args.test_groups, args.clips, size=args.size,
                seed=args.seed, workers=args.workers, classes=args.classes,
                overwrite=args.overwrite, layout=args.layout)
            print(f'{args.out} is complete; rendered {rendered} clips')
    except (ValueError, OSError) as error:  # an option out of its range, a full disk
        cli.fail(str(error))
