"""Writes lists of clips for splits in the sizes of the paper's three."""

import argparse
from pathlib import Path

from hri30_ext import cli


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(
        description='Holds out whole groups of recordings in the shares of the three splits '
                    'of the HRI30 paper (4, 3 and 5 of 14), and writes each as two lists of '
                    "clip names. They are not the paper's lists: the released training "
                    'folder has only 10 of its 14 groups.')
    parser.add_argument('root', metavar='DATA_ROOT')
    parser.add_argument('--out', required=True, metavar='D')
    parser.add_argument('--seed', type=int, default=42)
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help="class names of other data; default: HRI30's")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from hri30_ext.datasets import HRI30_CLASSES
    from hri30_ext.datasets.hri30 import load_labelled_clips
    from hri30_ext.datasets.protocols import paper_splits, write_list
    clips = load_labelled_clips(args.root, args.classes or HRI30_CLASSES)
    groups = {clip['video_id']: clip['group'] for clip in clips}
    for i, held_out in enumerate(paper_splits(clips, args.seed), 1):
        training = sorted(groups.keys() - set(held_out))
        path = write_list(Path(args.out) / f'split{i}_val.txt', held_out)
        write_list(Path(args.out) / f'split{i}_train.txt', training)
        named = ', '.join(map(str, sorted({groups[name] for name in held_out})))
        print(f'split {i}: {len(training)} clips train, {len(held_out)} are held out '
              f'(SID {named})\n  --cfg-options split.type=file split.val_file={path}')


if __name__ == '__main__':
    cli.run(main)
