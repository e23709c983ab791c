"""Checkpoints, whole or damaged, as every path that loads weights loads them."""

import io
import tempfile
from collections import Counter, OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from hostile import HOSTILE, save_program
from mmengine.logging import HistoryBuffer
from watch import watch

from hri30_ext import compat
from hri30_ext.checkpoints import scan_checkpoint
from hri30_ext.compat import load_from_local
from hri30_ext.errors import HRI30Error

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_path = Path(_folder.name) / 'input.pth'
_mark = Path(_folder.name) / 'mark'
_statistics = dict(HistoryBuffer._statistics_methods) or dict(
    HistoryBuffer()._statistics_methods)

_DATA = (str, bytes, int, float, bool, type(None), torch.Size, torch.device, torch.dtype,
         np.ndarray, np.generic, HistoryBuffer, Counter, set, complex)
_scanned = []


def _scan(file):
    _scanned.append(scan_checkpoint(file))
    return _scanned[-1]


def one_input(data: bytes) -> None:
    """Loads a checkpoint.

    Args:
        data (bytes): A file behind a byte 0; behind another byte, what is pickled in one,
            with 16 numbers: so that a changed pickle needs no right checksum.
    """
    if data[:1] == b'\0':
        _path.write_bytes(data[1:])
    else:
        save_program(data[1:], _path, {'0': bytes(64)})
    _scanned.clear()
    with mock.patch.object(compat, 'scan_checkpoint', _scan), watch() as seen:
        try:
            checkpoint = load_from_local(str(_path), 'cpu')
        except HRI30Error as error:
            assert str(_path) in str(error) and len(str(error)) < 2000
        else:
            assert isinstance(checkpoint, dict)
            for name in ('config', 'cfg'):  # left out
                if isinstance(meta := _scanned[0].content.get('meta'), dict):
                    meta.pop(name, None)
            _compare(_scanned[0].content, checkpoint)
    assert not seen and not _mark.exists(), seen
    assert HistoryBuffer._statistics_methods == _statistics


def _compare(found, loaded) -> None:
    """Compares what was looked at with what was loaded; nothing may be there but data.

    Args:
        found: The description of a value by the scan.
        loaded: The value.
    """
    if isinstance(loaded, torch.Tensor):
        assert not loaded._backward_hooks
        assert found.kind == 'tensor' and found.shape == tuple(loaded.shape)
    elif isinstance(loaded, dict) and not isinstance(loaded, Counter):
        assert set(getattr(loaded, '__dict__', ())) <= {'_metadata'}
        found = {key: value for key, value in found.items() if not isinstance(key, tuple)}
        assert list(map(repr, found)) == list(map(repr, loaded))
        for one, other in zip(found.values(), loaded.values(), strict=True):
            _compare(one, other)
    elif isinstance(loaded, list | tuple) and not isinstance(loaded, torch.Size):
        assert type(found) is type(loaded)
        for one, other in zip(found, loaded, strict=True):
            _compare(one, other)
    elif isinstance(found, str | bytes | int | float | None):
        assert repr(found) == repr(loaded)  # of numbers that are none, too
    else:
        assert isinstance(loaded, _DATA), type(loaded)
        if isinstance(loaded, np.ndarray):
            assert not loaded.dtype.hasobject
        if isinstance(loaded, HistoryBuffer):
            assert set(loaded.__dict__) <= {'max_length', '_log_history', '_count_history',
                                            'statistics_methods'}


def seeds() -> list[bytes]:
    """Makes good checkpoints of both formats, and all hostile ones."""
    content = {
        'state_dict': OrderedDict(a=torch.zeros(2, 2), b=torch.ones(3, dtype=torch.half)),
        'meta': {'epoch': 1, 'dataset_meta': {'classes': ['A', 'B']}, 'config': 'x = 1'},
        'optimizer': {'state': {0: {'step': 1}}, 'param_groups': [{'lr': 0.1}]},
        'param_schedulers': [{'milestones': Counter([3]), 'kinds': {1, 2}, 'c': 1j}],
        'types': [torch.float32, torch.zeros(2, 1).expand(2, 3)],
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.], [1])},
                        'runtime_info': {'best': np.float64(1)}, 'resumed_keys': {}}}
    content['state_dict']._metadata = OrderedDict({'': {'version': 1}})
    found = []
    for zip_format in (True, False):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zip_format)
        found.append(b'\0' + file.getvalue())
    for write in HOSTILE.values():
        write(_path, _mark)
        data = _path.read_bytes()
        if len(data) < 20_000:
            found.append(b'\0' + data)
    return found + [b'\1' + program for program in _programs(found)]


def _programs(files: list[bytes]) -> list[bytes]:
    """Takes the pickles out of archives."""
    import zipfile
    found = []
    for data in files:
        if data[1:5] == b'PK\3\4':
            with zipfile.ZipFile(io.BytesIO(data[1:])) as archive:
                found += [archive.read(name) for name in archive.namelist()
                          if name.endswith('data.pkl')]
    return found
