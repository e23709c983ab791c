"""Reading clips: the training pipelines on one core, their growth and their memory.

Cost is the seconds a clip from the files on disk to a collated batch of uint8 tensors in
memory. The data preprocessor, which normalizes on the device, is in ``train_step``.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import psutil
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from benchmark.rows import Outcome, median_text, row, summarize
from benchmark.setup import Setup
from benchmark.stock import stock_config
from benchmark.turns import Side, compare, private_memory, repeat
from hri30_ext.datasets.hri30 import load_labelled_clips
from hri30_ext.names import HRI30_CLASSES
from hri30_ext.synthetic import write_dataset

_SIZES = (100, 400, 1600)  # clips
_EPOCHS = 10


def build_loader(loader: dict) -> torch.utils.data.DataLoader:
    """Builds a loader that works in this process."""
    init_default_scope('mmaction')
    cv2.setNumThreads(0)  # as mmaction2's runtime does
    loader = Config(dict(loader)).to_dict()
    loader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader, seed=0)


def count_clips(loader) -> int:
    """Reads an epoch; returns the number of clips."""
    return sum(len(batch['inputs']) for batch in loader)


def endless(loader) -> Iterator[int]:
    """Reads batches endlessly and yields their numbers of clips."""
    while True:
        for batch in loader:
            yield len(batch['inputs'])


def train_pipeline(setup: Setup, side: str, settings: dict) -> Callable:
    """Reads training batches; a first pass over all clips fills the cache."""
    ours = setup.ours(**settings)
    cfg = ours if side == 'ours' else stock_config(ours, setup.scratch('stock'))
    loader = build_loader(cfg.train_dataloader)
    if settings['clip_cache'] and side == 'ours':
        count_clips(loader)
    batches = endless(loader)
    next(batches)
    return lambda: repeat(lambda: next(batches), setup.seconds)


def pipeline(setup: Setup, cache: str | None) -> Outcome:
    """Measures the training pipeline from a clip cache, or without one."""
    setup = setup.with_data()
    settings = dict(clip_cache=cache)
    if cache:
        settings['cache_dir'] = setup.scratch(f'cache-{cache}')
    sides = [(train_pipeline, dict(side=side, settings=settings))
             for side in ('stock', 'ours')]
    pairs = compare(f'train_pipeline_{cache or "decode"}', setup, *sides, rounds=5,
                    one_core=True)
    return pairs.outcome('one core, a clip (ours also jitters colours by default)')


for _cache, _what, _goal in (('memmap', 'from the memory-mapped cache', 15),
                             ('jpeg', 'from the JPEG cache', 8),
                             (None, 'without a cache', 1.5)):
    row(f'train_pipeline_{_cache or "decode"}', f'training pipeline {_what}, one core',
        goal=_goal)(functools.partial(pipeline, cache=_cache))


def link_clips(source: str | Path, target: Path, count: int) -> str:
    """Makes the data folder ``target`` with ``count`` clips that are links to fewer."""
    clips = load_labelled_clips(source, HRI30_CLASSES)
    (target / 'train_set').mkdir(parents=True)
    for i in range(count):  # groups of 30 clips; each clip has its own name
        clip, group = clips[i % len(clips)], i // 30 + 1
        name = f'CID{clip["label"] + 1:02d}_SID{group:02d}_VID{i % 30 + 1:02d}'
        (target / 'train_set' / f'{name}{Path(clip["filename"]).suffix}').symlink_to(
            Path(clip['filename']).resolve())
    return str(target)


def read_epochs(setup: Setup, cache_dir: str) -> Callable:
    """Lists all clips and reads an epoch of them from the cache."""
    cfg = setup.ours(clip_cache='memmap', cache_dir=cache_dir, num_workers=0)
    count_clips(build_loader(cfg.train_dataloader))  # the cache fills

    def turn() -> tuple[float, dict]:
        begin = time.perf_counter()
        clips = count_clips(build_loader(cfg.train_dataloader))
        return time.perf_counter() - begin, dict(clips=clips)
    return turn


def marginal_growth(clips: Sequence[int], seconds: Sequence[float]) -> float:
    """Compares the cost of a further clip among many clips and among few.

    Costs that do not depend on the number of clips cancel out. The arguments are for three
    ascending numbers of clips; 1 means linear growth, more means faster growth.

    >>> marginal_growth([10, 20, 40], [6, 11, 21])
    1.0
    """
    among_few, among_many = (
        (seconds[i + 1] - seconds[i]) / (clips[i + 1] - clips[i]) for i in range(2))
    return among_many / among_few


@row('scaling', 'cost of a further clip among 1,600 over among 100', goal=1.25,
     at_most=True)
def scaling(setup: Setup) -> Outcome:
    """Measures the cost of a clip among 100, 400 and 1,600: list, index and one epoch."""
    few = Path(setup.scratch('small')) / 'clips'
    write_dataset(few, train_groups=2, test_groups=0, clips=1, size=(96, 64))
    links, cache = Path(setup.scratch('links')), setup.scratch('cache-scaling')
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(
            f'scaling, {size} clips', read_epochs,
            dataclasses.replace(setup, data_root=link_clips(few, links / str(size), size)),
            dict(cache_dir=cache), one_core=True)) for size in _SIZES]
        for side in sides:
            side.ready()
        # The first round is a warm-up.
        rounds = [[side.turn() for side in sides]
                  for _ in range(1 + (setup.rounds or 5))][1:]
    growth = [marginal_growth([more['clips'] for _, more in turns],
                              [seconds for seconds, _ in turns]) for turns in rounds]
    averages = [f'{size} clips ' + median_text(
        [1000 * turns[i][0] / turns[i][1]['clips'] for turns in rounds], 'ms')
        for i, size in enumerate(_SIZES)]
    return summarize(growth, 'a further clip from 400 to 1,600 over one from 100 to 400: '
                             'listing all and one epoch from the cache, one core, links to '
                             '60 clips of 96x64; on average a clip of '
                             f'{", ".join(averages)}')


def read_with_workers(setup: Setup, cache_dir: str) -> Callable:
    """Reads an epoch with two loading processes; its cost is their memory in MiB."""
    cfg = setup.ours(clip_cache='memmap', cache_dir=cache_dir, num_workers=2)
    init_default_scope('mmaction')
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)

    def turn() -> float:
        count_clips(loader)
        workers = psutil.Process(os.getpid()).children()
        return sum(private_memory(each.pid) for each in workers) / 2 ** 20
    return turn


@row('loader_memory', 'growth of the loaders over ten epochs', goal=10, unit='MiB',
     at_most=True)
def loader_memory(setup: Setup) -> Outcome:
    """Measures how much the memory of the loaders grows over epochs."""
    setup = setup.with_data()
    with Side('loader_memory', read_with_workers, setup,
                     dict(cache_dir=setup.scratch('cache-memory'))) as side:
        side.ready()
        memory = [side.turn()[0] for _ in range(_EPOCHS)]
    growth = memory[-1] - memory[1]  # the first epoch fills the cache
    return summarize([growth], (
        f'private memory (USS) of two loading processes after epochs 1 to {_EPOCHS}: '
        f'{", ".join(f"{value:.0f}" for value in memory)} MiB; counted from epoch 2'))
