"""Testing a checkpoint: metrics where labels are known, predictions everywhere."""

import contextlib
import copy
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..config import load_config
from ..datasets.hri30 import find_test_folder
from ..engine import HRI30Runner, distributed
from ..engine.data_parallel import use_processes
from ..errors import HRI30Error, first_cases
from ..evaluation.analysis import write_analysis
from ..evaluation.calibration import (
    apply_temperature,
    fit_temperature,
    load_temperature,
    negative_log_likelihood,
    save_temperature,
)
from ..evaluation.metrics import HRI30Metric
from ..evaluation.results import Results
from ..evaluation.writers import FAILED, SUBMISSION, write_results
from ..hardware import unwrap
from ..models.views import clips_at_once, compute_views_once
from ..report import write_report
from ..transforms.flip import mirrored_labels
from ..transforms.views import check_num_views
from ..utils.fileio import check_writable
from .common import (
    check_environment,
    describe_data,
    describe_device,
    drop_pretrained,
    explain_out_of_memory,
)

SPLITS = ('val', 'test', 'all')


@distributed.explain_lost_peer()
def test(config: str, checkpoint: str, split: str = 'all', out: str | None = None,
         options: dict | None = None, launcher: str = 'none') -> dict[str, dict]:
    """Tests a checkpoint and writes a result folder for each split.

    Several processes share the clips; the first one writes. ``deterministic=True`` among
    the options gives the same bytes in any number of them.

    Args:
        config (str): Path of the config.
        checkpoint (str): Its weights.
        split (str): ``val``, ``test``, or ``all``: both, where there are test
            clips.
        out (str, optional): Gets ``val/`` and ``test/``; by default the
            folder of the checkpoint.
        options (dict, optional): As parsed from ``--cfg-options``.
        launcher (str): ``pytorch`` where this is one of several processes.

    Returns:
        dict[str, dict]: Metrics of each split, over the clips that could be read; where
        some could not, ``num_failed`` is among them.

    Raises:
        HRI30Error: a mistake of the user's.
    """
    cfg = prepare(config, checkpoint, options, launcher)
    distributed.start(launcher, cfg.peer_timeout)
    use_processes(cfg)
    out = Path(out or Path(checkpoint).parent).expanduser().resolve()
    distributed.on_main(check_writable, out)
    splits = ['val', 'test'] if split == 'all' else [split]
    if split == 'all' and find_test_folder(cfg.data_root) is None:
        splits = ['val']
    metrics = {name: run_split(cfg, name, out / name)[0] for name in splits}
    if is_main_process():
        _analyze(cfg, checkpoint, out, splits)
        _report(cfg, metrics, out)
    return metrics


def prepare(config: str, checkpoint: str, options: dict | None = None,
            launcher: str = 'none') -> Config:
    """Reads a config for testing a checkpoint; arguments are those of :func:`test`.

    Returns:
        Config: Without what only training needs.

    Raises:
        HRI30Error: a mistake of the user's.
    """
    cfg = load_config(config, options)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise HRI30Error(f'{checkpoint}: no such checkpoint.\nExpected a .pth file, as '
                         'tools/train.sh names it when it ends.')
    cfg.launcher = launcher
    cfg.load_from, cfg.resume = str(path.resolve()), False
    drop_pretrained(cfg)
    # Nothing is trained: no loop, no optimizer, no hooks for them.
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    check_environment(cfg)
    _check_views(cfg)
    _check_failed_class(cfg)
    return cfg


def _check_failed_class(cfg: Config) -> None:
    name = cfg.get('failed_class')
    if name is not None and name not in cfg.classes:
        raise HRI30Error(f'failed_class={name!r}: is no class.\nExpected one of '
                         f'{", ".join(cfg.classes)}; or None, for no submission where '
                         'clips cannot be read.')


# ---- Views ------------------------------------------------------------------------------


def _sampler(cfg: Config) -> dict:
    """Returns the step of the test pipeline that chooses frames."""
    steps = cfg.test_dataloader.dataset.pipeline
    return next((step for step in steps if 'clip_len' in step), {})


def _evaluators(cfg: Config) -> list[dict]:
    found = cfg.test_evaluator
    return found if isinstance(found, list) else [found]


