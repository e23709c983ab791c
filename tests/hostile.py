"""Checkpoints that want to run code or reach for objects, and damaged ones.

Each is a function of the path to write and of a mark: a file that is there afterwards if
code of the checkpoint was run.
"""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

_HISTORY = 'mmengine.logging.history_buffer HistoryBuffer'


class Call:
    """Pickles to a call.

    Args:
        function (Callable): What to call.
        arguments: With what.
    """

    def __init__(self, function: Callable, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def save_program(program: bytes, path: Path, numbers: bytes = b'') -> None:
    """Writes a pickle as the content of a checkpoint in torch's ZIP format.

    Args:
        program (bytes): The pickle.
        path (Path): Where to.
        numbers (bytes): The storage of tensors, ``'0'``.
    """
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', program)
        archive.writestr('archive/version', '3\n')
        archive.writestr('archive/data/0', numbers)


class Program:
    """Writes a pickle operation by operation, for what no object pickles to."""

    def __init__(self) -> None:
        self.text = b'\x80\x02'

    def add(self, *parts: bytes | str) -> 'Program':
        """Appends operations; a text is a name to load: ``'module name'``."""
        for part in parts:
            self.text += part if isinstance(part, bytes) else (
                f'c{part}\n'.replace(' ', '\n', 1).encode())
        return self

    def string(self, text: str) -> 'Program':
        """Pushes a text."""
        data = text.encode()
        return self.add(b'X' + struct.pack('<I', len(data)) + data)

    def end(self) -> bytes:
        """Returns the whole pickle."""
        return self.text + b'.'


# ---- Calls of what runs code ------------------------------------------------------------


def _touch(mark: Path) -> str:
    return f'touch "{mark}"'


def _saved(call: Callable[[Path], object], zip_format: bool = True):
    def write(path: Path, mark: Path) -> None:
        torch.save({'state_dict': OrderedDict(weight=torch.zeros(1)), 'meta': call(mark)},
                   path, _use_new_zipfile_serialization=zip_format)
    return write


def _raw(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Call(os.system, _touch(mark)), protocol=2))


# ---- What allowed names can be made to do ------------------------------------------------


def _pickled(make: Callable[..., bytes], *arguments):
    """Writes the pickle that a function makes, with four bytes of numbers."""
    def write(path: Path, mark: Path) -> None:
        save_program(make(*arguments), path, bytes(4))
    return write


def _history_attributes(name: str) -> bytes:
    """A history with an attribute that is a function, as one of its methods."""
    program = Program().add(b'}').string('message_hub').add(_HISTORY, b')\x81}')
    return program.string(name).add('torch._utils _rebuild_parameter', b'sbs').end()


def _array_of_pointers() -> bytes:
    """An array of objects, which lie where the numbers of the file say."""
    program = Program().add(b'}').string('state_dict').add('numpy ndarray', b'K\x01\x85')
    return program.string('O').add('__builtin__ bytearray', b'K\x08\x85R\x87Rs').end()


def _type_of_pointers() -> bytes:
    """A type of numbers whose state says that they are objects."""
    program = Program().add(b'}').string('state_dict').add('numpy dtype').string('>f8')
    program.add(b'\x89\x88\x87R(K\x03').string('|')
    return program.add(b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftbs').end()


def _scalar_of_objects(path: Path, mark: Path) -> None:
    """A number of numpy's of the type of objects, with a pickle as its content."""
    program = Program().add(b'}').string('state_dict')
    program.add('numpy.core.multiarray scalar', 'numpy dtype').string('O')
    program.add(b'\x89\x88\x87R').string(pickle.dumps(
        Call(os.system, _touch(mark)), protocol=0).decode('ascii'))
    save_program(program.add(b'\x86Rs').end(), path)


def _arrays(*states: tuple[int, int]) -> bytes:
    """An array that gets states one after the other: float64 values, and bytes."""
    program = Program().add(b'}').string('state_dict')
    program.add('numpy.core.multiarray _reconstruct', b'(', 'numpy ndarray', b'K\x00\x85')
    program.string('b').add(b'tR')
    for size, num_bytes in states:
        program.add(b'(K\x01', b'K' + bytes([size]) + b'\x85', 'numpy dtype').string('f8')
        program.add(b'\x89\x88\x87R\x89', '_codecs encode').string('x' * num_bytes)
        program.string('latin1').add(b'\x86Rtb')
    return program.add(b's').end()


def _history_of_objects() -> bytes:
    """A history of values that numpy would look for pointers in."""
    program = Program().add(b'}').string('message_hub').add(_HISTORY, b']')
    return program.add('collections OrderedDict', b')R}').string(
        '__array_interface__').add(b'}sba\x85Rs').end()


def _truncated(path: Path, mark: Path) -> None:
    torch.save({'state_dict': torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def hidden_program(path: Path, program: str) -> None:
    """Writes a ``meta`` with the text of a config, whose methods are other functions."""
    content = Program()

    def replace_methods() -> None:
        content.add(b'}(')
        for method in ('get', 'pop', 'keys', 'items', 'copy', '__deepcopy__'):
            content.string(method).add('collections OrderedDict')
        content.add(b'ub')

    content.add('collections OrderedDict', b')R')
    content.string('state_dict').add(b'}s').string('meta')
    content.add('collections OrderedDict', b')R')
    for name in ('config', 'cfg'):
        content.string(name).string(program).add(b's')
    replace_methods()
    content.add(b's')
    replace_methods()
    save_program(content.end(), path)


# Written out one by one: the table is what is tested.
RUN_CODE = {
    'os.system': _saved(lambda mark: Call(os.system, _touch(mark))),
    'os.system, old format': _saved(lambda mark: Call(os.system, _touch(mark)), False),
    'os.system, raw pickle': _raw,
    'builtins.getattr': _saved(lambda mark: Call(getattr, OrderedDict, '__init__')),
    'method of HistoryBuffer': _pickled(_history_attributes, 'mean'),
    # The names that its getattr hands out.
    'statistics of HistoryBuffer': _pickled(_history_attributes, 'statistics_methods'),
    'array of pointers': _pickled(_array_of_pointers),
    'array of objects': _saved(lambda mark: np.array([Call(os.system, _touch(mark))],
                                                     object)),
    'type of pointers': _pickled(_type_of_pointers),
    'number of objects': _scalar_of_objects,
}

#: What else is refused.
DAMAGED = {
    'wrong number of bytes': _pickled(_arrays, (2, 8)),
    'second state of an array': _pickled(_arrays, (1, 8), (2, 16)),
    'memmap': _saved(lambda mark: Call(np.memmap)),
    'history of objects': _pickled(_history_of_objects),
    'list': lambda path, mark: torch.save([torch.zeros(1)], path),
    'truncated': _truncated,
    'empty': lambda path, mark: path.write_bytes(b''),
}

HOSTILE = {**RUN_CODE, **DAMAGED}
