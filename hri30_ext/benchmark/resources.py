"""What it takes: start, memory, and how cost grows with clips and epochs."""

import contextlib
import dataclasses
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..config import PROJECT_ROOT
from ..datasets.hri30 import load_labelled_clips
from ..errors import HRI30Error
from ..names import HRI30_CLASSES
from ..synthetic import write_dataset
from .pipelines import build_loader, side_config
from .processes import (
    Pairs,
    SideProcess,
    peak_private_memory,
    private_memory,
    process_tree,
)
from .rows import Outcome, Row, pair_ratios, summarize
from .setup import PRIMITIVE, Setup
from .testing import our_test, stock_test
from .training import initial_weights, train_loop

_MIB = 2 ** 20
_SIZES = (100, 400, 1600)  # clips
_EPOCHS = 10


# ---- Start ------------------------------------------------------------------------------

#: mmengine's line of the first step, logged when it is done.
_FIRST_STEP = re.compile(
    r'Epoch\(train\)\s+\[1\]\[\s*1/.* time: (?P<time>[\d.]+)\s+'
    r'data_time: (?P<data>[\d.]+)')


def train_command() -> tuple[list[str], str]:
    """Returns how a training is started here, and what that leaves out."""
    if (PROJECT_ROOT / '.venv' / 'bin' / 'python').exists():
        return ['bash', str(PROJECT_ROOT / 'tools' / 'train.sh')], ''
    return ([sys.executable, str(PROJECT_ROOT / 'tools' / 'train.py')],
            'tools/train.py without its shell launcher: there is no .venv here; ')


