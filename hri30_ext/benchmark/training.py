"""Training: a step, the whole loop, and the time to an accuracy."""

import contextlib
import copy
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from mmaction.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..apis.training import keep_validation_clips
from ..engine import HRI30Runner
from .processes import Pairs, Sampler, SideProcess, median_text, take_turns
from .rows import Outcome, Row, pair_ratios, summarize
from .setup import DEMO, PRIMITIVE, Setup, gpu_utilization, synchronize
from .stock import demo_config, stock_config

_BATCH = 8  # clips of a step
_ACCURACY = 0.90


def save_weights(turns, setup: Setup, config: str, path: str) -> None:
    """Saves a model of ours with random weights, in one turn."""
    cfg = setup.ours(config)
    init_default_scope('mmaction')
    turns.wait()
    torch.manual_seed(cfg.randomness.seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    turns.report(0)
    turns.wait()


def initial_weights(setup: Setup, config: str = PRIMITIVE) -> str:
    """Makes a checkpoint of random weights, for both sides to start from.

    Args:
        setup (Setup): Of the run.
        config (str): Of the model.

    Returns:
        str: Path of the checkpoint; the same for the same model.
    """
    path = Path(setup.work_dir) / f'{Path(config).stem}-initial.pth'
    if not path.is_file():
        with SideProcess('initial weights', save_weights, dict(
                setup=setup, config=config, path=str(path)), setup.log('weights')) as side:
            side.ready()
            side.turn()
    return str(path)


class _Replay:
    """Serves one batch without an end, in the place of a loader.

    Args:
        loader (DataLoader): For what hooks ask of it.
        batch (dict): Collated.
    """

    def __init__(self, loader, batch: dict) -> None:
        self._loader, self._batch = loader, batch

    def __iter__(self) -> Iterator[dict]:
        while True:
            yield dict(self._batch, data_samples=copy.deepcopy(self._batch['data_samples']))

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str):
        return getattr(self._loader, name)


class _StepsInTurns(Hook):
    """Lets a training go on only while it is its turn.

    Args:
        turns (Turns): Of the process.
        steps (int): Of a turn, whose cost is the seconds of one.
        loading (bool): Whether the time between steps, in which batches are waited for,
            belongs to the cost.
    """

    priority = 'LOWEST'

    def __init__(self, turns, steps: int, loading: bool = False) -> None:
        self.turns, self.steps, self.loading = turns, steps, loading
        self._seconds, self._done, self._waited = 0.0, 0, 0.0
        self._stopped = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Waits for the turn, and starts the clock."""
        if self.turns.running and self.loading:
            now = time.perf_counter()
            self._seconds += now - self._stopped
            self._waited += now - self._stopped
        if not self.turns.running:
            self.turns.wait()
        synchronize()
        self._start = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Stops the clock; ends the turn after its steps."""
        synchronize()
        self._stopped = time.perf_counter()
        self._seconds += self._stopped - self._start
        self._done += 1
        if self._done == self.steps:
            cost, waited = self._seconds / self.steps, self._waited
            share = waited / self._seconds
            self._seconds, self._done, self._waited = 0.0, 0, 0.0
            self.turns.report(cost, waiting=share)


def build_trainer(side: str, setup: Setup, **settings) -> Runner:
    """Builds the runner of a side, with its loop: all that its ``train`` command builds.

    Args:
        side (str): ``stock``, or ``ours`` as shipped.
        setup (Setup): Of the run.
        **settings: Of ours; stock follows them where it must (batch size).
    """
    ours = setup.ours(**settings)
    if side == 'stock':
        cfg, kind = stock_config(ours, setup.scratch('stock')), Runner
    else:
        cfg, kind = ours, HRI30Runner
    cfg.experiment_name = f'{side}-{time.time_ns()}'
    runner = kind.from_cfg(cfg)
    return runner


def train_step(turns, side: str, setup: Setup, settings: dict, steps: int) -> None:
    """Trains in turns on a batch that lies ready in memory.

    The batch is the first of the side's own pipeline. The clock runs over the whole step:
    data preprocessor, forward, backward, optimizer and what hooks do after it.
    """
    runner = build_trainer(side, setup, num_workers=0, **settings)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    loader = runner.train_loop.dataloader
    if side == 'stock':  # it has loaders of its own, which would go on reading
        runner.train_loop.dataloader = loader = Runner.build_dataloader(
            dict(runner.cfg.train_dataloader, num_workers=0, persistent_workers=False))
    runner.train_loop.dataloader = _Replay(loader, next(iter(loader)))
    runner.register_hook(_StepsInTurns(turns, steps))
    runner.train()


