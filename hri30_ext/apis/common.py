"""What training and testing share."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ..errors import HRI30Error, ran_out_of_memory
from ..utils.env_check import why_no_cuda
from ..utils.reading import read_json

#: Written by the renderer of the embedded data.
EMBEDDED_MARK = 'EMBEDDED.json'


def describe_data(cfg: Config) -> str:
    """Says which data a score is from, for whatever prints one."""
    root = Path(cfg.data_root)
    mark = root / EMBEDDED_MARK
    if mark.is_file():
        settings = read_json(mark, 'the mark of rendered data; render it again with '
                             'tools/data/make_embedded.py').get('options')
        seed = settings.get('seed', '?') if isinstance(settings, dict) else '?'
        return f'embedded data (rendered, seed {str(seed)[:20]}; says nothing about HRI30)'
    return f'data in {root}'


def describe_device() -> str:
    """Names the device that mmengine will use; if that is the CPU, says why."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'the CPU ({torch.get_num_threads()} threads; {why_no_cuda(torch)})'


def check_environment(cfg: Config) -> None:
    """Refuses what a config asks for and this machine lacks, before anything is built.

    Raises:
        HRI30Error: fp16 without CUDA, or TensorBoard where it is not installed.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise HRI30Error('precision=fp16: needs CUDA, and this is '
                         f'{describe_device()}.\nSet precision=bf16, which the CPU can do.')
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    if any(backend['type'] == 'TensorboardVisBackend' for backend in backends) and (
            importlib.util.find_spec('tensorboard') is None):
        raise HRI30Error('tracker=tensorboard: the package tensorboard is not installed.\n'
                         'Run bash tools/setup.sh.')


def drop_pretrained(cfg: Config) -> None:
    """Switches a backbone's own download off, where other weights are loaded anyway."""
    backbone = cfg.model.backbone
    if backbone.get('pretrained'):
        backbone.pretrained = None
    if (backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        backbone.init_cfg = None


@contextlib.contextmanager
def explain_out_of_memory(cfg: Config, loader: str) -> Iterator[None]:
    """Ends a run that ran out of memory with what did not fit and what to set.

    Args:
        cfg (Config): The config of the run.
        loader (str): The key of its loader, such as ``train_dataloader``.

    Raises:
        HRI30Error: memory ran out within.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is the former
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not ran_out_of_memory(error):
            raise
        batch = cfg[loader].batch_size
        wrapper = cfg.get('optim_wrapper') or {}
        steps = []
        if batch > 1:
            half = batch // 2
            same = wrapper.get('accumulative_counts', 1) * 2
            steps.append(f'batch_size={half}' + (
                f' accumulate={same} (steps of as many clips, in half the memory)'
                if wrapper else ''))
        if wrapper.get('type') == 'OptimWrapper':
            steps.append('precision=bf16')
        steps.append('a smaller input_size or num_frames')
        if 'DataLoader worker' in text or 'shared memory' in text:
            steps.insert(0, 'num_workers=1 (the memory of the loading processes ran out)')
        width, height = cfg.get('input_size', ('?', '?'))
        raise HRI30Error(
            f'Out of memory on {describe_device()} with batch_size={batch} clips of '
            f'{cfg.get("num_frames", "?")} frames of {width} x {height}:\n'
            f'  {text.strip().splitlines()[0][:200] if text else type(error).__name__}\n'
            'Set with --cfg-options, one after the other: ' + '; '.join(steps) + '.'
        ) from error
