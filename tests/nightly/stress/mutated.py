"""Trains and tests on damaged videos and checks that each one is reported.

    python tests/nightly/stress/mutated.py --videos 2000 --out work_dirs/mutated

Small clips in MPEG-4, motion JPEG, H.264 and DV are damaged at random by ``fuzz/mutate.py``
and stored next to intact ones, others for training than for testing. ``hri30 train`` trains
one epoch on them and validates, ``hri30 test`` tests them. This exits with 1 unless

- no clip ends either run: training exits with 0, testing with 3 (clips failed)
- the clips that an independent check cannot read are exactly those that are listed, each
  once: in ``skipped_videos.csv``, and as FAILED in ``predictions.csv``
- every tested clip has its row
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'nightly' / 'fuzz')]

from mutate import mutate, seed_videos  # noqa: E402

from hri30_ext.errors import HRI30Error  # noqa: E402
from hri30_ext.synthetic import render_clip, write_video  # noqa: E402
from hri30_ext.video.decode import Video  # noqa: E402
from hri30_ext.video.preprocessing import segment_indices  # noqa: E402

CLASSES = ('DeliverObject', 'Walking', 'PickUpDrill')
FRAMES = 4  # of a clip, for the model
SECONDS = '5'  # limit for decoding a clip
CLIPS = 7  # of a class and group, as in HRI30
WHOLE = 42  # intact clips, so that the validation group has some


def make_data(root: Path, videos: int, seed: int) -> None:
    """Writes damaged and intact clips, others for training than for testing."""
    rng = random.Random(seed)
    seeds = [(path.suffix, path.read_bytes()) for path in seed_videos(root / 'seeds')]
    # Intact clips at regular distances, so that each group has some.
    stride = max(2, (videos + WHOLE) // WHOLE)
    for clip, name in enumerate(('train_set', 'test_set')):
        (root / name).mkdir(parents=True)
        whole = root / 'seeds' / f'{name}.avi'
        write_video(render_clip(1, 0, clip, size=(96, 64))[:24], whole, 'mpeg4')
        damaged = 0
        for number in tqdm(range(videos + WHOLE), 'Damaging', unit='clip'):
            group, rest = divmod(number, len(CLASSES) * CLIPS)
            label, clip = divmod(rest, CLIPS)
            path = root / name / f'CID{label + 1:02}_SID{group + 1:02}_VID{clip + 1:02}'
            if damaged == videos or number % stride == 0:
                shutil.copy(whole, path.with_suffix('.avi'))
            else:
                suffix, data = rng.choice(seeds)
                path.with_suffix(suffix).write_bytes(mutate(data, rng))
                damaged += 1


def check(path: Path) -> tuple[bool, bool, bool]:
    """Returns whether a clip can be opened, its frames of a test be read, and all."""
    readable = []
    for read in (lambda video: None, lambda video: video.read(
            segment_indices(len(video), FRAMES)), Video.read_all):
        try:
            read(Video(path, 80))
            readable.append(True)
        except HRI30Error:
            readable.append(False)
    return tuple(readable)


def check_folder(folder: Path) -> dict[str, tuple[bool, bool, bool]]:
    """Checks the clips of a folder, by name."""
    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((path.stem for path in paths), tqdm(
            pool.map(check, paths), 'Checking', len(paths), unit='clip'), strict=True))


def run(log: Path, *command: str) -> int:
    """Runs a verb; returns its exit code."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    environment.pop('HRI30_ROOT', None)
    started = time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        code = subprocess.run(
            [sys.executable, '-m', 'hri30_ext.cli', *map(str, command)], stdout=file,
            stderr=file, cwd=ROOT, env=environment, timeout=3600).returncode
    print(f'{command[0]}: exit {code}, {time.monotonic() - started:.0f} s, {log}',
          flush=True)
    return code


def read_rows(path: Path) -> list[dict]:
    """Reads a CSV file with a header, if there is one."""
    if not path.exists():
        return []
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--videos', type=int, default=2000, help='number of damaged clips')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', required=True, help='new folder for data and results')
    args = parser.parse_args()
    out = Path(args.out).resolve()
    if out.exists() and any(out.iterdir()):
        parser.error(f'{out} is not empty')
    os.environ['HRI30_DECODE_SECONDS'] = SECONDS
    make_data(out / 'data', args.videos, args.seed)
    config = next((ROOT / 'configs' / 'demo').glob('*.py'))
    groups = -(-(args.videos + WHOLE) // (len(CLASSES) * CLIPS))
    options = ['--device', 'cpu', '--cfg-options', f'data_root={out / "data"}',
               f'classes={",".join(CLASSES)}', f'num_frames={FRAMES}', 'batch_size=16',
               'input_size=(32,32)', 'clip_cache=None', 'leak_check=None', 'max_skipped=1',
               # Several processes decode at once.
               'num_workers=2', f'split.val_groups={max(1, groups // 10)}', 'report=False']
    trained = run(out / 'train.log', 'train', config, '--work-dir', out / 'run', *options,
                  'max_epochs=1', 'warmup_epochs=0')
    tested = run(out / 'test.log', 'test', config, out / 'run' / 'epoch_1.pth', '--split',
                 'test', '--out', out / 'result', *options)
    train, test = (check_folder(out / 'data' / name) for name in ('train_set', 'test_set'))
    unread = {name for name, (_, can_test, _) in test.items() if not can_test}
    skipped = [row['Video'] for row in read_rows(out / 'run' / 'skipped_videos.csv')]
    rows = {Path(row['Video']).stem: row['Predicted_Label'] for row in read_rows(
        out / 'result' / 'test' / 'predictions.csv')}
    failed = {name for name, label in rows.items() if label == 'FAILED'}
    wrong = [f'{len(names)} {title}: {", ".join(sorted(names)[:5])}' for title, names in (
        ('named twice in skipped_videos.csv',
         {name for name, times in Counter(skipped).items() if times > 1}),
        # Training may read other frames of a clip than testing does.
        ('not opened, and not in skipped_videos.csv',
         {name for name, (opens, _, _) in train.items() if not opens} - set(skipped)),
        ('readable, and in skipped_videos.csv',
         {name for name in skipped if all(train[name])}),
        ('FAILED in predictions.csv or not read, but not both', failed ^ unread),
        ('in the test or in predictions.csv, but not both', test.keys() ^ rows.keys()),
    ) if names]
    if (trained, tested) != (0, 3 if unread else 0):
        wrong.append('other exit codes')
    print(f'{len(test)} clips, {args.videos} of them damaged: {len(unread)} cannot be '
          f'read by testing, {len(skipped)} were skipped or failed in training')
    for line in wrong:
        print(f'WRONG: {line}')
    print('every clip reported' if not wrong else f'{len(wrong)} checks failed')
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
