"""Reading clips: the training pipelines on one core.

Cost is the seconds a clip from the files on disk to a collated batch of uint8 tensors in
memory. The data preprocessor, which normalizes on the device, is in ``train_step``.
"""

import functools
from collections.abc import Callable, Iterator

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from benchmark.rows import Outcome, row
from benchmark.setup import Setup
from benchmark.stock import stock_config
from benchmark.turns import compare, repeat


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