def seconds_to_first_step(setup: Setup, arguments: Sequence[str]) -> float:
    """Starts a training and stops it after its first step.

    Returns:
        float: Seconds from the command to the begin of the step: its own time is taken
        off.

    Raises:
        HRI30Error: the training ended before.
    """
    command, _ = train_command()
    work = setup.scratch('start')
    start, tail = time.perf_counter(), []
    with subprocess.Popen(
            [*command, PRIMITIVE, '--work-dir', work, '--device', setup.device,
             '--cfg-options', *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True) as process:
        try:
            for line in process.stdout:
                tail = [*tail[-7:], line.rstrip()]
                found = _FIRST_STEP.search(line)
                if found:
                    step = float(found['time']) - float(found['data'])
                    return time.perf_counter() - start - step
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    raise HRI30Error('the training ended before its first step:\n' + '\n'.join(tail))


def start(setup: Setup) -> Outcome:
    """Measures a start on a machine that has started it before."""
    setup = setup.with_data()
    options = [f'{key}={value}' for key, value in setup.options.items()]
    arguments = [f'data_root={setup.data_root}', 'load_from=None',
                 'default_hooks.logger.interval=1', *options]
    seconds = [seconds_to_first_step(setup, arguments)
               for _ in range(1 + setup.repetitions(2))][1:]
    return summarize(seconds, f'{train_command()[1]}from command to the begin of the first '
                              'step, its first batch loaded; the first start of the '
                              'machine is not counted')


# ---- Memory -----------------------------------------------------------------------------


def _peak(name: str, setup: Setup, function: Callable, arguments: dict) -> float:
    """Measures the peak private memory of a turn in a fresh process, in MiB."""
    with SideProcess(name, function, dict(arguments, setup=setup),
                     setup.log(name.replace(', ', '-'))) as process:
        process.ready()
        with peak_private_memory(process.pid) as memory:
            process.turn()
        return max(memory.readings) / _MIB


def _peaks(name: str, setup: Setup, stock: tuple, ours: tuple) -> Pairs:
    """Measures both sides in turns; each is a function and its arguments."""
    pairs = Pairs([], [], [], [])
    for _ in range(setup.repetitions(1)):
        pairs.stock.append(_peak(f'{name}, stock', setup, *stock))
        pairs.ours.append(_peak(f'{name}, ours', setup, *ours))
    return pairs


def _memory_outcome(pairs: Pairs, what: str) -> Outcome:
    stock, ours = map(statistics.median_high, (pairs.stock, pairs.ours))
    return summarize(
        pair_ratios(pairs.ours, pairs.stock),
        f'{what}: peak private memory (USS) of the process and its loaders, sampled ten '
        f'times a second: stock {stock:.0f} MiB, ours {ours:.0f} MiB')


def memory_train(setup: Setup) -> Outcome:
    """Compares the memory of trainings at the same batch."""
    setup = setup.with_data()
    arguments = dict(settings=dict(batch_size=8), steps=2)
    pairs = _peaks('memory_train', setup, (train_loop, dict(arguments, side='stock')),
                   (train_loop, dict(arguments, side='ours')))
    batch = setup.ours(batch_size=8).batch_size
    return _memory_outcome(pairs, f'training, SlowOnly R50, batch {batch}')


def memory_test(setup: Setup) -> Outcome:
    """Compares the memory of tests at the same batch: stock's own, one clip."""
    setup = setup.with_data()
    shared = dict(checkpoint=initial_weights(setup))
    pairs = _peaks('memory_test', setup, (stock_test, dict(shared, clips=1)),
                   (our_test, dict(shared, clips=4, settings=dict(batch_size=1))))
    default = _peak('memory_test, ours', setup, our_test, dict(shared, clips=16))
    batch = setup.ours().test_dataloader.batch_size
    outcome = _memory_outcome(pairs, 'testing, SlowOnly R50, batch of 1 clip, each with '
                                     'its default views')
    return Outcome(outcome.ratio, outcome.low, outcome.high,
                   f'{outcome.note} ({default:.0f} MiB at our default batch, '
                   f'{batch})')


# ---- Growth -----------------------------------------------------------------------------


def link_clips(source: str | Path, target: str | Path, count: int) -> Path:
    """Makes a data folder of a number of clips out of links to fewer.

    Args:
        source (str | Path): A data folder of HRI30's classes.
        target (str | Path): The new one; every clip gets a name of its own.
        count (int): Clips.

    Returns:
        Path: The folder.
    """
    clips = load_labelled_clips(source, HRI30_CLASSES)
    folder = Path(target) / 'train_set'
    folder.mkdir(parents=True)
    for i in range(count):
        # A group of 30 clips after the other.
        clip, group = clips[i % len(clips)], i // 30 + 1
        name = f'CID{clip["label"] + 1:02d}_SID{group:02d}_VID{i % 30 + 1:02d}'
        (folder / f'{name}{Path(clip["filename"]).suffix}').symlink_to(
            Path(clip['filename']).resolve())
    return Path(target)


def read_epochs(turns, setup: Setup, cache_dir: str) -> None:
    """Lists all clips and reads an epoch of them from the cache in turns."""
    # One group to validate, as by default: what is left is what is read and counted.
    cfg = setup.ours(clip_cache='memmap', cache_dir=cache_dir, num_workers=0)
    for _ in build_loader(cfg.train_dataloader):
        pass  # the cache fills
    while True:
        turns.wait()
        begin = time.perf_counter()
        loader = build_loader(cfg.train_dataloader)
        clips = sum(len(batch['inputs']) for batch in loader)
        turns.report(time.perf_counter() - begin, clips=clips)


def marginal_growth(clips: Sequence[int], seconds: Sequence[float]) -> float:
    """Compares what a further clip costs among many with what it costs among few.

    What is paid once, whatever the number of clips, does not count.

    Args:
        clips (Sequence[int]): Three numbers, ascending.
        seconds (Sequence[float]): Of all of them.

    Returns:
        float: 1 where the cost grows linearly, more where it grows faster.

    >>> marginal_growth([10, 20, 40], [6, 11, 21])
    1.0
    """
    among_few, among_many = (
        (seconds[i + 1] - seconds[i]) / (clips[i + 1] - clips[i]) for i in range(2))
    return among_many / among_few


def scaling(setup: Setup) -> Outcome:
    """Measures the cost of a clip among 100, 400 and 1,600: list, index and one epoch."""
    few = Path(setup.scratch('small')) / 'clips'
    write_dataset(few, train_groups=2, test_groups=0, clips=1, size=(96, 64))
    links = setup.scratch('links')
    cache = setup.scratch('cache-scaling')
    counts: dict[int, int] = {}
    seconds: dict[int, list[float]] = {size: [] for size in _SIZES}
    with contextlib.ExitStack() as stack:
        sides = {}
        for size in _SIZES:
            root = link_clips(few, Path(links) / str(size), size)
            sides[size] = stack.enter_context(SideProcess(
                f'scaling, {size} clips', read_epochs, dict(
                    setup=dataclasses.replace(setup, data_root=str(root)), cache_dir=cache),
                setup.log(f'scaling-{size}'), one_core=True))
        for side in sides.values():
            side.ready()
        for _ in range(setup.repetitions(5)):
            for size, side in sides.items():
                cost, more = side.turn()
                seconds[size].append(cost)
                counts[size] = more['clips']
                side.ready()
    growth = [marginal_growth(list(counts.values()), turn)
              for turn in zip(*seconds.values(), strict=True)]
    told = ', '.join(
        f'{size} clips {1000 * statistics.median_high(values) / counts[size]:.3g} ms'
        for size, values in seconds.items())
    return summarize(growth, 'a further clip from 400 to 1,600 over one from 100 to 400: '
                             'listing all and one epoch from the cache, one core, links to '
                             f'60 clips of 96x64; on average a clip of {told}')


def read_with_workers(turns, setup: Setup, cache_dir: str) -> None:
    """Reads an epoch a turn with two loading processes, and tells their memory."""
    cfg = side_config('ours', setup, dict(
        clip_cache='memmap', cache_dir=cache_dir, num_workers=2))
    init_default_scope('mmaction')
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    while True:
        turns.wait()
        for _ in loader:
            pass
        workers = process_tree(os.getpid())[1:]
        turns.report(sum(map(private_memory, workers)) / _MIB, workers=len(workers))


def loader_memory(setup: Setup) -> Outcome:
    """Measures how much memory the loaders gain over epochs."""
    setup = setup.with_data()
    with SideProcess('loader_memory', read_with_workers,
                     dict(setup=setup, cache_dir=setup.scratch('cache-memory')),
                     setup.log('loader_memory')) as side:
        side.ready()
        memory = []
        for _ in range(_EPOCHS):
            memory.append(side.turn()[0])
            side.ready()
    # The first epoch fills the cache.
    growth = memory[-1] - memory[1]
    return Outcome(growth, growth, growth,
                   f'private memory (USS) of two loading processes after epochs 1 to '
                   f'{_EPOCHS}: {", ".join(f"{value:.0f}" for value in memory)} MiB; the '
                   'figure is from epoch 2 on')


ROWS = [
    Row('start', 'from the command tools/train.sh to the first step, the second time',
        start, goal=20, unit='s', at_most=True),
    Row('memory_train', 'private memory of training, ours over stock', memory_train, goal=1,
        at_most=True),
    Row('memory_test', 'private memory of testing, ours over stock', memory_test, goal=1,
        at_most=True),
    Row('scaling', 'cost of a further clip among 1,600 over among 100', scaling, goal=1.25,
        at_most=True),
    Row('loader_memory', 'what loaders gain over ten epochs', loader_memory, goal=10,
        unit='MiB', at_most=True),
]
