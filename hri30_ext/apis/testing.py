"""Testing a checkpoint: metrics where labels are known, predictions everywhere."""

import contextlib
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..checkpoints import list_checkpoints
from ..config import load_config
from ..datasets.hri30 import has_test_clips, has_training_clips, reading
from ..datasets.paper import trains_on_all
from ..deploy.torch_backend import drop_pretrained
from ..engine import HRI30Runner, distributed
from ..engine.data_parallel import use_processes
from ..errors import HRI30Error, first_cases
from ..evaluation.calibration import (
    Calibration,
    fit_open_set,
    fit_sets,
    fit_temperature,
    load_calibration,
    save_calibration,
)
from ..evaluation.metrics import ClassScores, HRI30Metric
from ..evaluation.results import Results
from ..evaluation.writers import FAILED, SUBMISSION
from ..hardware import unwrap
from ..models.views import TestTimeViews, clips_at_once
from ..synthetic import read_test_groups
from ..transforms.flip import mirrored_classes, mirrored_labels
from ..utils.fileio import check_writable
from ..utils.text import format_table
from .common import (
    check_environment,
    describe_data,
    describe_device,
    explain_out_of_memory,
    format_metrics,
    write_result_folder,
)
from .lineage import compare_tested, find_config


@distributed.explain_lost_peer()
def test(config: str | None, checkpoint: str, split: str = 'all', out: str | None = None,
         options: dict | None = None, launcher: str = 'none') -> dict[str, dict]:
    """Tests a checkpoint and writes a result folder for each split.

    Several processes share the clips; the first one writes. With ``deterministic=True``
    among the options, any number of processes gives the same bytes.

    Args:
        config (str, optional): Path of the config; None for that in the folder of the
            checkpoint, or else the one in ``configs/`` that it says it is of.
        checkpoint (str): Its weights.
        split (str): ``val``, ``test``, or ``all``: each that there are clips for.
        out (str, optional): Gets ``val/`` and ``test/``; by default the
            folder of the checkpoint.
        options (dict, optional): As parsed from ``--cfg-options``.
        launcher (str): ``pytorch`` if this is one of several processes.

    Returns:
        dict[str, dict]: Metrics of each split, over the clips that could be read; if
        some could not, with their number, ``num_failed``.

    Raises:
        HRI30Error: a mistake of the user's, or clips that the model was trained on.
    """
    if config is None:
        config, options = find_config(checkpoint, options)
    cfg = prepare(config, checkpoint, options, launcher)
    distributed.start(launcher, cfg.peer_timeout)
    use_processes(cfg)
    out = Path(out or Path(checkpoint).parent).expanduser().resolve()
    distributed.on_main(check_writable, out)
    splits = _splits_with_clips(cfg) if split == 'all' else [split]
    is_own = distributed.on_main(compare_tested, cfg, *splits)
    tested: dict[str, TestedSplit] = {}
    calibration = None
    for name in splits:
        tested[name] = run_split(cfg, name, out / name / 'logs')
        calibration = distributed.on_main(
            _write_split, cfg, checkpoint, name, out / name, tested[name], calibration,
            is_own)
    if is_main_process():
        _print_summary(cfg, tested, out)
    return {name: one.metrics for name, one in tested.items()}


def _splits_with_clips(cfg: Config) -> list[str]:
    """Returns the splits that there are clips for; the validation first: it fits the
    calibration.
    """
    settings, data = cfg.get('split', {}), (cfg.data_root, cfg.classes)
    tests = ['test'] if has_test_clips(*data, settings, **reading(cfg)) else []
    if trains_on_all(settings):
        return tests
    if tests and not has_training_clips(*data, **reading(cfg)):
        if is_main_process():
            print(f'val: skipped, because {cfg.data_root} has no training clips')
        return tests
    return ['val', *tests]


def prepare(config: str, checkpoint: str, options: dict | None = None,
            launcher: str = 'none') -> Config:
    """Reads a config for testing a checkpoint, without the parts that only training needs.

    Arguments and errors are those of :func:`test`.
    """
    cfg = load_config(config, options)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise HRI30Error(f'{checkpoint}: no such checkpoint.\nExpected a .pth or '
                         '.safetensors file; tools/train.sh names the best one when it '
                         f'ends.{list_checkpoints(path.parent)}')
    cfg.launcher = launcher
    cfg.load_from, cfg.resume = str(path.resolve()), False
    drop_pretrained(cfg)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    # The checkpoint holds the averaged weights already; and mmengine's early stopping
    # asserts that there is a training loop.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', [])
                        if hook['type'] not in ('EarlyStoppingHook', 'EMAHook',
                                                'StepEMAHook')]
    check_environment(cfg)
    if all(evaluator['type'] != 'HRI30Metric' for evaluator in _evaluators(cfg)):
        raise HRI30Error('test_evaluator: HRI30Metric is missing; it collects the scores.'
                         "\nExpected dict(type='HRI30Metric'), alone or in a list.")
    _check_views(cfg)
    name = cfg.get('failed_class')
    if name is not None and name not in cfg.classes:
        raise HRI30Error(f'failed_class={name!r}: is no class.\nExpected one of '
                         f'{", ".join(cfg.classes)}; or None, for no submission if clips '
                         'cannot be read.')
    return cfg


