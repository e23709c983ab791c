"""Trains and tests on damaged videos and checks that each one is reported.

    python tests/nightly/stress/mutated.py --videos 2000 --out work_dirs/mutated

Small clips in MPEG-4, motion JPEG, H.264 and DV are damaged at random by ``fuzz/mutate.py``
and stored next to intact ones. ``hri30 train`` trains one epoch on them and validates,
``hri30 test`` tests all of them. This exits with 1 unless

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
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tests' / 'nightly' / 'fuzz')]

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


def make_data(root: Path, videos: int, seed: int) -> list[Path]:
    """Writes damaged and intact clips, and links all of them as test clips."""
    rng = random.Random(seed)
    seeds = [(path.suffix, path.read_bytes()) for path in seed_videos(root / 'seeds')]
    for name in ('train_set', 'test_set'):
        (root / name).mkdir(parents=True)
    whole = root / 'seeds' / 'whole.avi'
    write_video(render_clip(1, 0, 0, size=(96, 64))[:24], whole, 'mpeg4')
    # Intact clips at regular distances, so that each group has some.
    stride = max(2, (videos + WHOLE) // WHOLE)
    paths, damaged = [], 0
    for number in tqdm(range(videos + WHOLE), 'Damaging', unit='clip'):
        group, rest = divmod(number, len(CLASSES) * CLIPS)
        label, clip = divmod(rest, CLIPS)
        name = f'CID{label + 1:02}_SID{group + 1:02}_VID{clip + 1:02}'
        if damaged == videos or number % stride == 0:
            path = root / 'train_set' / f'{name}.avi'
            shutil.copy(whole, path)
        else:
            suffix, data = rng.choice(seeds)
            path = root / 'train_set' / f'{name}{suffix}'
            path.write_bytes(mutate(data, rng))
            damaged += 1
        os.link(path, root / 'test_set' / path.name)
        paths.append(path)
    return paths


def check(path: Path) -> tuple[str, str]:
    """Returns why a clip cannot be opened, and why the frames of a test cannot be read.

    Empty texts mean that they can.
    """
    try:
        video = Video(path, 80)
        try:
            video.read(segment_indices(len(video), FRAMES))
        except HRI30Error as error:
            return '', str(error)
    except HRI30Error as error:
        return str(error), str(error)
    return '', ''


def run(*command: str | Path, log: Path, expected: int) -> list[str]:
    """Runs a verb of hri30; returns what is wrong with its exit status."""
    started = time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        code = subprocess.run(
            [sys.executable, '-m', 'hri30_ext.cli', *map(str, command)], stdout=file,
            stderr=file, cwd=ROOT, timeout=3600).returncode
    print(f'{log}: exit {code}, {time.monotonic() - started:.0f} s', flush=True)
    return [f'{command[0]} ended with {code}, expected {expected}'] * (code != expected)


def read_column(path: Path, column: str, keep=lambda row: True) -> list[str]:
    """Reads a column of a CSV file with a header."""
    with open(path, encoding='utf-8', newline='') as file:
        return [row[column] for row in csv.DictReader(file) if keep(row)]


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
    paths = make_data(out / 'data', args.videos, args.seed)

    config = next((ROOT / 'configs' / 'demo').glob('*.py'))
    groups = -(-len(paths) // (len(CLASSES) * CLIPS))
    options = ['--device', 'cpu', '--cfg-options', f'data_root={out / "data"}',
               f'classes={",".join(CLASSES)}', f'num_frames={FRAMES}', 'batch_size=16',
               'input_size=(32,32)', 'clip_cache=None', 'leak_check=None', 'max_skipped=1',
               # Several processes decode at once.
               'num_workers=2', f'split.val_groups={max(1, groups // 10)}']
    os.environ['OMP_NUM_THREADS'] = '1'
    os.environ.pop('HRI30_ROOT', None)
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip((path.stem for path in paths), tqdm(
            pool.map(check, paths), 'Checking', len(paths), unit='clip'), strict=True))
    unopened = {name for name, (opening, _) in found.items() if opening}
    unread = {name for name, (_, reading) in found.items() if reading}
    wrong = run('train', config, '--work-dir', out / 'run', *options, 'max_epochs=1',
                'warmup_epochs=0', 'report=False', log=out / 'train.log', expected=0)
    wrong += run('test', config, out / 'run' / 'epoch_1.pth', '--split', 'test', '--out',
                 out / 'result', *options, 'report=False', log=out / 'test.log',
                 expected=3 if unread else 0)
    skipped = read_column(out / 'run' / 'skipped_videos.csv', 'Video') if unopened else []
    predictions = out / 'result' / 'test' / 'predictions.csv'
    rows = [Path(name).stem for name in read_column(predictions, 'Video')]
    failed = [Path(name).stem for name in read_column(
        predictions, 'Video', lambda row: row['Predicted_Label'] == 'FAILED')]
    for title, names in (
            ('named twice in skipped_videos.csv', sorted(
                name for name, times in Counter(skipped).items() if times > 1)),
            # Training may read other frames of a clip than testing does.
            ('not opened, and not in skipped_videos.csv', sorted(unopened - set(skipped))),
            ('readable, and in skipped_videos.csv', sorted(
                set(skipped) - unread - {name for name in skipped if _is_damaged(
                    out / 'data' / 'train_set', name)})),
            ('not read, and not FAILED in predictions.csv', sorted(unread - set(failed))),
            ('read, and FAILED in predictions.csv', sorted(set(failed) - unread)),
            ('without exactly one row', sorted(
                name for name in found if rows.count(name) != 1)),
            ('rows of no clip', sorted(set(rows) - set(found)))):
        if names:
            wrong.append(f'{len(names)} {title}: {", ".join(names[:5])}')
    print(f'{len(found)} clips, {args.videos} of them damaged: {len(unread)} cannot be '
          f'read by testing, {len(skipped)} were skipped or failed in training')
    for line in wrong:
        print(f'WRONG: {line}')
    print('every clip reported' if not wrong else f'{len(wrong)} checks failed')
    sys.exit(1 if wrong else 0)


def _is_damaged(folder: Path, name: str) -> bool:
    """Returns whether some frame of a clip cannot be read."""
    path = next(folder.glob(f'{name}.*'))
    try:
        Video(path, 80).read_all()
    except HRI30Error:
        return True
    return False


if __name__ == '__main__':
    main()
