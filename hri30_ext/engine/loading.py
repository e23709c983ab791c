"""Batches: one tensor from the loading process to the device."""

import resource
from collections.abc import Sequence

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from torch.utils.data import default_collate


class Samples(list):
    """The data samples of a batch, whose labels travel between processes as one array.

    torch opens a file for each tensor that it passes between processes.
    """

    def __reduce__(self) -> tuple:
        if any(sample.keys() != ['gt_label'] for sample in self):
            return Samples, (list(self), )
        return _unpack, ([sample.metainfo for sample in self],
                         torch.stack([sample.gt_label for sample in self]).numpy())


def _unpack(metainfos: list[dict], labels: np.ndarray) -> Samples:
    return Samples(ActionDataSample(metainfo=metainfo).set_gt_label(label)
                   for metainfo, label in zip(metainfos, torch.from_numpy(labels),
                                              strict=True))


@FUNCTIONS.register_module()
def stack_clips(items: Sequence[dict]) -> dict:
    """Collates samples, with their clips in one tensor.

    Args:
        items (Sequence[dict]): N samples with ``inputs`` and ``data_samples``.

    Returns:
        dict: ``inputs`` (N, ...), in shared memory if a loading process calls this, or a
        list of N tensors where their shapes differ; ``data_samples``, N.
    """
    batch = pseudo_collate(items)
    if len({clip.shape for clip in batch['inputs']}) == 1:
        batch['inputs'] = default_collate(batch['inputs'])
    batch['data_samples'] = Samples(batch['data_samples'])
    return batch


def raise_file_limit() -> None:
    """Raises the number of files that this process may open to what the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
