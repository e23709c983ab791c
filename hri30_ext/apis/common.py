"""What training and testing share."""

import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device

#: Written by the renderer of the embedded data.
EMBEDDED_MARK = 'EMBEDDED.json'


def describe_data(cfg: Config) -> str:
    """Says which data a score is from, for whatever prints one."""
    root = Path(cfg.data_root)
    mark = root / EMBEDDED_MARK
    if mark.is_file():
        seed = json.loads(mark.read_text(encoding='utf-8'))['options']['seed']
        return f'embedded data (rendered, seed {seed}; says nothing about HRI30)'
    return f'data in {root}'


def describe_device() -> str:
    """Names the device that mmengine will use."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'the CPU ({torch.get_num_threads()} threads)'
