"""Batches: one tensor from the loading process to the device."""

from collections.abc import Iterable, Iterator, Sequence

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
def stack_clips(items: Sequence[dict | list[dict]]) -> dict:
    """Collates samples, with their clips in one tensor.

    Args:
        items (Sequence[dict | list[dict]]): N samples with ``inputs`` and
            ``data_samples``, or lists that have N in all.

    Returns:
        dict: ``inputs`` (N, ...), in shared memory if a loading process calls this, or a
        list of N tensors where their shapes differ; ``data_samples``, N.
    """
    batch = pseudo_collate([one for item in items for one in (
        item if isinstance(item, list) else [item])])
    if len({clip.shape for clip in batch['inputs']}) == 1:
        batch['inputs'] = default_collate(batch['inputs'])
    batch['data_samples'] = Samples(batch['data_samples'])
    return batch


def prefetch(batches: Iterable[dict], device: torch.device) -> Iterator[dict]:
    """Copies a batch to a GPU, in a stream of its own, while the step before is computed.

    Args:
        batches (Iterable[dict]): From :func:`stack_clips`, in pinned memory.
        device (torch.device): Anything but CUDA gets the batches as they are.
    """
    if device.type != 'cuda':
        yield from batches
        return
    copies = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(copies):
            tensors = send(batch, device)
        step = torch.cuda.current_stream(device)
        step.wait_stream(copies)
        for tensor in tensors:
            tensor.record_stream(step)  # or its memory might be used again too early
        yield batch


def send(batch: dict, device: torch.device) -> list[torch.Tensor]:
    """Moves a batch in place, the labels as one tensor; returns its tensors.

    A batch of clips that differ in size, or of other fields than labels, stays.
    """
    inputs, samples = batch['inputs'], batch['data_samples']
    if not torch.is_tensor(inputs) or any(one.keys() != ['gt_label'] for one in samples):
        return []
    tensors = [inputs, torch.stack([sample.gt_label for sample in samples])]
    inputs, labels = (tensor.to(device, non_blocking=True) for tensor in tensors)
    for sample, label in zip(samples, labels, strict=True):
        sample.set_gt_label(label)
    batch['inputs'] = inputs
    return [inputs, labels]