def train_loop(turns, side: str, setup: Setup, settings: dict, steps: int) -> None:
    """Trains in turns, loading batches as the side does."""
    runner = build_trainer(side, setup, **settings)
    runner.register_hook(_StepsInTurns(turns, steps, loading=True))
    # Its first epochs never end in a validation.
    runner._val_loop = runner._val_evaluator = runner._val_dataloader = None
    runner.train()


def _batch(setup: Setup) -> int:
    """Returns the clips of a step, which ``--cfg-options batch_size`` may change."""
    return setup.ours(batch_size=_BATCH).batch_size


def _steps(setup: Setup, cpu: int = 1, cuda: int = 20) -> int:
    return cuda if setup.device == 'cuda' else cpu


def _in_pairs(name: str, side_function, setup: Setup, arguments: dict, rounds: int,
              second: dict | None = None) -> Pairs:
    """Lets stock and ours take turns; or, with ``second``, ours and ours otherwise."""
    arguments = dict(arguments, setup=setup)
    first = dict(arguments, side='ours' if second else 'stock')
    second = dict(arguments, side='ours', **(second or {}))
    with SideProcess(f'{name}, first side', side_function, first,
                     setup.log(f'{name}-first')) as a, \
         SideProcess(f'{name}, ours', side_function, second,
                     setup.log(f'{name}-ours')) as b:
        return take_turns(a, b, setup.repetitions(rounds))


def step(setup: Setup) -> Outcome:
    """Measures a training step of SlowOnly R50, 8x224x224, batch 8."""
    setup = setup.with_data()
    pairs = _in_pairs('train_step', train_step, setup, dict(
        settings=dict(batch_size=_BATCH), steps=_steps(setup)), rounds=3)
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'SlowOnly R50, batch {_batch(setup)}, a step: stock '
        f'{median_text(pairs.stock, "s")}, ours {median_text(pairs.ours, "s")}')


def compiled_step(setup: Setup) -> Outcome:
    """Measures what ``torch.compile`` changes in our step."""
    setup = setup.with_data()
    settings = dict(batch_size=_BATCH)
    pairs = _in_pairs(
        'compile', train_step, setup, dict(settings=settings, steps=_steps(setup)),
        rounds=3, second=dict(settings=dict(settings, compile=True)))
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'our step, batch {_batch(setup)}: not compiled '
        f'{median_text(pairs.stock, "s")}, compiled {median_text(pairs.ours, "s")}; '
        'compiling itself is not counted')


def loop(setup: Setup) -> Outcome:
    """Measures training as it runs, and whether data or compute is the bound."""
    setup = setup.with_data()
    with Sampler(gpu_utilization, 0.5) as gpu:
        pairs = _in_pairs('train_loop', train_loop, setup, dict(
            settings=dict(batch_size=_BATCH), steps=_steps(setup, cpu=2)), rounds=3)
    share = statistics.median_high(more['waiting'] for more in pairs.ours_more)
    bound = 'data' if share > 0.2 else 'compute'
    busy = (f'; the GPU was busy {sum(gpu.readings) / len(gpu.readings):.0f} % of the '
            'time, both sides together' if gpu.readings and setup.device == 'cuda' else '')
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'batch {_batch(setup)}, a step with its data: stock '
        f'{median_text(pairs.stock, "s")}, ours {median_text(pairs.ours, "s")}; ours waits '
        f'for data {share:.0%} of the time: {bound} is the bound{busy}')


# ---- Time to an accuracy ----------------------------------------------------------------


class _Reached(Exception):
    """Ends a training that is good enough, or has run long enough."""


class _Watch(Hook):
    """Notes the validation accuracies, and ends the training.

    Args:
        start (float): Of ``time.perf_counter``.
        key (str): Of the validation's accuracy.
        limit (float): Seconds.
    """

    priority = 'LOWEST'

    def __init__(self, start: float, key: str, limit: float) -> None:
        self.start, self.key, self.limit = start, key, limit
        self.history: list[tuple[float, float]] = []  # seconds, top-1

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Notes the accuracy."""
        self.history.append((time.perf_counter() - self.start, float(metrics[self.key])))
        if self.history[-1][1] >= _ACCURACY:
            raise _Reached

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Ends what has run too long."""
        if time.perf_counter() - self.start > self.limit:
            raise _Reached


