"""Reading clips: the training pipelines, on one core.

A side's cost is the seconds a clip from the files on disk to a collated batch of uint8
tensors in memory: what the training then moves to the device. The data preprocessor, which
stacks and normalizes there, is in the row ``train_step``.
"""

from collections.abc import Iterator

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..errors import HRI30Error
from .processes import SideProcess, in_turn_time, median_text, take_turns
from .rows import Outcome, Row, pair_ratios, summarize
from .setup import Setup
from .stock import stock_config


def build_loader(loader: dict) -> torch.utils.data.DataLoader:
    """Builds a loader that works in this process."""
    init_default_scope('mmaction')
    cv2.setNumThreads(0)  # as mmaction2's runtime sets it; the core is the only one
    loader = Config(dict(loader)).to_dict()
    loader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader, seed=0)


def read_batches(loader) -> Iterator[int]:
    """Reads batches without an end.

    Yields:
        int: Clips of each batch.
    """
    while True:
        for batch in loader:
            yield len(batch['inputs'])


def side_config(side: str, setup: Setup, settings: dict) -> Config:
    """Returns the config of a side: ours with these settings, or stock on the same data.

    Raises:
        HRI30Error: ours has no such setting, so that it would change nothing.
    """
    plain = setup.ours()
    unknown = [name for name in settings if name.split('.')[0] not in plain]
    if unknown:
        raise HRI30Error(f'{plain.filename}: has no setting {", ".join(unknown)}.')
    if side == 'stock':
        return stock_config(plain, setup.scratch('stock'))
    return setup.ours(**settings)


def train_pipeline(turns, side: str, setup: Setup, settings: dict) -> None:
    """Reads training batches in turns; the first pass over all clips fills the cache."""
    cfg = side_config(side, setup, settings)
    loader = build_loader(cfg.train_dataloader)
    if settings.get('clip_cache') and side == 'ours':
        for _ in loader:
            pass
    batches = read_batches(loader)
    next(batches)
    while True:
        turns.wait()
        turns.report(in_turn_time(lambda: next(batches), setup.seconds))


def _measure(setup: Setup, cache: str | None) -> Outcome:
    setup = setup.with_data()
    settings = dict(clip_cache=cache)
    if cache:
        settings['cache_dir'] = setup.scratch(f'cache-{cache}')
    sides = {}
    for side in ('stock', 'ours'):
        sides[side] = dict(side=side, setup=setup, settings=settings)
    name = f'train_pipeline_{cache or "decode"}'
    with SideProcess(f'{name}, stock', train_pipeline, sides['stock'],
                     setup.log(f'{name}-stock'), one_core=True) as stock, \
         SideProcess(f'{name}, ours', train_pipeline, sides['ours'],
                     setup.log(f'{name}-ours'), one_core=True) as ours:
        pairs = take_turns(stock, ours, setup.repetitions(5))
    note = (f'one core, a clip: stock {median_text(pairs.stock, "s")}, ours '
            f'{median_text(pairs.ours, "s")} (ours also jitters colours, unless told not '
            'to)')
    return summarize(pair_ratios(pairs.stock, pairs.ours), note)


def memmap(setup: Setup) -> Outcome:
    """Measures the training pipeline from the memory-mapped cache."""
    return _measure(setup, 'memmap')


def jpeg(setup: Setup) -> Outcome:
    """Measures the training pipeline from the JPEG cache."""
    return _measure(setup, 'jpeg')


def decode(setup: Setup) -> Outcome:
    """Measures the training pipeline without a cache."""
    return _measure(setup, None)


ROWS = [
    Row('train_pipeline_memmap', 'training pipeline from the memory-mapped cache, one core',
        memmap, goal=15),
    Row('train_pipeline_jpeg', 'training pipeline from the JPEG cache, one core', jpeg,
        goal=8),
    Row('train_pipeline_decode', 'training pipeline without a cache, one core', decode,
        goal=1.5),
]
