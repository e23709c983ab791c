"""Checkpoints, whole or damaged, as every path that loads weights loads them."""

import contextlib
import io
import tempfile
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import torch
from hostile import HOSTILE, save_program
from mmengine.logging import HistoryBuffer
from watch import watch

from hri30_ext.checkpoints import load_from_local
from hri30_ext.errors import HRI30Error

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_path = Path(_folder.name) / 'input.pth'
_mark = Path(_folder.name) / 'mark'
_statistics = dict(HistoryBuffer()._statistics_methods)

_DATA = (str, bytes, int, float, bool, type(None), torch.Size, torch.device, torch.dtype,
         np.generic, set, complex)


def one_input(data: bytes) -> None:
    """Loads a checkpoint.

    Args:
        data (bytes): A file behind a byte 0. Behind another byte, the pickle of one with
            16 numbers, so that a changed pickle needs no right checksum.
    """
    if data[:1] == b'\0':
        _path.write_bytes(data[1:])
    else:
        save_program(data[1:], _path, {'0': bytes(64)})
    with watch() as seen:
        try:
            checkpoint = load_from_local(str(_path), 'cpu')
        except HRI30Error as error:
            assert str(_path) in str(error) and len(str(error)) < 2000
        else:
            assert isinstance(checkpoint, dict)
            _check(checkpoint, 2 * _path.stat().st_size + 2**22)
    assert not seen and not _mark.exists(), seen
    assert HistoryBuffer._statistics_methods == _statistics


def _check(loaded, most: int) -> None:
    """Checks that a value is nothing but data.

    Args:
        loaded: The value.
        most (int): Bytes that a tensor may have.
    """
    if isinstance(loaded, torch.Tensor):
        assert not loaded._backward_hooks and loaded.device.type == 'cpu'
        assert loaded.numel() <= most and loaded.untyped_storage().nbytes() <= most
        loaded.sum()  # reads all of it
    elif isinstance(loaded, dict):
        assert type(loaded) in (dict, OrderedDict, Counter)
        assert set(getattr(loaded, '__dict__', ())) <= {'_metadata'}
        for key, value in loaded.items():
            assert isinstance(key, str | int | None)
            _check(value, most)
    elif isinstance(loaded, list | tuple) and not isinstance(loaded, torch.Size):
        for value in loaded:
            _check(value, most)
    elif isinstance(loaded, np.ndarray):
        assert type(loaded) is np.ndarray and not loaded.dtype.hasobject
    elif isinstance(loaded, HistoryBuffer):
        assert set(vars(loaded)) == {'max_length', '_log_history', '_count_history'}
        _check(list(loaded.data), most)
    else:
        assert isinstance(loaded, _DATA), type(loaded)


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
    found = []
    for data in files:
        # Of some archives not even the directory is readable.
        with contextlib.suppress(UnicodeDecodeError):
            if data[1:5] != b'PK\3\4':
                continue
            with zipfile.ZipFile(io.BytesIO(data[1:])) as archive:
                found += [archive.read(name) for name in archive.namelist()
                          if name.endswith('data.pkl')]
    return found
