"""What the machine can do."""

import os
from pathlib import Path

from mmengine.device import get_device

from .utils.parallel import available_cores


def default_num_workers() -> int:
    """Chooses how many processes load clips.

    Returns:
        int: On CUDA, the cores of each of this machine's GPUs, 8 at most. Without CUDA
        none: a step of training takes many times as long as reading its clips, and
        processes beside torch's threads slow it more than they save.
    """
    if get_device() == 'cpu':
        return 0
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # of torchrun
    return max(1, min(8, available_cores() // processes))


def best_precision() -> str:
    """Chooses the fastest precision that trains as well as float32.

    Returns:
        str: ``bf16`` where the device has instructions for it; ``fp16``, with scaled
        losses, on older GPUs; ``fp32`` on CPUs without.
    """
    if get_device() == 'cpu':
        # Others emulate bfloat16, more slowly than they do float32.
        return 'bf16' if _cpu_flags() & {'avx512_bf16', 'amx_bf16', 'bf16'} else 'fp32'
    import torch
    return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'


def _cpu_flags() -> set[str]:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # not Linux
        return set()
    return next((set(line.split()) for line in lines
                 if line.startswith(('flags', 'Features'))), set())