def _check_views(cfg: Config) -> None:
    """Refuses views that the config cannot give, before anything is built.

    Raises:
        HRI30Error: no number of views, one that does not reach the pipeline, or a flip
            that cannot be mapped back.
    """
    clips, flip = cfg.get('test_clips', 1), cfg.get('test_flip', False)
    check_num_views(clips)
    sampler = _sampler(cfg)
    if clips != 1 and sampler.get('num_clips', 1) != clips:
        raise HRI30Error(
            f'test_clips={clips}: does not reach the test pipeline, whose frames '
            f'{sampler.get("type", "no step")} chooses.\nExpected '
            "dict(type='UniformViews', ..., num_clips='${test_clips}') there, as in "
            'configs/_base_/datasets/hri30.py.')
    if not isinstance(flip, bool | None):
        raise HRI30Error(f'test_flip={flip!r}: expected True or False.')
    if not flip:
        return
    # What a mirrored clip of such a class shows has no score, so that its own would be
    # averaged with that of another action.
    alone = sorted(mirrored_labels(cfg.classes)[1])
    if alone:
        raise HRI30Error(
            'test_flip=True: classes whose mirror image is no class:\n'
            f'{first_cases([cfg.classes[label] for label in alone])}\nExpected the '
            'other side of each among the classes; set test_flip=False.')
    others = [evaluator['type'] for evaluator in _evaluators(cfg)
              if evaluator['type'] != 'HRI30Metric']
    if others:
        raise HRI30Error(f'test_flip=True: {", ".join(others)} would not see the average.'
                         '\nExpected HRI30Metric alone in test_evaluator.')
    steps = [step.type for step in cfg.test_dataloader.dataset.pipeline]
    if 'FormatShape' not in steps:
        raise HRI30Error('test_flip=True: expected FormatShape in the test pipeline, to '
                         f'flip before it; found {", ".join(steps)}.')


def _mirrored(cfg: Config) -> Config:
    """Returns the config with a test pipeline that flips every clip."""
    cfg = copy.deepcopy(cfg)
    steps = cfg.test_dataloader.dataset.pipeline
    position = next(i for i, step in enumerate(steps) if step.type == 'FormatShape')
    steps.insert(position, dict(type='Flip', flip_ratio=1))
    return cfg


def average_with_mirrored(results: Results, mirrored: Results) -> Results:
    """Averages the scores of clips with those of their mirror images.

    A model that sees left in a mirrored clip says right of the clip itself.

    Args:
        results (Results): Of the clips.
        mirrored (Results): Of the same clips, flipped.

    Returns:
        Results: Of the clips; the scores are the means. A clip that could not be read once
        has failed.

    Raises:
        HRI30Error: other clips or classes.
    """
    results, mirrored = (results.without(mirrored.failed),
                         mirrored.without(results.failed))
    if (results.videos, results.classes) != (mirrored.videos, mirrored.classes):
        raise HRI30Error(f'{mirrored.source}: other clips or classes than in '
                         f'{results.source}.')
    back_K = np.arange(len(results.classes))
    for label, other in mirrored_labels(results.classes)[0].items():
        back_K[label] = other
    return Results(
        results.videos, (results.scores_NK + mirrored.scores_NK[:, back_K]) / 2,
        results.classes, results.labels_N, results.groups_N, results.filenames,
        results.data, results.failed, source=results.source)


class Stopwatch(Hook):
    """Measures the time from before the first batch to after the last."""

    seconds = 0.0

    def before_test_epoch(self, runner) -> None:
        self._start = time.perf_counter()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.seconds = time.perf_counter() - self._start


# ---- A split ----------------------------------------------------------------------------


def run_split(cfg: Config, split: str, out: Path) -> tuple[dict, float]:
    """Tests one split with the views that the config asks for.

    Args:
        cfg (Config): Of :func:`prepare`.
        split (str): ``val`` or ``test``.
        out (Path): Folder of the results, which are written once, when all views are in.

    Returns:
        tuple[dict, float]: The metrics, and the seconds from before the first batch to
        after the last, of all views.
    """
    with _alike_everywhere() if cfg.get('deterministic') else contextlib.nullcontext():
        if not cfg.get('test_flip'):
            return _test_view(cfg, split, out, out / 'logs')
        return _test_with_mirrored(cfg, split, out)


def _test_with_mirrored(cfg: Config, split: str, out: Path) -> tuple[dict, float]:
    with contextlib.ExitStack() as stack:
        temporary = out
        if is_main_process():  # which alone has the scores, and writes
            out.mkdir(parents=True, exist_ok=True)
            temporary = Path(stack.enter_context(
                tempfile.TemporaryDirectory(dir=out, prefix='.views-')))
        folders = [temporary / name for name in ('clips', 'mirrored')]
        seconds = [_test_view(view, split, folder, out / 'logs')[1]
                   for view, folder in zip((cfg, _mirrored(cfg)), folders, strict=True)]
        if not is_main_process():
            return {}, sum(seconds)
        results = average_with_mirrored(*map(Results.load, folders))
    metrics = HRI30Metric.score(results)
    write_results(out, results, metrics, submission=split == 'test',
                  failed_class=cfg.get('failed_class'))
    return metrics, sum(seconds)


