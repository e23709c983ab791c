"""Features of clips in files, and the data set that serves them.

Each process writes a file of its own: of P processes, process p has the views p, p + P, ...
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import filelock
import msgspec
import torch
from mmaction.structures import ActionDataSample
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text, check_writable
from ..utils.reading import read_json


class _Record(msgspec.Struct):
    """The description of a file of features."""

    shapes: list[list[int]]  # of the features of a view
    views: list[dict]  # info and label of each view


class StoredFeatures(Dataset):
    """Features of N clips with their labels, of one or several views of each.

    Args:
        paths (Sequence[Path]): Of :func:`store_features`. View ``v`` of clip ``n`` has the
            number ``v * N + n``.
        dtype (torch.dtype): Of the features.
        metainfo (dict): Of the clips' data set.
        views (int): V. Epoch ``e`` has view ``e % V``.
    """

    def __init__(self, paths: Sequence[Path], dtype: torch.dtype, metainfo: dict,
                 views: int = 1) -> None:
        self.metainfo, self.views, self.view = metainfo, views, 0
        self.files: list[tuple[_Record, torch.Tensor]] = []
        for path in paths:
            record = read_json(path.with_suffix('.json'), 'the description of stored '
                               'features', schema=_Record)
            size = len(record.views), sum(map(math.prod, record.shapes))
            if path.stat().st_size != dtype.itemsize * math.prod(size):
                raise HRI30Error(f'{path}: not of the size in its .json.\nDelete both, and '
                                 'the features are computed again.')
            values = torch.from_file(str(path), dtype=dtype, size=math.prod(size))
            self.files.append((record, values.view(size)))

    def __len__(self) -> int:
        return sum(len(values) for _, values in self.files) // self.views

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Sets the epoch, from 0, whose view follows."""
        self.view = epoch % self.views

    def __getitem__(self, index: int) -> dict:
        """Returns ``inputs``, a tuple of tensors, and ``data_samples``."""
        row, file = divmod(self.view * len(self) + index, len(self.files))
        record, values = self.files[file]
        parts = values[row].split([math.prod(shape) for shape in record.shapes])
        sample = ActionDataSample(metainfo=record.views[row]['info'])
        return dict(inputs=tuple(map(torch.Tensor.view, parts, record.shapes)),
                    data_samples=sample.set_gt_label(record.views[row]['label']))


def collate_features(items: list[dict]) -> dict:
    """Collates N items of :class:`StoredFeatures`: ``inputs`` is a tuple of tensors
    (N, ...), and ``data_samples`` a list of N."""
    inputs = zip(*(item['inputs'] for item in items), strict=True)
    return dict(inputs=tuple(map(torch.stack, inputs)),
                data_samples=[item['data_samples'] for item in items])


def store_features(path: Path, views: Iterable[tuple], total: int, dtype: torch.dtype
                   ) -> None:
    """Writes the features of views, unless they are there, and a ``.json`` that describes
    them. If another training writes the same file, it waits until that one is done.

    Args:
        path (Path): The file.
        views (Iterable[tuple]): Features and data sample of each view: a sequence of float
            tensors, ActionDataSample.
        total (int): How many views there are.
        dtype (torch.dtype): The format that they are stored in.

    Raises:
        HRI30Error: the folder cannot be written.
    """
    if path.is_file():
        return
    check_writable(path.parent)
    unfinished, infos, shapes = path.with_suffix('.part'), [], []
    with filelock.FileLock(path.with_suffix('.lock')):
        try:
            if path.is_file():
                return
            with open(unfinished, 'wb') as file:
                for features, sample in views:
                    values = torch.cat([tensor.flatten() for tensor in features]).to(dtype)
                    if not infos:
                        print_log(f'Features of {total} views: '
                                  f'{total * values.nbytes / 1e9:.2f} GB in {path}',
                                  'current')
                    file.write(values.view(torch.uint8).numpy())
                    infos.append(dict(info=sample.metainfo, label=int(sample.gt_label)))
                    shapes = [list(tensor.shape) for tensor in features]
            atomic_write_text(path.with_suffix('.json'),
                              json.dumps(dict(shapes=shapes, views=infos)))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
