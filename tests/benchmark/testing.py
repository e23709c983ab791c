"""Testing: a split with default views, one view alone, and the accuracies of both."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from benchmark.rows import Outcome, row, summarize
from benchmark.setup import DEMO, PRIMITIVE, Setup
from benchmark.stock import demo_config, same_view, stock_config
from benchmark.training import initial_weights
from benchmark.turns import compare
from hri30_ext.apis.testing import Stopwatch, prepare, run_split


def spread(count: int, of: int) -> list[int]:
    """Chooses positions evenly over a list: all classes, for a list sorted by class.

    >>> spread(3, 9)
    [0, 4, 8]
    """
    return sorted(set(np.linspace(0, of - 1, min(count, of)).round().astype(int).tolist()))


def _indices(setup: Setup, config: str, clips: int | None) -> list[int]:
    init_default_scope('mmaction')
    dataset = dict(setup.ours(config).val_dataloader.dataset, pipeline=[])
    total = len(DATASETS.build(dataset))
    return spread(clips or total, total)


def our_test(setup: Setup, checkpoint: str, clips: int | None, config: str = PRIMITIVE,
             **settings) -> Callable:
    """Tests the validation clips with the function behind ``tools/test.sh``.

    Args:
        setup (Setup): Of the run.
        checkpoint (str): The weights.
        clips (int, optional): How many, spread over the split; None: all.
        config (str): Of the model.
        **settings: For the config.
    """
    cfg = prepare(config, checkpoint, {
        'data_root': setup.data_root, **settings, **setup.options})
    indices = _indices(setup, config, clips)
    cfg.test_dataloader.dataset.indices = indices

    def turn() -> tuple[float, dict]:
        tested = run_split(cfg, 'val', Path(setup.scratch('logs')))
        return tested.seconds / len(indices), dict(top1=tested.metrics['top1'])
    return turn


def stock_test(setup: Setup, checkpoint: str, clips: int | None, config: str = PRIMITIVE,
               view: str = 'stock', batch_size: int = 1) -> Callable:
    """Tests the same clips with mmengine's runner and mmaction2's pipeline.

    Args:
        setup, checkpoint, clips, config: As in :func:`our_test`.
        view (str): ``'stock'``: 10 clips x ``ThreeCrop``; ``'ours'``: our single view.
        batch_size (int): Clips at once; stock's own is 1.
    """
    ours, work = setup.ours(config), setup.scratch('stock')
    cfg = demo_config(ours, work) if config == DEMO else stock_config(ours, work)
    if view == 'ours':
        cfg = same_view(cfg, ours)
    indices = _indices(setup, config, clips)
    cfg.load_from = checkpoint
    cfg.test_dataloader.dataset.indices = indices
    cfg.test_dataloader.batch_size = batch_size
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None

    def turn() -> tuple[float, dict]:
        cfg.experiment_name = f'stock-{time.time_ns()}'
        runner = Runner.from_cfg(cfg)
        stopwatch = Stopwatch()
        runner.register_hook(stopwatch)
        metrics = runner.test()
        return stopwatch.seconds / len(indices), dict(top1=float(metrics['acc/top1']))
    return turn


@row('test_split', 'test of a split with default views, SlowOnly R50', goal=15)
def test_split(setup: Setup) -> Outcome:
    """Measures a test with default views: stock has 30 a clip."""
    setup = setup.with_data()
    weights, few = initial_weights(setup), setup.for_device(1, 32)
    many = setup.for_device(16, 64)
    pairs = compare('test_split', setup, (stock_test, dict(checkpoint=weights, clips=few)),
                    (our_test, dict(checkpoint=weights, clips=many)), rounds=3)
    return pairs.outcome(
        'SlowOnly R50, decode to score, a clip, 10 clips x ThreeCrop of 256 against our '
        f'default views, {few} and {many} clips a turn')


@row('single_view', 'the same single view, SlowOnly R50, decode to score', goal=2)
def single_view(setup: Setup) -> Outcome:
    """Measures a test with one view, the same on both sides."""
    setup = setup.with_data()
    shared = dict(checkpoint=initial_weights(setup), clips=setup.for_device(16, 64))
    # Stock tests clip by clip; batches make it no slower.
    batch = setup.ours().test_dataloader.batch_size
    pairs = compare('single_view', setup,
                    (stock_test, dict(shared, view='ours', batch_size=batch)),
                    (our_test, dict(shared, sampling='mmaction2')), rounds=3)
    return pairs.outcome(f'SlowOnly R50, decode to score, batches of {batch}, a clip')


@row('test_top1', "cost of our views in top-1, the demo's model (--checkpoint)", goal=-0.5,
     unit='points')
def test_top1(setup: Setup) -> Outcome:
    """Compares the top-1 of both tests, with a trained checkpoint of the demo."""
    if not setup.checkpoint:
        return Outcome(None, note="not measured: needs --checkpoint, of the demo's model")
    setup = setup.with_demo_data()
    shared = dict(checkpoint=setup.checkpoint, config=DEMO, clips=None)
    pairs = compare('test_top1', setup, (stock_test, shared), (our_test, shared), rounds=1,
                    warm_ups=0)
    (_, stock), (_, ours) = pairs.stock[0], pairs.ours[0]
    width, short = setup.ours(DEMO).input_size[0], setup.ours(DEMO).decode_size
    return summarize([100 * (ours['top1'] - stock['top1'])], (
        f"the demo's validation clips: top-1 stock {stock['top1']:.4f} (10 clips x "
        f'ThreeCrop of {width}x{short}, short side {short}), ours {ours["top1"]:.4f} '
        f'(default views); {pairs.outcome("a clip").note}'))