def train_to_accuracy(turns, side: str, setup: Setup, checkpoint: str, flip: bool) -> None:
    """Trains the demo's model in one turn, from building the runner on."""
    ours = setup.ours(DEMO, cache_dir=setup.scratch('cache'))
    keep_validation_clips(ours)
    cfg = ours if side == 'ours' else demo_config(ours, setup.scratch('stock'), flip)
    cfg.load_from = checkpoint
    cfg.experiment_name = f'{side}-{time.time_ns()}'
    turns.wait()
    start = time.perf_counter()
    kind, key = (HRI30Runner, 'top1') if side == 'ours' else (Runner, 'acc/top1')
    runner = kind.from_cfg(cfg)
    watch = _Watch(start, key, setup.limit * 60)
    runner.register_hook(watch)
    with contextlib.suppress(_Reached):
        runner.train()
    turns.report(time.perf_counter() - start, history=watch.history)
    turns.wait()


def summarize_races(stock: tuple[float, list], ours: tuple[float, list], what: str
                    ) -> Outcome:
    """Compares two trainings.

    Args:
        stock (tuple[float, list]): Seconds, and seconds and top-1 of each validation.
        ours (tuple[float, list]): Likewise.
        what (str): For the note.

    Returns:
        Outcome: No ratio where ours fell short. Where stock did, the ratio of its seconds
        is a lower bound.
    """
    def told(name, seconds, history):
        best = max((top1 for _, top1 in history), default=0)
        reached = best >= _ACCURACY
        text = f'{seconds / 60:.1f} min' if reached else (
            f'more than {seconds / 60:.1f} min (best top-1 {best:.3f})')
        return reached, f'{name} {text}, {len(history)} epochs'

    stock_reached, stock_text = told('stock', *stock)
    ours_reached, ours_text = told('ours', *ours)
    note = f'top-1 {_ACCURACY:.2f}: {stock_text}; {ours_text}; {what}'
    if not ours_reached:
        return Outcome(None, note=note, failed=True)
    ratio = stock[0] / ours[0]
    if stock_reached:
        return Outcome(ratio, ratio, ratio, note)
    return Outcome(ratio, ratio, None, f'at least; {note}')


def _race(setup: Setup, flip: bool) -> Outcome:
    setup = setup.with_data(many=True)
    checkpoint = initial_weights(setup, DEMO)
    found = {}
    for side in ('ours', 'stock'):
        arguments = dict(side=side, setup=setup, checkpoint=checkpoint, flip=flip)
        name = f'time_to_accuracy{"" if flip else "_no_flip"}-{side}'
        with SideProcess(name, train_to_accuracy, arguments, setup.log(name)) as process:
            process.ready()
            cost, more = process.turn()
            found[side] = cost, more['history']
    return summarize_races(
        found['stock'], found['ours'],
        "the demo's model, optimizer, rates and epochs on both sides, from the same "
        'weights; one run each' + ('' if flip else '; stock without its flip, which keeps '
                                   'labels of left and right'))


def time_to_accuracy(setup: Setup) -> Outcome:
    """Measures the time to 0.90 top-1, stock with all its steps."""
    return _race(setup, flip=True)


def time_to_accuracy_no_flip(setup: Setup) -> Outcome:
    """Measures the same with a stock pipeline that does not mislabel flipped clips."""
    return _race(setup, flip=False)


ROWS = [
    Row('train_step', 'training step, SlowOnly R50, 8x224x224, batch 8', step, goal=2.3),
    Row('train_loop', 'training with its data, SlowOnly R50, batch 8; what is the bound',
        loop, default=False),
    Row('compile', 'our training step, torch.compile against not', compiled_step,
        default=False),
    Row('time_to_accuracy', "wall time to 0.90 top-1 on unseen groups, the demo's model",
        time_to_accuracy, goal=4, default=False),
    Row('time_to_accuracy_no_flip', 'the same, stock without its flip',
        time_to_accuracy_no_flip, default=False),
]