@contextlib.contextmanager
def _alike_everywhere() -> Iterator[None]:
    """Computes with one thread: more of them may add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _test_view(cfg: Config, split: str, out: Path, logs: Path) -> tuple[dict, float]:
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(logs)
    loader = cfg.test_dataloader
    loader.dataset.subset = split
    if cfg.get('deterministic'):
        # One clip after the other: scores vary in the last digits with the batch, and that
        # with the number of processes.
        loader.batch_size = 1
    views, at_once = cfg.get('test_clips', 1), loader.batch_size
    loader.batch_size = clips_at_once(at_once, views)
    for evaluator in _evaluators(cfg):
        if evaluator['type'] == 'HRI30Metric':
            evaluator.update(out_dir=str(out), submission=split == 'test',
                             data=f'{describe_data(cfg)}, {split}',
                             failed_class=cfg.get('failed_class'))
    # Averaged weights are what the checkpoint has; and mmengine's early stopping asserts
    # that there is a training loop.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', [])
                        if hook['type'] not in ('EarlyStoppingHook', 'EMAHook')]
    cfg.experiment_name = f'{Path(cfg.filename).stem}-{split}'
    runner = HRI30Runner.from_cfg(cfg)
    runner.logger.info(f'Testing {split} on {describe_data(cfg)} '
                       f'with {describe_device()}')
    stopwatch = Stopwatch()
    runner.register_hook(stopwatch)
    if views > 1:
        model = unwrap(runner.model)
        compute_views_once(model, max_views=at_once, rows=(
            _sampler(cfg)['clip_len']
            if isinstance(model, MODELS.get('Recognizer2D')) else 1))
    with explain_out_of_memory(cfg, 'test_dataloader'):
        return runner.test(), stopwatch.seconds


def _analyze(cfg: Config, checkpoint: str, out: Path, splits: Sequence[str]) -> None:
    """Writes ``analysis.json`` and ``report.html`` of each split.

    The temperature is fitted on the validation clips, and kept beside the checkpoint for
    a test that comes later.
    """
    temperature = None
    for split in splits:  # the validation comes first
        results = Results.load(out / split)
        if results.labels_N is not None:
            try:
                temperature = (_fit_temperature(checkpoint, results) if split == 'val'
                               else temperature or load_temperature(checkpoint))
            except HRI30Error as error:  # the scores are written, and as good without
                print(f'warning: no calibration: {error}', file=sys.stderr)
            write_analysis(out / split, results, temperature)
        if cfg.get('report', True):
            write_report(out / split, cfg=cfg, checkpoint=checkpoint)


def _fit_temperature(checkpoint: str, results: Results) -> float:
    temperature = fit_temperature(results.scores_NK, results.labels_N)
    scaled_NK = apply_temperature(results.scores_NK, temperature)
    save_temperature(
        checkpoint, temperature, len(results.labels_N), results.data,
        negative_log_likelihood(results.scores_NK, results.labels_N),
        negative_log_likelihood(scaled_NK, results.labels_N))
    return temperature


def _report(cfg: Config, metrics: dict[str, dict], out: Path) -> None:
    print(f'\nData: {describe_data(cfg)}')
    for split, values in metrics.items():
        line = '  '.join(f'{name} {value:.4f}' for name, value in values.items()
                         if not name.startswith('num_'))
        print(f'{split}: {values["num_videos"]} clips  {line or "labels not known"}')
        for file in sorted((out / split).glob('*.*')):
            print(f'  {file}')
    for split, values in metrics.items():
        if values.get('num_failed'):
            print(_describe_failed(cfg, split, Results.load(out / split), out / split))


def _describe_failed(cfg: Config, split: str, results: Results, folder: Path) -> str:
    """Names the clips that could not be read, and says what to do."""
    failed = results.failed
    text = (f'\n{split}: {len(failed)} of {len(failed) + len(results.videos)} clips could '
            'not be read:\n')
    text += first_cases([f'{video}: {reason}' for video, reason in failed.items()],
                        limit=20)
    text += f'\nAll are marked {FAILED} in {folder / "predictions.csv"}.'
    if split == 'test' and cfg.get('failed_class') is None:
        text += (f' No {SUBMISSION} was written, which wants a class of every clip.\n'
                 'Replace the clips and test again, or say which class these get: '
                 '--cfg-options failed_class=NAME')
    elif split == 'test':
        text += f' {SUBMISSION} says {cfg.failed_class} of them.'
    return text
