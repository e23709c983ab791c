"""Training: a step, the whole loop, and the time to an accuracy."""

import contextlib
import copy
import itertools
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import psutil
import torch
from mmaction.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from benchmark.rows import Outcome, row, summarize
from benchmark.setup import (
    DEMO,
    PRIMITIVE,
    Setup,
    seconds_of,
    synchronize,
)
from benchmark.stock import demo_config, stock_config
from benchmark.turns import Side, compare
from hri30_ext.apis.training import keep_validation_clips
from hri30_ext.engine import HRI30Runner
from hri30_ext.models.complexity import measure_complexity

_BATCH = 8  # clips a step
_ACCURACY = 0.90


def save_weights(setup: Setup, config: str, path: str) -> None:
    """Saves one of our models with random weights."""
    cfg = setup.ours(config)
    init_default_scope('mmaction')
    torch.manual_seed(cfg.randomness.seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


def initial_weights(setup: Setup, config: str = PRIMITIVE) -> str:
    """Returns the path of a checkpoint of random weights, which both sides start from."""
    path = Path(setup.work_dir) / f'{Path(config).stem}-initial.pth'
    if not path.is_file():
        with Side('initial weights', save_weights, setup,
                  dict(config=config, path=str(path))) as side:
            side.ready()
    return str(path)


def start_training(side: str, setup: Setup, **settings) -> Runner:
    """Starts the training of ``stock``, which follows our batch size, or of ``ours``.

    Everything happens that a training does before its first step; then :func:`steps` takes
    over from the loop.
    """
    ours = setup.ours(**settings)
    stock = side == 'stock'
    cfg = stock_config(ours, setup.scratch('stock')) if stock else ours
    cfg.experiment_name = f'{side}-{time.time_ns()}'
    runner = (Runner if stock else HRI30Runner).from_cfg(cfg)
    runner._train_loop = loop = runner.build_train_loop(runner._train_loop)
    runner._val_loop = None
    with mock.patch.object(loop, 'run', lambda: None):
        runner.train()
    for stage in ('before_train', 'before_train_epoch'):
        runner.call_hook(stage)
    runner.model.train()
    return runner


def train_step(setup: Setup, side: str, settings: dict, steps: int) -> Callable:
    """Trains on the first batch of the side's own pipeline, kept in memory.

    The clock covers the whole step: data preprocessor, forward, backward, optimizer and
    the hooks around it.
    """
    runner = start_training(side, setup, num_workers=0, **settings)
    loader = Runner.build_dataloader(
        dict(runner.cfg.train_dataloader, num_workers=0, persistent_workers=False))
    batch, loop = next(iter(loader)), runner.train_loop

    def work() -> None:
        for i in range(steps):
            loop.run_iter(i, dict(batch, data_samples=copy.deepcopy(batch['data_samples'])))
    return lambda: seconds_of(work) / steps


def train_loop(setup: Setup, side: str, settings: dict, steps: int) -> Callable:
    """Trains with batches as the side loads them; the clock covers the loading."""
    loop = start_training(side, setup, **settings).train_loop
    batches = (batch for _ in itertools.count() for batch in loop.dataloader)

    def turn() -> tuple[float, dict]:
        waiting = 0.0
        start = time.perf_counter()
        for i in range(steps):
            asked = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - asked
            loop.run_iter(i, batch)
            synchronize()
        total = time.perf_counter() - start
        return total / steps, dict(waiting=waiting / total)
    return turn


def _side(function, side: str, steps: int, **settings) -> tuple:
    return function, dict(side=side, steps=steps, settings=dict(
        batch_size=_BATCH, **settings))


def _batch(setup: Setup) -> int:
    """Returns the clips of a step; ``--cfg-options`` may set another number."""
    return setup.ours(batch_size=_BATCH).batch_size


@row('train_step', 'training step, SlowOnly R50, 8x224x224, batch 8', goal=2.3)
def step(setup: Setup) -> Outcome:
    """Measures a training step."""
    setup, steps = setup.with_data(), setup.for_device(1, 20)
    pairs = compare('train_step', setup, _side(train_step, 'stock', steps),
                    _side(train_step, 'ours', steps), rounds=3)
    return pairs.outcome(f'SlowOnly R50, batch {_batch(setup)}, a step')


# ---- Throughput -------------------------------------------------------------------------

#: Dense bf16 in TFLOP/s, of NVIDIA's data sheets; the T4 has fp16 alone.
_PEAKS = {'H200': 989, 'H100 PCIe': 756, 'H100': 989, 'A100': 312, 'L40S': 362, 'L4': 121,
          'T4': 65}


def peak_flops(card: str) -> float | None:
    """Returns the peak of a card by its name, in operations a second; None if unknown."""
    return next((peak * 1e12 for name, peak in _PEAKS.items()
                 if re.search(rf'\b{name}\b', card)), None)


def train_throughput(setup: Setup, batch: int, steps: int) -> Callable:
    """Trains as a user does; a turn costs clips a second."""
    macs = measure_complexity(setup.ours()).flops
    train = train_loop(setup, 'ours', dict(batch_size=batch), steps)

    def turn() -> tuple[float, dict]:
        seconds, more = train()
        memory = (torch.cuda.max_memory_allocated() if setup.device == 'cuda'
                  else psutil.Process().memory_info().rss)
        return batch / seconds, dict(more, macs=macs, memory=memory)
    return turn


@row('throughput', 'clips a second in training with its data, SlowOnly R50', unit='clips/s',
     default=False)
def throughput(setup: Setup) -> Outcome:
    """Measures our training alone: clips a second, waiting, MFU and memory."""
    setup, steps = setup.with_data(), setup.for_device(2, 50)
    batch = setup.ours(batch_size=setup.for_device(_BATCH, 32)).batch_size
    arguments = dict(batch=batch, steps=steps)
    with Side('throughput', train_throughput, setup, arguments) as side:
        side.ready()
        turns = [side.turn() for _ in range(1 + (setup.rounds or 3))][1:]
    figures, more = [rate for rate, _ in turns], turns[-1][1]
    peak = peak_flops(torch.cuda.get_device_name()) if setup.device == 'cuda' else None
    # Forward and backward pass: three times the forward; a multiply-add is two operations.
    used = 6 * more['macs'] * statistics.median(figures)
    return summarize(figures, (
        f'batch {batch}, waits for data '
        f'{statistics.median_high(each["waiting"] for _, each in turns):.0%} of the time, '
        f'{used / 1e12:.3g} TFLOP/s' + (f' (MFU {used / peak:.1%})' if peak else
                                        ' (MFU: no peak of this device is known)')
        + f', {more["memory"] / 2 ** 30:.2f} GiB of '
        + ('the GPU at most' if setup.device == 'cuda' else 'main memory')))


# ---- Time to an accuracy ----------------------------------------------------------------


class _Finished(Exception):
    """Ends a training that is accurate enough or has run too long."""


class _Watch(Hook):
    """Records the validation accuracies, and ends the training.

    ``start`` is of ``time.perf_counter``, ``key`` names the accuracy, ``limit`` is in
    seconds.
    """

    priority = 'LOWEST'

    def __init__(self, start: float, key: str, limit: float) -> None:
        self.start, self.key, self.limit = start, key, limit
        self.history: list[tuple[float, float]] = []  # seconds, top-1

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Records the accuracy."""
        self.history.append((time.perf_counter() - self.start, float(metrics[self.key])))
        if self.history[-1][1] >= _ACCURACY:
            raise _Finished

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Ends a training at the limit."""
        if time.perf_counter() - self.start > self.limit:
            raise _Finished


def train_to_accuracy(setup: Setup, side: str, checkpoint: str) -> Callable:
    """Trains the demo's model in one turn, which includes building the runner."""
    ours = setup.ours(DEMO, cache_dir=setup.scratch('cache'))
    keep_validation_clips(ours)
    cfg = ours if side == 'ours' else demo_config(ours, setup.scratch('stock'))
    cfg.load_from = checkpoint
    cfg.experiment_name = f'{side}-{time.time_ns()}'
    kind, key = (HRI30Runner, 'top1') if side == 'ours' else (Runner, 'acc/top1')

    def turn() -> tuple[float, dict]:
        start = time.perf_counter()
        runner = kind.from_cfg(cfg)
        watch = _Watch(start, key, setup.limit * 60)
        runner.register_hook(watch)
        with contextlib.suppress(_Finished):
            runner.train()
        return time.perf_counter() - start, dict(history=watch.history)
    return turn


def summarize_races(stock: tuple, ours: tuple, what: str) -> Outcome:
    """Compares two trainings, each seconds and (seconds, top-1) of its validations.

    There is no ratio if ours did not reach the accuracy. If stock did not, the ratio is a
    lower bound.
    """
    texts, reached = [], []
    for name, (seconds, history) in (('stock', stock), ('ours', ours)):
        best = max((top1 for _, top1 in history), default=0)
        reached.append(best >= _ACCURACY)
        time_text = f'{seconds / 60:.1f} min' if reached[-1] else (
            f'more than {seconds / 60:.1f} min (best top-1 {best:.3f})')
        texts.append(f'{name} {time_text}, {len(history)} epochs')
    note = f'top-1 {_ACCURACY:.2f}: {"; ".join(texts)}; {what}'
    if not reached[1]:
        return Outcome(None, note=note, failed=True)
    ratio = stock[0] / ours[0]
    return Outcome(ratio, ratio, ratio, note) if reached[0] else (
        Outcome(ratio, ratio, None, f'at least; {note}'))


@row('time_to_accuracy', "wall time to 0.90 top-1 on unseen groups, the demo's model",
     goal=4, default=False)
def race(setup: Setup) -> Outcome:
    """Measures the time to 0.90 top-1."""
    setup = setup.with_demo_data()
    checkpoint = initial_weights(setup, DEMO)
    results = {}
    for side in ('ours', 'stock'):
        with Side(f'time_to_accuracy, {side}', train_to_accuracy, setup,
                  dict(checkpoint=checkpoint, side=side)) as process:
            process.ready()
            cost, more = process.turn()
            results[side] = cost, more['history']
    return summarize_races(
        results['stock'], results['ours'],
        "the demo's model, optimizer, rates and epochs on both sides, from the same "
        'weights; one run each')


