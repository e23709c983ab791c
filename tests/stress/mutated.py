"""Trains and tests on damaged videos, and looks whether every one is accounted for.

    python tests/stress/mutated.py --videos 2000 --out work_dirs/mutated

Small clips in MPEG-4, motion JPEG, H.264 and DV are damaged at random, by
tests/fuzz/mutate.py, and lie beside whole ones. Then ``tools/train.py`` trains an epoch on
them and validates, and ``tools/test.py`` tests all of them. What has to hold, or this exits
with 1:

- neither is ended by a clip: training exits with 0, testing with 3 (clips failed)
- what an independent look finds unreadable is what is named, each once: in
  ``skipped_videos.csv``, and as FAILED in ``predictions.csv``
- every clip of the test has its row
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

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'fuzz')]

from mutate import mutate, seed_videos  # noqa: E402

from hri30_ext.errors import HRI30Error  # noqa: E402
from hri30_ext.synthetic import render_clip, write_video  # noqa: E402
from hri30_ext.video.decode import Video  # noqa: E402
from hri30_ext.video.preprocessing import uniform_indices  # noqa: E402

CLASSES = ('DeliverObject', 'Walking', 'PickUpDrill')
FRAMES = 4  # that the model sees of a clip
SECONDS = '5'  # that a clip may take
CLIPS = 7  # of a class and group, as in HRI30
WHOLE = 42  # clips that are not damaged: a group of validation has some in any case


def make_data(root: Path, videos: int, seed: int) -> list[Path]:
    """Writes damaged clips among whole ones, and links all of them as test clips."""
    rng = random.Random(seed)
    seeds = [(path.suffix, path.read_bytes()) for path in seed_videos(root / 'seeds')]
    for name in ('train_set', 'test_set'):
        (root / name).mkdir(parents=True)
    whole = root / 'seeds' / 'whole.avi'
    write_video(render_clip(1, 0, 0, size=(96, 64))[:24], whole, 'mpeg4')
    # Every so many clips a whole one, in each group.
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


def look(path: Path) -> tuple[str, str]:
    """Says why a clip cannot be opened, or the frames that testing wants not be read.

    Returns:
        tuple[str, str]: The reason of opening and of reading; empty where there is none.
    """
    try:
        video = Video(path, 80)
        try:
            video.read(uniform_indices(len(video), FRAMES, 1).ravel())
        except HRI30Error as error:
            return '', str(error)
    except HRI30Error as error:
        return str(error), str(error)
    return '', ''


def run(*command: str, log: Path, environment: dict) -> tuple[int, float]:
    """Runs a tool; returns its exit code and seconds, and -1 where it did not end."""
    started = time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        try:
            code = subprocess.run(
                [sys.executable, *map(str, command)], stdout=file, stderr=file, cwd=ROOT,
                env=environment, timeout=3600, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    return code, time.monotonic() - started


def read_column(path: Path, column: str, keep=lambda row: True) -> list[str]:
    """Reads a column of a CSV file with a header."""
    with open(path, encoding='utf-8', newline='') as file:
        return [row[column] for row in csv.DictReader(file) if keep(row)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--videos', type=int, default=2000, help='damaged ones')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', required=True, help='new folder for data, logs, results')
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
               # The decoder of the training may be asked by several processes at once.
               'num_workers=2', f'split.val_groups={max(1, groups // 10)}']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    environment.pop('HRI30_ROOT', None)
    wrong = []

    code, seconds = run(ROOT / 'tools' / 'train.py', config, '--work-dir', out / 'run',
                        *options, 'max_epochs=1', 'warmup_epochs=0', 'report=False',
                        log=out / 'train.log', environment=environment)
    print(f'training: exit {code}, {seconds:.0f} s, {out / "train.log"}', flush=True)
    if code != 0:
        wrong.append(f'training ended with {code}, expected 0')
    code, seconds = run(ROOT / 'tools' / 'test.py', config, out / 'run' / 'epoch_1.pth',
                        '--split', 'test', '--out', out / 'result', *options,
                        'report=False', log=out / 'test.log', environment=environment)
    print(f'testing: exit {code}, {seconds:.0f} s, {out / "test.log"}', flush=True)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip((path.stem for path in paths), tqdm(
            pool.map(look, paths), 'Looking', len(paths), unit='clip'), strict=True))
    unopened = {name for name, (opening, _) in found.items() if opening}
    unread = {name for name, (_, reading) in found.items() if reading}
    if code != (3 if unread else 0):
        wrong.append(f'testing ended with {code}, expected {3 if unread else 0}')

    skipped = read_column(out / 'run' / 'skipped_videos.csv', 'Video') if unopened else []
    predictions = out / 'result' / 'test' / 'predictions.csv'
    rows = [Path(name).stem for name in read_column(predictions, 'Video')]
    failed = [Path(name).stem for name in read_column(
        predictions, 'Video', lambda row: row['Predicted_Label'] == 'FAILED')]
    for title, names in (
            ('named twice in skipped_videos.csv', sorted(
                name for name, times in Counter(skipped).items() if times > 1)),
            # Of a clip that can be opened, training may want other frames than testing.
            ('not opened, and not in skipped_videos.csv', sorted(unopened - set(skipped))),
            ('read, and in skipped_videos.csv without cause', sorted(
                set(skipped) - unread - {name for name in skipped if _is_damaged(
                    out / 'data' / 'train_set', name)})),
            ('not read, and not FAILED in predictions.csv', sorted(unread - set(failed))),
            ('read, and FAILED in predictions.csv', sorted(set(failed) - unread)),
            ('without exactly one row', sorted(
                name for name in found if rows.count(name) != 1)),
            ('rows of no clip', sorted(set(rows) - set(found)))):
        if names:
            wrong.append(f'{len(names)} {title}: {", ".join(names[:5])}')
    kinds = Counter(_kind(reading) for _, reading in found.values() if reading)
    print(f'{len(found)} clips, {args.videos} of them damaged: {len(unread)} cannot be '
          f'read by testing, {len(skipped)} were skipped or failed in training')
    for kind, count in kinds.most_common():
        print(f'  {count:5}  {kind}')
    for line in wrong:
        print(f'WRONG: {line}')
    print('every one named' if not wrong else f'{len(wrong)} things are wrong')
    sys.exit(1 if wrong else 0)


def _is_damaged(folder: Path, name: str) -> bool:
    """Whether some frame of a clip cannot be read."""
    path = next(folder.glob(f'{name}.*'))
    try:
        Video(path, 80).read_all()
    except HRI30Error:
        return True
    return False


def _kind(reason: str) -> str:
    """Shortens a reason to what clips have in common."""
    inner = reason.split('cannot be decoded (', 1)[-1].split(').', 1)[0]
    return ''.join('N' if char.isdigit() else char for char in inner)[:70]


if __name__ == '__main__':
    main()