def _check_views(cfg: Config) -> None:
    """Refuses a number of views that does not reach the pipeline, and a flip whose scores
    cannot be mapped back.
    """
    clips, sampler = cfg.get('test_clips', 1), _sampler(cfg)
    if clips != 1 and sampler.get('num_clips', 1) != clips:
        raise HRI30Error(
            f'test_clips={clips}: does not reach the test pipeline, whose frames '
            f'{sampler.get("type", "no step")} chooses.\nExpected '
            "dict(type='UniformViews', ..., num_clips='${test_clips}') there, as in "
            'configs/_base_/datasets/hri30.py.')
    crops = cfg.get('test_crops', 1)
    if crops != 1 and not any(step.get('crops') == crops
                              for step in cfg.test_dataloader.dataset.pipeline):
        raise HRI30Error(f'test_crops={crops}: does not reach the test pipeline.\nExpected '
                         "dict(type='ResizeClip', ..., crops='${test_crops}') there.")
    # A mirrored clip of such a class shows an action that has no score.
    _, alone = mirrored_labels(cfg.classes, cfg.get('mirror_pairs'))
    if cfg.get('test_flip') and alone:
        raise HRI30Error(
            'test_flip=True: classes whose mirror image is no class:\n'
            f'{first_cases([cfg.classes[label] for label in sorted(alone)])}\nExpected the '
            'other side of each among the classes; set test_flip=False.')


def _sampler(cfg: Config) -> dict:
    """Returns the step of the test pipeline that chooses frames."""
    steps = cfg.test_dataloader.dataset.pipeline
    return next((step for step in steps if 'clip_len' in step), {})


# ---- A split ----------------------------------------------------------------------------


class Stopwatch(Hook):
    """Measures the time from before the first batch to after the last."""

    seconds = 0.0

    def before_test_epoch(self, runner) -> None:
        self._start = time.perf_counter()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.seconds = time.perf_counter() - self._start


@dataclass(frozen=True)
class TestedSplit:
    """The outcome of :func:`run_split`."""

    metrics: dict  # in all processes
    results: Results | None  # in the main process
    model: torch.nn.Module  # the recognizer, without wrapper
    seconds: float  # from before the first batch to after the last


