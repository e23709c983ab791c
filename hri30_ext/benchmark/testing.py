"""Testing: a split with default views, one view alone, and the accuracies of both."""

import time
from pathlib import Path

import numpy as np
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..apis.testing import Stopwatch, prepare, run_split
from .processes import Pairs, SideProcess, median_text, take_turns
from .rows import Outcome, Row, pair_ratios, summarize
from .setup import DEMO, PRIMITIVE, Setup
from .stock import demo_config, same_view, stock_config
from .training import initial_weights


def spread(count: int, of: int) -> list[int]:
    """Chooses positions evenly over a list: of all classes, for a list by class.

    >>> spread(3, 9)
    [0, 4, 8]
    """
    return sorted(set(np.linspace(0, of - 1, min(count, of)).round().astype(int).tolist()))


def our_test_config(setup: Setup, checkpoint: str, config: str, **settings) -> Config:
    """Reads our config as ``tools/test.sh`` does."""
    return prepare(config, checkpoint, {
        'data_root': setup.data_root, **settings, **setup.options})


def our_test(turns, setup: Setup, checkpoint: str, clips: int | None,
             config: str = PRIMITIVE, settings: dict | None = None) -> None:
    """Tests the validation clips in turns, by what ``tools/test.sh`` calls.

    Args:
        turns (Turns): Of the process.
        setup (Setup): Of the run.
        checkpoint (str): The weights.
        clips (int, optional): How many, spread over the split; None: all.
        config (str): Of the model.
        settings (dict, optional): For the config.
    """
    cfg = our_test_config(setup, checkpoint, config, **(settings or {}))
    total = _number_of_clips(setup, config)
    chosen = spread(clips or total, total)
    cfg.test_dataloader.dataset.indices = chosen
    while True:
        turns.wait()
        tested = run_split(cfg, 'val', Path(setup.scratch('result')))
        turns.report(tested.seconds / len(chosen), top1=tested.metrics.get('top1'))


def stock_test(turns, setup: Setup, checkpoint: str, clips: int | None,
               config: str = PRIMITIVE, view: str = 'stock',
               settings: dict | None = None) -> None:
    """Tests the same clips in turns with mmengine's runner and mmaction2's pipeline.

    Args:
        turns, setup, checkpoint, clips, config: As of :func:`our_test`.
        view (str): ``'stock'``: 10 clips x ``ThreeCrop``; ``'ours'``: our single view.
        settings (dict, optional): Batch size of the test loader.
    """
    ours = setup.ours(config)
    work = setup.scratch('stock')
    cfg = demo_config(ours, work) if config == DEMO else stock_config(ours, work)
    if view == 'ours':
        cfg = same_view(cfg, ours)
    cfg.load_from = checkpoint
    total = _number_of_clips(setup, config)
    chosen = spread(clips or total, total)
    cfg.test_dataloader.dataset.indices = chosen
    cfg.test_dataloader.update(settings or {})
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    while True:
        turns.wait()
        cfg.experiment_name = f'stock-{time.time_ns()}'
        runner = Runner.from_cfg(cfg)
        stopwatch = Stopwatch()
        runner.register_hook(stopwatch)
        metrics = runner.test()
        turns.report(stopwatch.seconds / len(chosen), top1=float(metrics['acc/top1']))


def _number_of_clips(setup: Setup, config: str) -> int:
    init_default_scope('mmaction')
    return len(DATASETS.build(dict(setup.ours(config).val_dataloader.dataset, pipeline=[])))


def _in_turns(name: str, setup: Setup, stock: dict, ours: dict, rounds: int,
              warm_ups: int = 1) -> Pairs:
    with SideProcess(f'{name}, stock', stock_test, dict(stock, setup=setup),
                     setup.log(f'{name}-stock')) as a, \
         SideProcess(f'{name}, ours', our_test, dict(ours, setup=setup),
                     setup.log(f'{name}-ours')) as b:
        return take_turns(a, b, setup.repetitions(rounds), warm_ups)


def test_split(setup: Setup) -> Outcome:
    """Measures a test with default views: stock has 30 a clip."""
    setup = setup.with_data()
    shared = dict(checkpoint=initial_weights(setup))
    few, many = (32, 64) if setup.device == 'cuda' else (1, 16)
    pairs = _in_turns('test_split', setup, dict(shared, clips=few),
                      dict(shared, clips=many), rounds=3)
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'SlowOnly R50, decode to score, a clip: stock (10 clips x ThreeCrop of 256, {few} '
        f'clips a turn) {median_text(pairs.stock, "s")}, ours (default views, {many} '
        f'clips) {median_text(pairs.ours, "s")}')


def single_view(setup: Setup) -> Outcome:
    """Measures a test with one view, the same on both sides."""
    setup = setup.with_data()
    clips = 64 if setup.device == 'cuda' else 16
    shared = dict(checkpoint=initial_weights(setup), clips=clips)
    # Stock tests clip by clip; in batches it does no worse.
    batch = setup.ours().test_dataloader.batch_size
    pairs = _in_turns('single_view', setup,
                      dict(shared, view='ours', settings=dict(batch_size=batch)), shared,
                      rounds=3)
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'SlowOnly R50, decode to score, batches of {batch}, a clip: stock '
        f'{median_text(pairs.stock, "s")}, ours {median_text(pairs.ours, "s")}')


def test_top1(setup: Setup) -> Outcome:
    """Compares the top-1 of both test paths, with a trained checkpoint of the demo."""
    if not setup.checkpoint:
        return Outcome(None, note="not measured: wants --checkpoint, of the demo's model")
    setup = setup.with_data(many=True)
    shared = dict(checkpoint=setup.checkpoint, config=DEMO, clips=None)
    pairs = _in_turns('test_top1', setup, shared, shared, rounds=1, warm_ups=0)
    stock, ours = pairs.stock_more[0]['top1'], pairs.ours_more[0]['top1']
    points = 100 * (ours - stock)
    width, short = setup.ours(DEMO).input_size[0], setup.ours(DEMO).decode_size
    return Outcome(
        points, points, points,
        f"the demo's validation clips: top-1 stock {stock:.4f} (10 clips x ThreeCrop of "
        f'{width}x{short}, short side {short}), ours {ours:.4f} (default views); a clip: '
        f'stock {pairs.stock[0]:.3g} s, ours {pairs.ours[0]:.3g} s, '
        f'{pairs.stock[0] / pairs.ours[0]:.1f}x')


ROWS = [
    Row('test_split', 'test of a split with default views, SlowOnly R50', test_split,
        goal=15),
    Row('test_top1', "what that costs in top-1, the demo's model (--checkpoint)", test_top1,
        goal=-0.5, unit='points'),
    Row('single_view', 'the same single view, SlowOnly R50, decode to score', single_view,
        goal=2),
]
