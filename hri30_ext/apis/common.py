"""What the functions of this package share."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size

from ..datasets.hri30 import find_labelled_videos
from ..datasets.paper import PARTIAL, is_held_out_by_name
from ..env_check import why_no_cuda
from ..errors import HRI30Error, ran_out_of_memory
from ..evaluation.analysis import analyze
from ..evaluation.calibration import Calibration
from ..evaluation.results import Results
from ..evaluation.writers import write_results
from ..report import write_report
from ..synthetic.writer import MARKER
from ..utils.reading import read_json


def describe_data(cfg: Config) -> str:
    """Describes the data that a score is from, and the split if that is the paper's."""
    root, split = Path(cfg.data_root), cfg.get('split') or {}
    protocol = ''
    if is_held_out_by_name(split):
        protocol = f', {split["type"]} split {split.get("number", 1)}'
        if protocol == ', paper split 3' and not any(
                file.name.startswith('v_') for file in find_labelled_videos(root)):
            protocol += f' ({PARTIAL})'
    mark = root / MARKER
    if mark.is_file():
        settings = read_json(mark, 'the settings of synthetic data; render it again with '
                             'hri30 embedded').get('options')
        seed = settings.get('seed', '?') if isinstance(settings, dict) else '?'
        return (f'synthetic data (rendered, seed {str(seed)[:20]}; says nothing about '
                f'HRI30){protocol}')
    return f'data in {root}{protocol}'


def describe_device() -> str:
    """Describes the device that mmengine uses; if that is the CPU, with the reason."""
    if get_device() == 'cuda':
        unused = torch.cuda.device_count() - get_world_size()
        return torch.cuda.get_device_name() + (
            f'; {unused} more GPUs are visible and unused, which GPUS=N before the command '
            'would use' if unused > 0 and get_world_size() == 1 else '')
    return f'the CPU ({torch.get_num_threads()} threads; {why_no_cuda(torch)})'


def check_environment(cfg: Config) -> None:
    """Refuses fp16 without CUDA, before anything is built."""
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise HRI30Error(f'precision=fp16: needs CUDA, and this is {describe_device()}.\n'
                         'Set precision=bf16, which works on the CPU.')


@contextlib.contextmanager
def explain_out_of_memory(cfg: Config, loader: str) -> Iterator[None]:
    """Turns running out of memory with a loader, such as ``train_dataloader``, into an
    HRI30Error: what did not fit, and what to set.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # the former includes torch's own
        if not ran_out_of_memory(error):
            raise
        batch, (width, height) = cfg[loader].batch_size, cfg.get('input_size', ('?', '?'))
        same = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1) * 2
        raise HRI30Error(
            f'Out of memory on {describe_device()} with batch_size={batch} clips of '
            f'{cfg.get("num_frames", "?")} frames of {width} x {height}:\n'
            f'  {str(error).strip()[:200] or type(error).__name__}\n'
            f'Try --cfg-options batch_size={max(1, batch // 2)} accumulate={same} (the '
            'same steps), precision=bf16, model.backbone.with_cp=True (slower), '
            'a smaller input_size or num_frames, or fewer num_workers.') from error


def format_metrics(metrics: dict) -> str:
    """Formats the metrics of a split in a line."""
    return '  '.join(f'{name} {value:.4f}' for name, value in metrics.items()
                     if not name.startswith('num_')) or 'labels not known'


def write_result_folder(folder: str | Path, results: Results,
                        calibration: Calibration | None = None, *, submission: bool = False,
                        failed_class: str | None = None, report: bool = True,
                        **options) -> dict:
    """Writes everything that a result folder holds, and returns the metrics.

    Args:
        folder, results, submission, failed_class: See
            :func:`~hri30_ext.evaluation.writers.write_results`.
        calibration (Calibration, optional): For the analysis of labelled clips.
        report (bool): Whether to write ``report.html``.
        **options: See :func:`~hri30_ext.report.write_report`.
    """
    analysis = None if results.labels_N is None else analyze(results, calibration)
    metrics = write_results(folder, results, analysis, submission, failed_class)
    if report:
        write_report(folder, results, analysis, **options)
    return metrics
