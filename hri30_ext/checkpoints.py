"""Looks at what a checkpoint file holds before torch loads it; nothing of it is run.

``torch.load(weights_only=True)`` calls no function that is not on a list, but it calls
those with whatever arguments the file has. That is not enough: numpy's types and arrays,
which mmengine's checkpoints need on the list, take arguments that make numbers of the file
into pointers, ``HistoryBuffer`` keeps what it is told for all of its kind, and a storage
may claim a terabyte. Here the few things that a checkpoint consists of are known one by
one, with the arguments that they may have, and all else is refused.

A file is a ZIP archive as torch has written since 1.6, or the older sequence of pickles
with the numbers behind. Either has pickles, small programs for a machine with a stack; this
is such a machine, which makes only descriptions of what it is told to make.

All of this is worth nothing if torch finds another pickle in the file than this module.
So an archive may be of one shape only, in which every reader finds the same, and what was
found is returned, so that it can be compared with what torch finds.
"""

import io
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

_ZIP_START = b'PK\x03\x04'
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_PICKLE_STARTS = (b'\x80', )

#: What is still believable: a training of years, with its history, is far below.
_MAX_PICKLE_BYTES = 512 << 20
_MAX_OPERATIONS = 1_000_000
_MAX_RECORDS = 100_000
_MAX_DEPTH = 50
#: Of the whole content, were shared parts written out: a list of ten references to a list
#: of ten references to a list of ... takes a few bytes, and for ever to print or compare.
_MAX_VALUES = 20_000_000
#: What tensors may have beyond the numbers in the file, all together: ``expand`` repeats a
#: number without storing it again.
_MAX_REPEATED = 2**20

_ITEM_SIZES = {'DoubleStorage': 8, 'FloatStorage': 4, 'HalfStorage': 2,
               'BFloat16Storage': 2, 'LongStorage': 8, 'IntStorage': 4, 'ShortStorage': 2,
               'CharStorage': 1, 'ByteStorage': 1, 'BoolStorage': 1,
               'ComplexFloatStorage': 8, 'ComplexDoubleStorage': 16,
               'UntypedStorage': 1}
_DTYPE_SIZES = {'torch.float64': 8, 'torch.float32': 4, 'torch.float16': 2,
                'torch.bfloat16': 2, 'torch.int64': 8, 'torch.int32': 4, 'torch.int16': 2,
                'torch.int8': 1, 'torch.uint64': 8, 'torch.uint32': 4, 'torch.uint16': 2,
                'torch.uint8': 1, 'torch.bool': 1, 'torch.complex32': 4,
                'torch.complex64': 8, 'torch.complex128': 16, 'torch.float8_e4m3fn': 1,
                'torch.float8_e4m3fnuz': 1, 'torch.float8_e5m2': 1,
                'torch.float8_e5m2fnuz': 1, 'torch.float8_e8m0fnu': 1}
_LOCATION = re.compile(r'[a-z]{1,16}(:\d{1,4})?')
_NUMPY_TYPE = re.compile(r'[biuf][1248]')
_HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
_STATISTICS = ('min', 'max', 'current', 'mean')
_HISTORY_ARRAYS = ('_log_history', '_count_history')
#: The state of mmengine's OneCycleLR has one of its functions.
_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
_ANNEALINGS = ('_annealing_cos', '_annealing_linear')
#: Tensors of other kinds, and containers: what torch.save writes of a user's data.
_HARMLESS = re.compile(r'torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_\w+|'
                       r'torch\.serialization\._get_layout|torch\.nn\.parameter\.\w+|'
                       r'torch\.[a-z]\w*\d\w*|torch\.(storage\.)?\w+Storage|'
                       r'collections\.(defaultdict|deque)|builtins\.(bytearray|frozenset)|'
                       r'numpy\.(str_|bytes_|complex\d+|datetime64)|datetime\.\w+')


class RefusedContent(ValueError):
    """The file holds what is not read here; the text says what, after "it holds"."""


class HostileContent(RefusedContent):
    """The file asks for something that is no weights and no plain data."""


class DamagedContent(ValueError):
    """The file is not what torch writes, or less than it says."""


# ---- What a checkpoint consists of ------------------------------------------------------