def run_split(cfg: Config, split: str, logs: Path) -> TestedSplit:
    """Scores ``val`` or ``test``, with all views that the config of :func:`prepare` sets,
    in one pass.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(logs)
    loader = cfg.test_dataloader
    loader.dataset.subset = split
    if cfg.get('deterministic'):
        # One clip at a time: the last digits of scores vary with the batch, and the batch
        # with the number of processes.
        loader.batch_size = 1
    views = cfg.get('test_clips', 1) * cfg.get('test_crops', 1)
    max_views = loader.batch_size
    loader.batch_size = clips_at_once(max_views, views)
    for evaluator in _evaluators(cfg):
        if evaluator['type'] == 'HRI30Metric':
            evaluator.allow_failed = True
    cfg.experiment_name = f'{Path(cfg.filename).stem}-{split}'
    runner = HRI30Runner.from_cfg(cfg)
    runner.logger.info(f'Testing {split} on {describe_data(cfg)} '
                       f'with {describe_device()}')
    stopwatch = Stopwatch()
    runner.register_hook(stopwatch)
    model = unwrap(runner.model)
    if views > 1 or cfg.get('test_flip'):
        runner.model = TestTimeViews(
            model, _sampler(cfg)['clip_len'], max_views,
            mirrored_classes(cfg.classes, cfg.get('mirror_pairs'))
            if cfg.get('test_flip') else None)
    one_thread = _one_thread() if cfg.get('deterministic') else contextlib.nullcontext()
    with one_thread, explain_out_of_memory(cfg, 'test_dataloader'):
        metrics = runner.test()
    results = next(metric.scored for metric in runner.test_evaluator.metrics
                   if isinstance(metric, HRI30Metric))
    if results is not None:
        groups = read_test_groups(cfg.data_root) if split == 'test' else {}
        results = replace(
            results, data=f'{describe_data(cfg)}, {split}',
            groups_N=[groups.get(video, group) for video, group in zip(
                results.videos, results.groups_N, strict=True)])
    return TestedSplit(metrics, results, model, stopwatch.seconds)


def _evaluators(cfg: Config) -> list[dict]:
    evaluators = cfg.test_evaluator
    return evaluators if isinstance(evaluators, list) else [evaluators]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Computes with one thread: several may add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ---- What is written and printed --------------------------------------------------------


def _write_split(cfg: Config, checkpoint: str, split: str, folder: Path,
                 tested: TestedSplit, calibration: Calibration | None,
                 is_own: bool) -> Calibration | None:
    """Writes a result folder; returns the calibration for the splits that follow.

    It is fitted on the validation clips and saved beside the checkpoint, for a later test,
    if they are those of the training (``is_own``).
    """
    results = tested.results
    if results.labels_N is not None:
        try:
            calibration = (
                _calibrate(checkpoint, results, cfg.get('certainty', .9))
                if split == 'val' and is_own
                else calibration or load_calibration(checkpoint))
            if split == 'val' and not is_own:
                print('No calibration is fitted: these are not the validation clips of '
                      'the training')
        except HRI30Error as error:  # the scores are as good without
            print(f'warning: no calibration: {error}', file=sys.stderr)
    write_result_folder(
        # Names of test clips tell no group; clips with a group are no submission.
        folder, results, calibration,
        submission=split == 'test' and cfg.get('annotation') in (None, 'names') and bool(
            (results.groups_N < 0).all() or read_test_groups(cfg.data_root)),
        failed_class=cfg.get('failed_class'), report=cfg.get('report', True), cfg=cfg,
        checkpoint=checkpoint, model=tested.model)
    return calibration


def _calibrate(checkpoint: str, results: Results, certainty: float) -> Calibration:
    clips = results.scores_NK, results.labels_N
    temperature, fitted = fit_temperature(*clips), {}
    for name, what, fit in (
            ('sets', 'sets of classes', lambda: fit_sets(*clips, temperature, certainty)),
            ('open_set', 'unknown actions', lambda: fit_open_set(*clips))):
        try:
            fitted[name] = fit()
        except HRI30Error as error:
            print(f'warning: no {what}: {error}', file=sys.stderr)
    return save_calibration(checkpoint, temperature, len(clips[1]), results.data, **fitted)


def _print_summary(cfg: Config, tested: dict[str, TestedSplit], out: Path) -> None:
    for split, one in tested.items():
        if one.results.labels_N is not None:
            _print_classes(split, one.results)
    print(f'\nData: {describe_data(cfg)}')
    for split, one in tested.items():
        print(f'{split}: {one.metrics["num_videos"]} clips  {format_metrics(one.metrics)}')
        for file in sorted((out / split).glob('*.*')):
            print(f'  {file}')
    for split, one in tested.items():
        if one.results.failed:
            print(_describe_failed(cfg, split, one.results))


def _print_classes(split: str, results: Results) -> None:
    """Prints the figures of the classes that occur, the worst first."""
    scores = ClassScores.of(results)
    wrong_KK = scores.matrix_KK * (1 - np.eye(len(results.classes), dtype=int))
    table = [['class', 'recall', 'F1', 'clips', 'taken for']]
    for k in np.argsort(scores.recall_K, kind='stable'):
        if scores.clips_K[k]:
            other = wrong_KK[k].argmax()
            table.append([results.classes[k], f'{scores.recall_K[k]:.3f}',
                          f'{scores.f1_K[k]:.3f}', str(scores.clips_K[k]),
                          f'{results.classes[other]} ({wrong_KK[k, other]})'
                          if wrong_KK[k].any() else ''])
    print(f'\n{split}: classes, the worst first\n{format_table(table)}')


def _describe_failed(cfg: Config, split: str, results: Results) -> str:
    """Names the clips that could not be read, and what to do."""
    failed, name = results.failed, cfg.get('failed_class')
    cases = first_cases([f'{video}: {reason}' for video, reason in failed.items()], 20)
    text = (f'\n{split}: {len(failed)} of {len(failed) + len(results.videos)} clips could '
            f'not be read:\n{cases}\nAll are marked {FAILED} in predictions.csv.')
    if split == 'test':
        text += (f' {SUBMISSION} has {name} for them.' if name else
                 f' No {SUBMISSION} was written, because it needs a class for every clip.\n'
                 'Replace the clips, or choose a class for them: --cfg-options '
                 'failed_class=NAME')
    return text
