"""Kills trainings at random moments and compares the resumed ones with an intact one.

    python tests/nightly/stress/kill.py --kills 10 --jobs 2 --out work_dirs/kill

A small model trains on rendered clips once without interruption, for about a minute on
one core. Then it trains again and again: all its processes are killed (SIGKILL) once at a
random moment, the first two times in a validation, every third time while a checkpoint is
written, and it continues with ``--resume``. This exits with 1 unless the last checkpoint of
each equals that of the uninterrupted training bit for bit (weights, averaged weights,
optimizer, schedules, random numbers, early stopping, curves).
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from mmengine.hooks import Hook  # noqa: E402
from same_training import assert_same_training  # noqa: E402

from hri30_ext.apis import train  # noqa: E402
from hri30_ext.names import HRI30_CLASSES  # noqa: E402
from hri30_ext.synthetic import write_dataset  # noqa: E402

CONFIG = next((ROOT / 'configs' / 'demo').glob('*.py'))
CLASSES = HRI30_CLASSES[:6]
VALIDATING = 'validating'


class MarkValidation(Hook):
    """Keeps a file in a folder while a validation runs."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / VALIDATING
        self.mark.unlink(missing_ok=True)

    def before_val_epoch(self, runner) -> None:
        self.mark.touch()

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.mark.unlink()


def train_here(folder: Path, data: Path, epochs: int) -> None:
    """Trains or resumes in this process."""
    options = dict(
        data_root=str(data), classes=list(CLASSES), input_size=(80, 56), batch_size=8,
        num_workers=2, max_epochs=epochs, weight_averaging='ema', precision='fp32',
        leak_check=None, report=False, cache_dir=str(data / 'cache'),
        **{'split.val_groups': 1, 'early_stopping.patience': epochs})
    resume = any(folder.glob('epoch_*.pth'))
    train(str(CONFIG), str(folder), resume, options, overwrite=not resume,
          hooks=[MarkValidation(folder)])


def start(folder: Path, data: Path, epochs: int) -> subprocess.Popen:
    """Starts or resumes a training in its own process group."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'output.txt', 'a', encoding='utf-8') as output:
        return subprocess.Popen(
            [sys.executable, __file__, '--train', '--out', folder, '--data', data,
             '--epochs', str(epochs)], stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': '1',
                                         'MPLBACKEND': 'Agg', 'CUDA_VISIBLE_DEVICES': ''})


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Waits for a training; raises a RuntimeError if it failed."""
    if process.wait():
        lines = (folder / 'output.txt').read_text(encoding='utf-8').splitlines()
        raise RuntimeError(f'the training ended with {process.returncode}: '
                           f'{" / ".join(lines[-3:])}')


def kill(process: subprocess.Popen, folder: Path, seconds: float, pattern: str) -> bool:
    """Kills a training after some seconds, once a file of a pattern exists; returns whether
    it still ran."""
    began = time.monotonic()
    while process.poll() is None:
        if time.monotonic() - began >= seconds and any(folder.glob(pattern)):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    return process.wait() == -signal.SIGKILL


def run(folder: Path, data: Path, epochs: int, seconds: float, whole: Path,
        rng: random.Random, pattern: str) -> str:
    """Trains with a kill, finishes the training, and compares; returns what differs."""
    last = f'epoch_{epochs}.pth'
    try:
        while not kill(start(folder, data, epochs), folder, rng.uniform(0, seconds),
                       pattern):
            shutil.rmtree(folder)  # it had ended before
        moment = 'with checkpoints' if any(folder.glob('epoch_*.pth')) else 'without one'
        finish(start(folder, data, epochs), folder)
        assert_same_training(whole / last, folder / last)
        assert not list(folder.glob('.*.pth')), 'unfinished files are left'
    except Exception as error:  # reported; the other cases continue
        return f'{type(error).__name__}: {error}'
    return f'killed {moment}: equal'


def stress(out: Path, kills: int, jobs: int, epochs: int, seed: int,
           say: Callable[[str], None] = print) -> bool:
    """Does everything that the module's docstring states; returns whether it holds."""
    shutil.rmtree(out, ignore_errors=True)
    data, whole = out / 'data', out / 'uninterrupted'
    write_dataset(data, train_groups=4, test_groups=1, clips=3, size=(96, 64),
                  classes=CLASSES, progress=False)
    finish(start(out / 'first', data, 1), out / 'first')  # decodes the clips
    began = time.monotonic()
    finish(start(whole, data, epochs), whole)
    seconds = time.monotonic() - began
    say(f'{epochs} epochs without interruption in {seconds:.1f} s')
    patterns = [VALIDATING if i < 2 else '.*.pth' if i % 3 == 0 else '*'
                for i in range(kills)]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(
            lambda i: run(out / f'{i:02}', data, epochs, seconds, whole,
                          random.Random(seed + i), patterns[i]), range(kills)))
    for i, result in enumerate(results):
        say(f'{i:02}  {patterns[i]:12} {result}')
    equal = sum(result.endswith(': equal') for result in results)
    say(f'{equal} of {kills} equal to the uninterrupted training, bit for bit; '
        f'{patterns.count(VALIDATING)} kills in a validation, {patterns.count(".*.pth")} '
        'while a checkpoint was written')
    return equal == kills


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--kills', type=int, default=10, metavar='N')
    parser.add_argument('--jobs', type=int, default=2, metavar='N',
                        help='trainings at once; each has one thread')
    parser.add_argument('--epochs', type=int, default=60, metavar='N')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True, metavar='D',
                        help='folder; emptied first')
    parser.add_argument('--train', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--data', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train_here(args.out, args.data, args.epochs)
    else:
        sys.exit(not stress(args.out.absolute(), args.kills, args.jobs, args.epochs,
                            args.seed))


if __name__ == '__main__':
    main()