@dataclass(frozen=True)
class _Global:
    """A class or function, by name."""
    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: (bytes of one, how many, where)."""
    item_size: int
    count: int
    key: str


@dataclass(frozen=True)
class _Leaf:
    """Something whole: a tensor, a number of numpy's, a device.

    Args:
        kind (str): What it is.
        hooks (dict, optional): Of a tensor; it has to be empty at the end as well.
        shape (tuple[int, ...]): Of a tensor.
        repeated (int): Of the numbers of a tensor, those that its storage does not have.
    """
    kind: str
    hooks: dict | None = None
    shape: tuple[int, ...] = ()
    repeated: int = 0


@dataclass(eq=False)
class _Buildable:
    """Something whose content follows."""
    kind: str
    item_size: int = 0
    whole: bool = False


class _OrderedDict(dict):
    """As torch keeps state dicts, which have ``_metadata`` of their own."""


_Scalar = None | bool | int | float | str | bytes
_MARK = object()


def _is_count(value, most: int = 2**48) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


class _Machine:
    """Reads one pickle.

    Args:
        file (BinaryIO): At the start of the pickle; afterwards, behind it.
        storages (dict): Gets the storages that are named, by key.
        size (int): Of the file, in bytes. A call may copy what it is given, and be given
            the same text again and again: the copies, too, must not be larger than that.
    """

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage], size: int) -> None:
        self.file, self.storages = file, storages
        self.stack: list = []
        self.memo: dict = {}
        self.copies_left = min(2 * size, _MAX_PICKLE_BYTES) + 2**20
        self.repeats_left = _MAX_REPEATED

    def run(self):
        """Returns a description of what the pickle makes.

        Raises:
            RefusedContent: see the class.
            DamagedContent: not a pickle, or one that ends too early.
        """
        for count, (operation, argument, _) in enumerate(pickletools.genops(self.file)):
            if count > _MAX_OPERATIONS:
                raise RefusedContent(f'more than {_MAX_OPERATIONS:,} operations')
            if operation.name == 'STOP':
                return self._pop()
            step = getattr(self, f'_{operation.name.lower()}', None)
            if step is not None:
                step(argument)
            elif operation.name in ('BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'LONG1',
                                    'BINUNICODE'):
                self.stack.append(argument)
            else:
                raise RefusedContent(f'the operation {operation.name}')
        raise DamagedContent('a pickle without an end')

    def _copy(self, values: Iterable) -> None:
        """Counts what is copied, by bytes or entries."""
        for value in values:
            if isinstance(value, str | bytes | list | tuple | dict):
                self.copies_left -= len(value)
        if self.copies_left < 0:
            raise RefusedContent('copies that are larger than the file')

    def _pop(self):
        value = self.stack.pop()
        if value is _MARK:
            raise DamagedContent('a mark where a value is expected')
        return value

    def _pop_to_mark(self) -> list:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _top(self, *kinds):
        if not isinstance(self.stack[-1], kinds):
            raise HostileContent(f'adding to {_describe(self.stack[-1])}')
        return self.stack[-1]

    # Each is one operation of pickle.

    def _proto(self, version: int) -> None:
        if version != 2:
            raise RefusedContent(f'a pickle of protocol {version}, not 2')

    def _short_binstring(self, text: str) -> None:
        # Of Python 2. Behind ASCII, readers differ on what the bytes mean.
        if not text.isascii():
            raise RefusedContent('a text of Python 2 that is not ASCII')
        self.stack.append(text)

    def _mark(self, _) -> None:
        self.stack.append(_MARK)

    def _none(self, _) -> None:
        self.stack.append(None)

    def _newtrue(self, _) -> None:
        self.stack.append(True)

    def _newfalse(self, _) -> None:
        self.stack.append(False)

    def _empty_list(self, _) -> None:
        self.stack.append([])

    def _empty_dict(self, _) -> None:
        self.stack.append({})

    def _empty_tuple(self, _) -> None:
        self.stack.append(())

    def _tuple(self, _) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _tuple1(self, _) -> None:
        self._pack(1)

    def _tuple2(self, _) -> None:
        self._pack(2)

    def _tuple3(self, _) -> None:
        self._pack(3)

    def _pack(self, count: int) -> None:
        self.stack.append(tuple([self._pop() for _ in range(count)][::-1]))

    def _binput(self, place: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise DamagedContent('nothing to remember')
        self.memo[place] = self.stack[-1]

    _long_binput = _binput

    def _binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _long_binget = _binget

    def _append(self, _) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, _) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _setitem(self, _) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self, _) -> None:
        self._set(self._pop_to_mark())

    def _set(self, pairs: list) -> None:
        table = self._top(dict)
        if len(pairs) % 2:
            raise DamagedContent('a key without a value')
        for key, value in zip(pairs[::2], pairs[1::2]):
            # Of a tuple of tuples of ... the hash takes for ever.
            if not isinstance(key, _Scalar):
                raise RefusedContent(f'a {_describe(key)} as a key')
            table[key] = value

    def _global(self, name: str) -> None:
        module, _, name = name.partition(' ')
        module = 'builtins' if module == '__builtin__' else module
        module = module.replace('numpy.core.', 'numpy._core.')
        name = f'{module}.{name}'
        if name not in _KNOWN and name not in _DTYPE_SIZES and not _is_storage_type(name):
            kind = RefusedContent if _HARMLESS.fullmatch(name) else HostileContent
            raise kind(name)
        self.stack.append(_Global(name))

    def _binpersid(self, _) -> None:
        self.stack.append(self._storage(self._pop()))

    def _storage(self, found) -> _Storage:
        # The sixth of the old format is for views of storages, which nobody has.
        if not isinstance(found, tuple) or len(found) not in (5, 6) or found[5:] not in (
                (), (None, )):
            raise HostileContent(f'{_describe(found)} as a reference to numbers')
        word, kind, key, location, count = found[:5]
        if (word != 'storage' or not isinstance(kind, _Global)
                or not _is_storage_type(kind.name) or not isinstance(key, str)
                or not isinstance(location, str) or not _LOCATION.fullmatch(location)
                or not _is_count(count)):
            raise HostileContent(f'{_describe(found)} as a reference to numbers')
        storage = _Storage(_ITEM_SIZES[kind.name.rpartition('.')[2]], count, key)
        if self.storages.setdefault(key, storage) != storage:
            raise HostileContent(f'numbers {key[:40]!r} under two types or sizes')
        return storage

    def _newobj(self, _) -> None:
        arguments, kind = self._pop(), self._pop()
        if kind != _Global(_HISTORY) or arguments != ():
            raise HostileContent(f'an instance of {_describe(kind)}')
        self.stack.append(_Buildable('history'))

    def _reduce(self, _) -> None:
        arguments, function = self._pop(), self._pop()
        make = _KNOWN.get(function.name) if isinstance(function, _Global) else None
        if make is None or not isinstance(arguments, tuple):
            raise HostileContent(f'a call of {_describe(function)}')
        self._copy(arguments)
        made = make(*arguments) if len(arguments) in _ARGUMENTS[function.name] else None
        if made is None:
            kind = HostileContent if make is _attribute else RefusedContent
            raise kind(f'{function.name} with arguments of an unknown kind')
        if isinstance(made, _Leaf):
            self.repeats_left -= made.repeated
            if self.repeats_left < 0:
                raise RefusedContent(f'tensors of more than {_MAX_REPEATED:,} numbers '
                                     'that are not in the file')
        self.stack.append(made)

    def _build(self, _) -> None:
        state, target = self._pop(), self.stack[-1]
        if isinstance(target, _OrderedDict):
            fits = isinstance(state, dict) and set(state) <= {'_metadata'}
            # It is kept beside the content, so that it is looked at as well.
            target[('_metadata', )] = state
        elif isinstance(target, _Buildable):
            self._copy(state if isinstance(state, tuple) else ())
            fits = not target.whole and _BUILDS[target.kind](target, state)
            target.whole = True
        else:
            fits = False
        if not fits:
            kind = RefusedContent if getattr(target, 'kind', '') in (
                'array', 'dtype') else HostileContent
            raise kind(f'a state of {_describe(target)} of an unknown kind')


def _describe(value) -> str:
    """Names a value, without what it holds."""
    if isinstance(value, _Global):
        return value.name
    return getattr(value, 'kind', None) or type(value).__name__.strip('_').lower()


# ---- Calls, each with what it may be given ----------------------------------------------


def _ordered_dict() -> _OrderedDict:
    return _OrderedDict()


def _counter(counts=None):
    fits = counts is None or isinstance(counts, dict) and all(
        isinstance(key, _Scalar) and isinstance(count, int)
        for key, count in counts.items())
    return _Leaf('counter') if fits else None


def _set_of(values):
    fits = isinstance(values, list) and all(isinstance(one, _Scalar) for one in values)
    return _Leaf('set') if fits else None


def _complex(real, imaginary):
    fits = isinstance(real, float) and isinstance(imaginary, float)
    return _Leaf('complex') if fits else None


def _tensor(storage, offset, shape, stride, requires_grad=False, hooks=None):
    """A tensor whose elements all lie within its storage."""
    return _tensor_of_items(storage, offset, shape, stride, requires_grad, hooks, 1)


def _tensor_of_type(storage, offset, shape, stride, requires_grad, hooks, dtype):
    """A tensor of a type that has no storage of its own: the storage counts bytes."""
    size = _DTYPE_SIZES.get(dtype.name) if isinstance(dtype, _Global) else None
    if not size or not isinstance(storage, _Storage) or storage.item_size != 1:
        return None
    return _tensor_of_items(storage, offset, shape, stride, requires_grad, hooks, size)


def _tensor_of_items(storage, offset, shape, stride, requires_grad, hooks, item_size):
    if (not isinstance(storage, _Storage) or not _is_count(offset)
            or not isinstance(shape, tuple) or not isinstance(stride, tuple)
            or len(shape) != len(stride) or len(shape) > 16
            or not all(map(_is_count, (*shape, *stride)))
            or not isinstance(requires_grad, bool)
            or hooks not in (None, {})):
        return None
    size, held = math.prod(shape), storage.count // item_size
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride))
    if size and last >= held:
        raise HostileContent(f'a tensor of {size:,} numbers, of which the file has '
                             f'{held:,}')
    return _Leaf('tensor', hooks, shape, max(0, size - held))


def _parameter(data, requires_grad, hooks):
    fits = (isinstance(data, _Leaf) and data.kind == 'tensor' and not data.hooks
            and isinstance(requires_grad, bool) and hooks in (None, {}))
    return _Leaf('tensor', hooks, data.shape) if fits else None


def _encode(text, encoding):
    fits = isinstance(text, str) and encoding == 'latin1' and (
        not text or max(text) <= '\xff')
    return text.encode('latin1') if fits else None


def _no_bytes():
    return b''


def _array(kind, shape, code):
    """An empty array; what is in it follows."""
    fits = kind == _Global('numpy.ndarray') and shape == (0, ) and code in (b'b', 'b')
    return _Buildable('array') if fits else None


def _array_state(array: _Buildable, state) -> bool:
    if not isinstance(state, tuple) or len(state) != 5:
        return False
    version, shape, kind, fortran, content = state
    array.item_size = getattr(kind, 'item_size', 0)
    return (version == 1 and isinstance(shape, tuple) and len(shape) <= 16
            and all(map(_is_count, shape)) and _is_dtype(kind)
            and isinstance(fortran, bool) and isinstance(content, bytes)
            and math.prod(shape) * kind.item_size == len(content))


def _dtype(code, align, copy):
    # numpy before 1.20 wrote 0 and 1.
    if not isinstance(code, str) or not _NUMPY_TYPE.fullmatch(code) or (
            not _is_flag(align) or not _is_flag(copy)):
        return None
    return _Buildable('dtype', int(code[1]))


def _is_flag(value) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _dtype_state(dtype: _Buildable, state) -> bool:
    return (isinstance(state, tuple) and len(state) == 8
            and state[0] == 3 and state[1] in ('<', '|')
            and state[2:] == (None, None, None, -1, -1, 0))


def _is_dtype(value) -> bool:
    return isinstance(value, _Buildable) and value.kind == 'dtype' and value.whole


def _number(kind, content):
    fits = _is_dtype(kind) and isinstance(content, bytes) and (
        len(content) == kind.item_size)
    return _Leaf('number') if fits else None


def _attribute(owner, name):
    if owner == _Global(_HISTORY) and name in _STATISTICS:
        return _Leaf(f'statistic {name}')
    if owner == _Global(_ONE_CYCLE) and name in _ANNEALINGS:
        return _Leaf('annealing')
    return None


def _history_state(history: _Buildable, state) -> bool:
    if not isinstance(state, dict) or not set(state) <= {
            'statistics_methods', 'max_length', *_HISTORY_ARRAYS}:
        return False
    methods = state.get('statistics_methods', {})
    return (isinstance(methods, dict)
            and all(value == _Leaf(f'statistic {name}') for name, value in methods.items())
            and _is_count(state.get('max_length', 0))
            and all(isinstance(state.get(name), _Buildable)
                    and state[name].kind == 'array' and state[name].whole
                    for name in _HISTORY_ARRAYS))


def _size(lengths):
    fits = isinstance(lengths, tuple | list) and len(lengths) <= 64 and (
        all(map(_is_count, lengths)))
    return _Leaf('size') if fits else None


def _device(kind, index=0):
    fits = isinstance(kind, str) and _LOCATION.fullmatch(kind) and _is_count(index, 9999)
    return _Leaf('device') if fits else None


_KNOWN = {
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_type,
    'torch._utils._rebuild_parameter': _parameter,
    'torch.Size': _size,
    'torch.device': _device,
    '_codecs.encode': _encode,
    'builtins.bytes': _no_bytes,
    'builtins.set': _set_of,
    'builtins.complex': _complex,
    'builtins.getattr': _attribute,
    'numpy.ndarray': None,
    'numpy.dtype': _dtype,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy._core.multiarray.scalar': _number,
    _HISTORY: None,
    _ONE_CYCLE: None,
}
_ARGUMENTS: dict[str, Iterable[int]] = {
    'collections.OrderedDict': (0, ),
    'collections.Counter': (0, 1),
    'torch._utils._rebuild_tensor': (4, ),
    'torch._utils._rebuild_tensor_v2': (6, ),
    'torch._utils._rebuild_tensor_v3': (7, ),
    'torch._utils._rebuild_parameter': (3, ),
    'torch.Size': (1, ),
    'torch.device': (1, 2),
    '_codecs.encode': (2, ),
    'builtins.bytes': (0, ),
    'builtins.set': (1, ),
    'builtins.complex': (2, ),
    'builtins.getattr': (2, ),
    'numpy.dtype': (3, ),
    'numpy._core.multiarray._reconstruct': (3, ),
    'numpy._core.multiarray.scalar': (2, ),
}
_BUILDS = {'array': _array_state, 'dtype': _dtype_state, 'history': _history_state}


def _is_storage_type(name: str) -> bool:
    module, _, kind = name.rpartition('.')
    home = 'torch.storage' if kind == 'UntypedStorage' else 'torch'
    return module == home and kind in _ITEM_SIZES


# ---- The whole --------------------------------------------------------------------------


def _check_values(root) -> None:
    """Refuses what is no data, loops, and what is deep or large without end.

    Raises:
        RefusedContent: see above.
    """
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    above: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        value, entered = waiting.pop()
        place = id(value)
        if not isinstance(value, list | tuple | dict):
            _check_leaf(value)
            continue
        inner = list(value.values()) if isinstance(value, dict) else value
        inner = [one for one in inner if isinstance(one, list | tuple | dict)]
        if entered:
            above.discard(place)
            sizes[place] = len(value) + 1 + sum(sizes[id(one)] for one in inner)
            depths[place] = 1 + max((depths[id(one)] for one in inner), default=0)
            if sizes[place] > _MAX_VALUES or depths[place] > _MAX_DEPTH:
                raise RefusedContent(f'values nested deeper than {_MAX_DEPTH}, or more '
                                     f'than {_MAX_VALUES:,} of them')
        elif place in above:
            raise RefusedContent('a value that holds itself')
        elif place not in sizes:
            above.add(place)
            waiting.append((value, True))
            waiting.extend((one, False) for one in (
                value.values() if isinstance(value, dict) else value))


def _check_leaf(value) -> None:
    if isinstance(value, _Scalar) or isinstance(value, _Leaf) and not (
            value.hooks or value.kind.startswith('statistic')):
        return
    if isinstance(value, _Buildable) and value.kind != 'dtype' and value.whole:
        return
    if isinstance(value, _Global) and value.name in _DTYPE_SIZES:
        return
    if isinstance(value, _Storage | _Buildable):
        raise RefusedContent(f'a {_describe(value)} by itself')
    raise HostileContent(f'{_describe(value)}, which is no data')


@dataclass(frozen=True)
class Record:
    """One file of an archive.

    Args:
        offset (int): Where its content starts, in bytes.
        size (int): Bytes.
    """
    offset: int
    size: int


@dataclass(frozen=True)
class ScannedCheckpoint:
    """What was found in a checkpoint.

    Args:
        content: A description of what loading makes: dicts, lists and tuples as they are;
            a tensor is an object with a ``shape``.
        records (dict[str, Record]): Of an archive, by name without the folder that they
            are all in; empty for the older format.
    """
    content: object
    records: dict[str, Record]


def scan_checkpoint(file: BinaryIO) -> ScannedCheckpoint:
    """Refuses a checkpoint that is not weights and plain data, all of it in the file.

    Args:
        file (BinaryIO): A regular file, or bytes in memory; it is left at its start.

    Returns:
        ScannedCheckpoint: What was found.

    Raises:
        RefusedContent: it asks for something else, names numbers that it does not have, or
            has more, or deeper, than any training writes.
        DamagedContent: it is not what torch writes, or truncated.
    """
    end = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    try:
        if start == _ZIP_START:
            return _scan_archive(file, end)
        if start[:1] in _PICKLE_STARTS:
            return ScannedCheckpoint(_scan_sequence(file, end), {})
        raise DamagedContent('neither a ZIP archive nor a pickle')
    except (RefusedContent, DamagedContent):
        raise
    except (ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError,
            struct.error, zipfile.BadZipFile, NotImplementedError,
            RuntimeError) as error:
        # What is not well formed; RuntimeError: an encrypted record.
        text = str(error).splitlines() or ['']
        raise DamagedContent(f'{type(error).__name__}: {text[0][:120]}') from error
    finally:
        file.seek(0)


def _find_directory(file: BinaryIO, end: int) -> tuple[int, int]:
    """Finds the directory of an archive where every reader finds it.

    An archive is read from its end, and readers differ on what they believe there: zipfile
    takes the directory right before the end record, whatever offset that record names, and
    torch the one at the offset. Here all that they could believe has to agree.

    Returns:
        tuple[int, int]: How many records it has, and where it starts.
    """
    file.seek(max(0, end - 98))
    tail = file.read().rjust(98, b'\0')
    if tail[76:80] != b'PK\5\6' or tail[96:] != b'\0\0':
        raise DamagedContent('no end of the archive at the end of the file')
    disk, first_disk, here, count, size, offset = struct.unpack('<4H2L', tail[80:96])
    behind = end - 22
    if tail[56:60] == b'PK\6\7':
        # Numbers of 64 bits, as torch always writes them.
        behind = end - 98
        locator_disk, place, disks = struct.unpack('<LQL', tail[60:76])
        if tail[:4] != b'PK\6\6' or place != behind or locator_disk or disks != 1:
            raise HostileContent('an archive with more than one end')
        length, _, _, disk, first_disk, here, count, size, offset = struct.unpack(
            '<Q2H2L4Q', tail[4:56])
        if length != 44:
            raise HostileContent('an archive with more than one end')
    if disk or first_disk or here != count or offset + size != behind:
        raise HostileContent('an archive with more than one directory')
    return count, offset


def _extra_fields(extra: bytes) -> list[int]:
    """Lists the kinds of extra fields of a record in the directory."""
    kinds = []
    while extra:
        kind, length = struct.unpack('<HH', extra[:4])
        if len(extra) < 4 + length:
            raise DamagedContent('a field of the directory that is cut off')
        kinds.append(kind)
        extra = extra[4 + length:]
    return kinds


def _find_records(file: BinaryIO, archive: zipfile.ZipFile, end: int) -> dict[str, Record]:
    """Finds the content of every record, which none shares with another.

    Returns:
        dict[str, Record]: By full name, in the order of the directory.
    """
    count, directory = _find_directory(file, end)
    entries = archive.infolist()
    if archive.start_dir != directory or len(entries) != count or archive.comment:
        raise HostileContent('an archive with more than one directory')
    records = {}
    for entry in entries:
        name = entry.filename
        # torch reads nothing of a folder (miniz tests the name and the DOS attribute), and
        # unpickles whatever its memory held before.
        if not name or name.endswith('/') or entry.external_attr & 0x10:
            raise HostileContent(f'a folder or a record without a name, {name[:60]!r}')
        if entry.orig_filename != name or '\0' in name or entry.volume or entry.comment or (
                # Of the other kinds some give a record another name.
                _extra_fields(entry.extra) not in ([], [1])):
            raise HostileContent(f'a record with two names, {name[:60]!r}')
        file.seek(entry.header_offset)
        header = file.read(30)
        method, length, more = *struct.unpack('<H', header[8:10]), *struct.unpack(
            '<2H', header[26:30])
        written = file.read(length)
        encoding = 'utf-8' if entry.flag_bits & 0x800 else 'cp437'
        if header[:4] != _ZIP_START or method or written != name.encode(encoding):
            raise HostileContent(f'a record with two names, {name[:60]!r}')
        records[name] = Record(entry.header_offset + 30 + length + more, entry.file_size)
    behind = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        record = records[entry.filename]
        if entry.header_offset < behind:
            raise HostileContent('records that overlap')
        behind = record.offset + record.size
    if behind > directory:
        raise HostileContent('records that overlap')
    return records


def _scan_archive(file: BinaryIO, end: int) -> ScannedCheckpoint:
    _find_directory(file, end)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_RECORDS:
            raise RefusedContent(f'{len(entries):,} records')
        if any(entry.filename.endswith('/constants.pkl') for entry in entries):
            raise HostileContent('a TorchScript archive, which is a program')
        # torch does not tell capitals from small letters.
        if len({entry.filename.lower() for entry in entries}) != len(entries):
            raise HostileContent('two records of one name')
        # torch stores records as they are; a compressed one may swell without end.
        packed = [entry.filename for entry in entries
                  if entry.compress_type != zipfile.ZIP_STORED
                  or entry.file_size != entry.compress_size]
        if packed:
            raise RefusedContent(f'a compressed record, {packed[0][:60]!r}')
        found = _find_records(file, archive, end)
        folder, _, rest = next(iter(found), '').partition('/')
        if not rest or any(not name.startswith(f'{folder}/') for name in found):
            raise DamagedContent('records that are not in one folder')
        records = {name[len(folder) + 1:]: record for name, record in found.items()}
        if 'data.pkl' not in records:
            raise DamagedContent('no data.pkl')
        size = records['data.pkl'].size
        if size > _MAX_PICKLE_BYTES:
            raise RefusedContent(f'{size:,} bytes beside the weights')
        storages: dict[str, _Storage] = {}
        stream = io.BytesIO(archive.read(f'{folder}/data.pkl'))
        content = _Machine(stream, storages, size).run()
        _check_values(content)
        for storage in storages.values():
            record = records.get(f'data/{storage.key}', Record(0, -1))
            if record.size != storage.count * storage.item_size:
                raise DamagedContent(
                    f'numbers {storage.key[:40]!r}: {storage.count * storage.item_size:,} '
                    f'bytes are named, {max(record.size, 0):,} are there')
        # torch compares no checksums: a flipped bit would be loaded as if it were learnt.
        damaged = archive.testzip()
        if damaged:
            raise DamagedContent(f'the checksum of {damaged[:60]!r} is wrong')
    return ScannedCheckpoint(content, records)


def _scan_sequence(file: BinaryIO, end: int):
    storages: dict[str, _Storage] = {}
    if _Machine(file, storages, end).run() != _LEGACY_MAGIC:
        raise DamagedContent('a pickle that torch.save did not write')
    parts = {}
    for name in ('version', 'system', 'content', 'keys'):
        parts[name] = _Machine(file, storages, end).run()
        _check_values(parts[name])
    keys = parts['keys']
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise DamagedContent('numbers that are named, and not there')
    # Behind come the numbers; before each, how many.
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file.read(8), 'little')
        size = storage.count * storage.item_size
        if count != storage.count or size > end - file.tell():
            raise DamagedContent(f'numbers {key[:40]!r}: {size:,} bytes are named, '
                                 f'{end - file.tell():,} are there')
        file.seek(size, io.SEEK_CUR)
    return parts['content']
