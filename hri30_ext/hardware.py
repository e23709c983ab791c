"""What the machine can do, and the model as it is on every machine."""

import os
import shutil
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.model import is_model_wrapper

from .utils.parallel import available_cores


def default_num_workers() -> int:
    """Chooses the number of processes that load clips.

    With CUDA: the cores for each training process of this machine but one, 16 at most.
    Without CUDA 0: a training step takes many times as long as reading its clips, and
    processes beside torch's threads slow it down.
    """
    if get_device() == 'cpu':
        return 0
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # from torchrun
    return max(1, min(16, available_cores() // processes - 1))


def default_clip_cache(folder: str | None) -> str | None:
    """Chooses the form of the clip cache in a folder: ``jpeg`` with a GPU, which waits for
    decoded clips, if the folder holds clips already, or its disk has room for 10 GB (HRI30
    takes 2); else None."""
    if get_device() == 'cpu' or not folder:
        return None
    place = Path(folder)
    if any(place.glob('*.jpegs')):  # a resumed training chooses the same
        return 'jpeg'
    while not place.exists():
        place = place.parent
    return 'jpeg' if shutil.disk_usage(place).free >= 10e9 else None


def best_precision() -> str:
    """Chooses the fastest precision that trains as well as float32: ``bf16`` if the device
    has instructions for it, ``fp16`` on older GPUs, ``fp32`` on older CPUs."""
    if get_device() == 'cpu':
        # Other CPUs emulate bfloat16, which is slower than float32.
        words = Path('/proc/cpuinfo').read_text().split()
        return 'bf16' if {'avx512_bf16', 'amx_bf16', 'bf16'}.intersection(words) else 'fp32'
    return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'


def autocast_dtype(cfg, device: str | None = None) -> torch.dtype | None:
    """Returns the number format of a config's forward passes; None is float32.

    It is the same in training, validation, testing, features and ``Recognizer``. mmengine
    trains in the format of the optimizer wrapper, and tests in torch's default: fp16 on
    CUDA and bf16 on the CPU, which has no fp16.
    """
    precision = cfg.get('precision', 'fp32')
    if precision == 'auto':
        precision = best_precision()
    if precision == 'fp32':
        return None
    on_cpu = (device or get_device()) == 'cpu'
    return torch.float16 if precision == 'fp16' and not on_cpu else torch.bfloat16


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the model within the wrapper that several processes need."""
    return model.module if is_model_wrapper(model) else model
