"""Start of a training, and memory of training and testing."""

import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.rows import Outcome, pair_ratios, row, summarize
from benchmark.setup import PRIMITIVE, Setup
from benchmark.testing import our_test, stock_test
from benchmark.training import initial_weights, train_loop
from benchmark.turns import Side, private_memory, sample
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error

#: mmengine's line of the first step, logged at its end.
FIRST_STEP = re.compile(
    r'Epoch\(train\)\s+\[1\]\[\s*1/.* time: (?P<time>[\d.]+)\s+'
    r'data_time: (?P<data>[\d.]+)')


def seconds_to_first_step(setup: Setup, options: Sequence[str]) -> float:
    """Starts a training, stops it after its first step, and returns the time to this step.

    Raises:
        HRI30Error: the training ended before.
    """
    folder = Path(setup.scratch('start'))
    start, output = time.perf_counter(), folder / 'output.txt'
    with open(output, 'wb') as file, subprocess.Popen(
            ['bash', str(PROJECT_ROOT / 'tools' / 'train.sh'), PRIMITIVE, '--work-dir',
             str(folder), '--device', setup.device, '--cfg-options', *options],
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            while process.poll() is None:
                time.sleep(.02)
                for log in folder.glob('*/*.log'):
                    if match := FIRST_STEP.search(log.read_text(encoding='utf-8')):
                        step = float(match['time']) - float(match['data'])
                        return time.perf_counter() - start - step
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    raise HRI30Error('the training ended before its first step:\n'
                     + output.read_text(encoding='utf-8')[-2000:])


@row('start', 'from the command tools/train.sh to the first step, the second time', goal=20,
     unit='s', at_most=True)
def start(setup: Setup) -> Outcome:
    """Measures a start on a machine that has started it before."""
    setup = setup.with_data()
    options = [f'data_root={setup.data_root}', 'load_from=None',
               'default_hooks.logger.interval=1',
               *(f'{key}={value}' for key, value in setup.options.items())]
    seconds = [seconds_to_first_step(setup, options) for _ in range(
        1 + (setup.rounds or 2))]
    return summarize(seconds[1:], 'from command to the start of the first step, its first '
                                  'batch loaded; the first start is not counted')


def peak_memory(name: str, setup: Setup, function: Callable, **arguments) -> float:
    """Returns the peak private memory of one turn in a new process, in MiB."""
    with Side(name, function, setup, arguments) as process:
        process.ready()
        with sample(lambda: private_memory(process.pid), 0.1) as memory:
            process.turn()
        return max(memory) / 2 ** 20


def _compare(setup: Setup, what: str, stock: Callable, ours: Callable) -> Outcome:
    """Compares peaks in turns; ``stock`` and ``ours`` return MiB."""
    pairs = [(stock(), ours()) for _ in range(setup.rounds or 1)]
    stock_mib, our_mib = zip(*pairs, strict=True)
    return summarize(
        pair_ratios(our_mib, stock_mib),
        f'{what}: peak private memory (USS) of the process and its loaders, sampled ten '
        f'times a second: stock {statistics.median_high(stock_mib):.0f} MiB, ours '
        f'{statistics.median_high(our_mib):.0f} MiB')


@row('memory_train', 'private memory of training, ours over stock', goal=1, at_most=True)
def memory_train(setup: Setup) -> Outcome:
    """Compares the memory of trainings with the same batch."""
    setup = setup.with_data()

    def peak(side: str) -> float:
        return peak_memory(f'memory_train, {side}', setup, train_loop, side=side,
                           settings=dict(batch_size=8), steps=2)
    batch = setup.ours(batch_size=8).batch_size
    return _compare(setup, f'training, SlowOnly R50, batch {batch}', lambda: peak('stock'),
                    lambda: peak('ours'))


@row('memory_test', 'private memory of testing, ours over stock', goal=1, at_most=True)
def memory_test(setup: Setup) -> Outcome:
    """Compares the memory of tests with the same batch: stock's own, one clip."""
    setup = setup.with_data()
    weights = initial_weights(setup)

    def peak(side: str, function: Callable, clips: int, **settings) -> float:
        return peak_memory(f'memory_test, {side}', setup, function, checkpoint=weights,
                           clips=clips, **settings)
    default = peak('ours', our_test, 16)
    return _compare(
        setup, 'testing, SlowOnly R50, batch of 1 clip, each with its default views '
               f'({default:.0f} MiB with our default batch)',
        lambda: peak('stock', stock_test, 1),
        lambda: peak('ours', our_test, 4, batch_size=1))
