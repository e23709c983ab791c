"""What a cache holds: features in memory, or tokens on the disk for later trainings too.

Shapes: N clips, R rows of features of a clip (its frames in 2D recognizers, otherwise its
views), C channels; of tokens S time steps, P patches, D channels.
"""

import contextlib
import hashlib
import json
import os
from collections import ChainMap
from collections.abc import Iterable
from pathlib import Path

import filelock
import msgspec
import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.dist import all_gather_object, barrier, is_main_process
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..datasets.hri30 import list_clips
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text, disk_full, ran_out_of_disk
from ..utils.reading import read_json
from .distributed import max_over_ranks, on_main

#: Entries of a pipeline that say where pixels are kept, and do not change them.
_PLACES = ('cache', 'cache_dir', 'keep')


class CachedFeatures(Dataset):
    """Features of clips, in memory.

    Args:
        items (list[dict]): For each draw and clip, ``inputs``, a tuple of tensors (R, C, 1,
            ...) float32, and ``data_samples``. Draw ``d`` of clip ``c`` is item
            ``d * num_clips + c``.
        num_clips (int): N.
        metainfo (dict): Of the dataset.

    Attributes:
        draw (int): The draw that is served.
        was_stored (bool): Whether they were on the disk before.
    """

    was_stored = False

    def __init__(self, items: list[dict], num_clips: int, metainfo: dict) -> None:
        self.items, self.num_clips, self.metainfo = items, num_clips, metainfo
        self.draw = 0

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        return self._item(self.draw * self.num_clips + index)

    def _item(self, row: int) -> dict:
        return self.items[row]

    @property
    def num_bytes(self) -> int:
        """Size of the features."""
        return sum(tensor.nbytes for item in self.items for tensor in item['inputs'])


class _Record(msgspec.Struct):
    """The description of a file of tokens."""

    key: dict
    shape: list[int]  # of a row
    rows: list[dict]


class CachedTokens(CachedFeatures):
    """Tokens of clips in a file of bfloat16, beside a JSON file that describes it.

    Args:
        path (Path): The file; the description has the suffix ``.json``.
        key (dict): What the tokens depend on, of :func:`make_key`.
        num_clips, metainfo: As for :class:`CachedFeatures`.

    Raises:
        HRI30Error: there are tokens that depend on something else.
    """

    def __init__(self, path: Path, key: dict, num_clips: int, metainfo: dict) -> None:
        super().__init__([], num_clips, metainfo)
        self.path, self.key = path, key
        # Alike in all processes, where another training ends its encoding now.
        self.was_stored = bool(max_over_ranks(self._record.is_file()))
        if self.was_stored:
            self._open()

    def _item(self, row: int) -> dict:
        tokens = torch.from_numpy(self._tokens[row]).view(torch.bfloat16)
        sample = ActionDataSample(metainfo=self.items[row]['info'])
        return dict(inputs=(tokens, ),
                    data_samples=sample.set_gt_label(self.items[row]['label']))

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self._tokens.nbytes

    @property
    def _record(self) -> Path:
        return self.path.with_suffix('.json')

    def _open(self) -> None:
        record = read_json(self._record, 'the description of cached tokens', schema=_Record)
        found = record.key
        other = [f'{name}: {found.get(name)} in the file, {self.key[name]} now'
                 for name in self.key if found.get(name) != self.key[name]]
        if other:
            raise HRI30Error(
                f'{self.path}: holds other tokens:\n' + '\n'.join(
                    f'  {line}' for line in other) + '\nExpected those of this config: '
                'name another features_dir, or remove this file and its .json.')
        shape = len(record.rows), *record.shape
        try:
            # Copy on write: torch wants arrays that it could write to.
            self._tokens = np.memmap(self.path, np.int16, 'c', shape=shape)
            if self.path.stat().st_size != self._tokens.nbytes:
                raise ValueError('of another size')
        except (OSError, ValueError) as error:
            raise HRI30Error(f'{self.path}: not the tokens that {self._record.name} '
                             f'describes ({error}).\nRemove both.') from error
        self.items = record.rows

    def write(self, total: int, shape: tuple[int, ...],
              views: Iterable[tuple[int, dict]]) -> None:
        """Writes the tokens, if no other training does so meanwhile, which it waits for.

        All processes call it, on one file system.

        Args:
            total (int): Rows of the file.
            shape (tuple[int, ...]): Of a row, (R, S, 1 + P, D).
            views (Iterable[tuple[int, dict]]): Number and content of the rows of this
                process, as :class:`CachedFeatures` has them.
        """
        size = 2 * total * int(np.prod(shape))
        try:
            with on_main(self._lock) or contextlib.nullcontext():
                if not max_over_ranks(self._record.is_file()):
                    self._write(total, shape, views, size)
                    barrier()
        except OSError as error:
            raise disk_full(self.path, size) if ran_out_of_disk(error) else HRI30Error(
                f'{self.path}: cannot be written ({error.strerror}).\nName another '
                'features_dir.') from error
        self._open()

    def _lock(self) -> filelock.AcquireReturnProxy:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path.with_suffix('.lock'))
        with contextlib.suppress(filelock.Timeout):
            return lock.acquire(timeout=0)
        print_log(f'{self.path}: waits until another training has written it', 'current')
        return lock.acquire()

    def _write(self, total: int, shape: tuple[int, ...], views: Iterable[tuple[int, dict]],
               size: int) -> None:
        unfinished = self.path.with_suffix('.part')
        try:
            if is_main_process():
                with open(unfinished, 'wb') as file:
                    # Not a sparse file, which a full disk would end with a signal.
                    os.posix_fallocate(file.fileno(), 0, size)
            barrier()
            tokens = np.memmap(unfinished, np.int16, 'r+', shape=(total, *shape))
            own = {}
            for number, item in views:
                sample = item['data_samples']
                tokens[number] = item['inputs'][0].bfloat16().view(torch.int16).numpy()
                own[number] = dict(info=sample.metainfo, label=int(sample.gt_label))
            tokens.flush()
            rows = ChainMap(*all_gather_object(own))
            record = _Record(self.key, list(shape), [rows[i] for i in range(total)])
            if is_main_process():
                unfinished.replace(self.path)
                atomic_write_text(self._record, json.dumps(msgspec.structs.asdict(record)))
        finally:
            if is_main_process():
                unfinished.unlink(missing_ok=True)


def make_key(encoder: torch.nn.Module, dataset, pipeline: list[dict], views: int) -> dict:
    """Lists what tokens depend on, ``views`` draws of each clip included, as plain data."""
    weights = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    steps = [{name: value for name, value in step.items() if name not in _PLACES}
             for step in pipeline]
    clips = [[clip['video_id'], clip['label'], Path(clip['filename']).stat().st_size
              if Path(clip['filename']).is_file() else 0] for clip in list_clips(dataset)]
    return dict(
        backbone=encoder.name, weights=weights.hexdigest()[:16],
        input_size=list(encoder.input_size),
        num_frames=encoder.num_steps * encoder.tubelet, grid=list(encoder.grid),
        views=views, pipeline=digest(steps), clips=f'{len(clips)}, {digest(clips)}')


def digest(value) -> str:
    """Returns a short hash of plain data."""
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
