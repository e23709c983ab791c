"""Kills trainings at random moments and compares the resumed ones with an intact one.

    python tests/nightly/stress/kill.py --kills 30 --jobs 2 --out work_dirs/kill

A small model trains on rendered clips once without interruption, for about two minutes on
one core. Then it trains again and again: all its processes are killed (SIGKILL) at a random
moment, every second time while a checkpoint is written, and it continues with ``--resume``;
every third training is killed twice. This exits with 1 unless the last checkpoint of each
equals that of the uninterrupted training bit for bit (weights, averaged weights, optimizer,
schedules, random numbers, early stopping, curves), and unless at least one of several kills
hit the writing of a checkpoint.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from same_training import assert_same_training  # noqa: E402

import hri30_ext.modules  # noqa: E402, F401
from hri30_ext.datasets import HRI30_CLASSES  # noqa: E402
from hri30_ext.synthetic import write_dataset  # noqa: E402

CONFIG = next((ROOT / 'configs' / 'demo').glob('*.py'))
CLASSES = HRI30_CLASSES[:6]
# So often that kills hit checkpoints within an epoch, and their writing.
SAVE_MINUTES = 0.02


@dataclass
class Case:
    """A training that is killed.

    Attributes:
        folder (Path): Its work folder.
        kills (list[str]): When each kill came and what it hit.
        resumes (int): Number of resumptions from a checkpoint.
        difference (str, optional): From the uninterrupted training.
    """

    folder: Path
    kills: list[str] = field(default_factory=list)
    resumes: int = 0
    difference: str | None = None


def has_saved(folder: Path) -> bool:
    """Returns whether there is a checkpoint to resume from."""
    return any(not path.name.startswith('.') for path in folder.glob('*.pth'))


def start(folder: Path, data: Path, epochs: int) -> subprocess.Popen:
    """Starts or resumes a training in its own process group."""
    saved = has_saved(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(
        data_root=data, classes='[' + ','.join(CLASSES) + ']', input_size='(80,56)',
        batch_size=8, num_workers=0, max_epochs=epochs, weight_averaging='ema',
        save_minutes=SAVE_MINUTES, precision='fp32', leak_check=None, report=False,
        cache_dir=data / 'cache',
        **{'split.val_groups': 1, 'early_stopping.patience': epochs})
    with open(folder / 'output.txt', 'a', encoding='utf-8') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'hri30_ext.cli', 'train', str(CONFIG), '--work-dir',
             str(folder), '--device', 'cpu', *(['--resume'] if saved else []),
             '--cfg-options', *(f'{key}={value}' for key, value in settings.items())],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'})


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Waits for a training; raises a RuntimeError if it failed."""
    if process.wait():
        lines = (folder / 'output.txt').read_text(encoding='utf-8').splitlines()
        raise RuntimeError(f'the training ended with {process.returncode}: '
                           f'{" / ".join(lines[-3:])}')


def unfinished_files(folder: Path) -> list[str]:
    """Lists the temporary files of checkpoints."""
    return [path.name for path in folder.glob('.*.pth')]


def kill(process: subprocess.Popen, folder: Path, seconds: float, writing: bool) -> str:
    """Kills a training after some seconds, or when it next writes a checkpoint then.

    Returns:
        str: What the kill hit; empty if the training had already ended.
    """
    began = time.monotonic()
    while process.poll() is None:
        if time.monotonic() - began >= seconds and (
                not writing or unfinished_files(folder)):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005 if writing else 0.01)
    if process.wait() != -signal.SIGKILL:
        return ''
    moment = f'{time.monotonic() - began:.1f} s'
    half = unfinished_files(folder)  # a finished file would have its final name
    return f'{moment}, writing {half[0][1:].split("-")[0]}' if half else moment


def run(case: Case, data: Path, epochs: int, seconds: float, whole: Path,
        rng: random.Random, writing: bool, twice: bool) -> Case:
    """Trains with one or two kills, finishes the training, and compares."""
    last = f'epoch_{epochs}.pth'
    try:
        while not case.kills:
            shutil.rmtree(case.folder, ignore_errors=True)
            process = start(case.folder, data, epochs)
            for _ in range(1 + twice):
                hit = kill(process, case.folder, rng.uniform(0, seconds), writing)
                if not hit:
                    break
                case.kills.append(hit)
                case.resumes += has_saved(case.folder)
                process = start(case.folder, data, epochs)
                seconds /= 2  # less remains
            seconds *= 0.9  # earlier, if the training had ended before
        finish(process, case.folder)
        assert_same_training(whole / last, case.folder / last)
        left = unfinished_files(case.folder)
        if left:
            case.difference = f'left behind: {", ".join(left)}'
    except Exception as error:  # reported; the other cases continue
        case.difference = f'{type(error).__name__}: {error}'
    return case


def stress(out: Path, kills: int, jobs: int, epochs: int, seed: int,
           say: Callable[[str], None] = print) -> bool:
    """Does everything that the module's docstring states; returns whether it holds."""
    if out.exists():
        shutil.rmtree(out)
    data, whole = out / 'data', out / 'uninterrupted'
    write_dataset(data, train_groups=4, test_groups=1, clips=3, size=(96, 64),
                  classes=CLASSES, progress=False)
    finish(start(out / 'first', data, 1), out / 'first')  # decodes the clips
    say('Training without interruption ...')
    began = time.monotonic()
    finish(start(whole, data, epochs), whole)
    seconds = time.monotonic() - began
    say(f'{epochs} epochs in {seconds:.1f} s')
    cases = [Case(out / f'{number:02}') for number in range(1, kills + 1)]
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(run, case, data, epochs, seconds, whole, random.Random(seed + i),
                        writing=bool(i % 2), twice=i % 3 == 2)
            for i, case in enumerate(cases)]
        for _ in tqdm(as_completed(waiting), 'Killing', len(cases), unit='training'):
            pass
    for case in cases:
        say(f'{case.folder.name}  killed at {"; ".join(case.kills)}: '
            f'{case.difference or "equal"}')
    equal = sum(case.difference is None for case in cases)
    killed = [hit for case in cases for hit in case.kills]
    writing = sum('writing' in hit for hit in killed)
    resumes = sum(case.resumes for case in cases)
    say(f'{equal} of {len(cases)} equal to the uninterrupted training, bit for bit; '
        f'{len(killed)} kills, {writing} of them while a checkpoint was written; '
        f'{resumes} resumptions')
    if len(killed) > 1 and not writing:
        say('No kill hit the writing of a checkpoint: use more kills or another seed.')
        return False
    return equal == len(cases)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--kills', type=int, default=30, metavar='N')
    parser.add_argument('--jobs', type=int, default=2, metavar='N',
                        help='trainings at once; each has one thread')
    parser.add_argument('--epochs', type=int, default=150, metavar='N')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True, metavar='D',
                        help='folder; emptied first')
    args = parser.parse_args()
    sys.exit(0 if stress(args.out.absolute(), args.kills, args.jobs, args.epochs, args.seed)
             else 1)


if __name__ == '__main__':
    main()
