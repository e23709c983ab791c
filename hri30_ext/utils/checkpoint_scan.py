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
"""

import io
import math
import pickletools
import re
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

_ITEM_SIZES = {'DoubleStorage': 8, 'FloatStorage': 4, 'HalfStorage': 2,
               'BFloat16Storage': 2, 'LongStorage': 8, 'IntStorage': 4, 'ShortStorage': 2,
               'CharStorage': 1, 'ByteStorage': 1, 'BoolStorage': 1,
               'ComplexFloatStorage': 8, 'ComplexDoubleStorage': 16}
_LOCATION = re.compile(r'[a-z]{1,16}(:\d{1,4})?')
_NUMPY_TYPE = re.compile(r'[biuf][1248]')
_HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
_STATISTICS = ('min', 'max', 'current', 'mean')
_HISTORY_ARRAYS = ('_log_history', '_count_history')


class RefusedContent(ValueError):
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
    """
    kind: str
    hooks: dict | None = None


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
    """

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        self.file, self.storages = file, storages
        self.stack: list = []
        self.memo: dict = {}

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
                                    'BINUNICODE', 'SHORT_BINSTRING'):
                self.stack.append(argument)
            else:
                raise RefusedContent(f'operation {operation.name}')
        raise DamagedContent('a pickle without an end')

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
            raise RefusedContent(f'adding to {_describe(self.stack[-1])}')
        return self.stack[-1]

    # Each is one operation of pickle.

    def _proto(self, version: int) -> None:
        if version != 2:
            raise RefusedContent(f'pickle protocol {version}; torch writes 2')

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
                raise RefusedContent(f'{_describe(key)} as a key')
            table[key] = value

    def _global(self, name: str) -> None:
        module, _, name = name.partition(' ')
        module = 'builtins' if module == '__builtin__' else module
        module = module.replace('numpy.core.', 'numpy._core.')
        name = f'{module}.{name}'
        if name not in _KNOWN and not _is_storage_type(name):
            raise RefusedContent(name)
        self.stack.append(_Global(name))

    def _binpersid(self, _) -> None:
        self.stack.append(self._storage(self._pop()))

    def _storage(self, found) -> _Storage:
        # The sixth of the old format is for views of storages, which nobody has.
        if not isinstance(found, tuple) or len(found) not in (5, 6) or found[5:] not in (
                (), (None, )):
            raise RefusedContent(f'{_describe(found)} as a reference to numbers')
        word, kind, key, location, count = found[:5]
        if (word != 'storage' or not isinstance(kind, _Global)
                or not _is_storage_type(kind.name) or not isinstance(key, str)
                or not isinstance(location, str) or not _LOCATION.fullmatch(location)
                or not _is_count(count)):
            raise RefusedContent(f'{_describe(found)} as a reference to numbers')
        storage = _Storage(_ITEM_SIZES[kind.name.rpartition('.')[2]], count, key)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedContent(f'numbers {key[:40]!r} under two types or sizes')
        return storage

    def _newobj(self, _) -> None:
        arguments, kind = self._pop(), self._pop()
        if kind != _Global(_HISTORY) or arguments != ():
            raise RefusedContent(f'an instance of {_describe(kind)}')
        self.stack.append(_Buildable('history'))

    def _reduce(self, _) -> None:
        arguments, function = self._pop(), self._pop()
        make = _KNOWN.get(function.name) if isinstance(function, _Global) else None
        if make is None or not isinstance(arguments, tuple):
            raise RefusedContent(f'a call of {_describe(function)}')
        made = make(*arguments) if len(arguments) in _ARGUMENTS[function.name] else None
        if made is None:
            raise RefusedContent(f'{function.name} with arguments of another kind')
        self.stack.append(made)

    def _build(self, _) -> None:
        state, target = self._pop(), self.stack[-1]
        if isinstance(target, _OrderedDict):
            fits = isinstance(state, dict) and set(state) <= {'_metadata'}
            # It is kept beside the content, so that it is looked at as well.
            target[('_metadata', )] = state
        elif isinstance(target, _Buildable):
            fits = not target.whole and _BUILDS[target.kind](target, state)
            target.whole = True
        else:
            fits = False
        if not fits:
            raise RefusedContent(f'a state of {_describe(target)} of another kind')


def _describe(value) -> str:
    """Names a value, without what it holds."""
    if isinstance(value, _Global):
        return value.name
    return getattr(value, 'kind', None) or type(value).__name__.strip('_').lower()


# ---- Calls, each with what it may be given ----------------------------------------------


def _ordered_dict() -> _OrderedDict:
    return _OrderedDict()


def _tensor(storage, offset, shape, stride, requires_grad=False, hooks=None):
    """A tensor whose elements all lie within its storage, as many as that has at most."""
    if (not isinstance(storage, _Storage) or not _is_count(offset)
            or not isinstance(shape, tuple) or not isinstance(stride, tuple)
            or len(shape) != len(stride) or len(shape) > 16
            or not all(map(_is_count, (*shape, *stride)))
            or not isinstance(requires_grad, bool)
            or hooks not in (None, {})):
        return None
    size = math.prod(shape)
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride))
    if size and (last >= storage.count or size > storage.count):
        raise RefusedContent(f'a tensor of {size:,} numbers, of which the file has '
                             f'{storage.count:,}')
    return _Leaf('tensor', hooks)


def _parameter(data, requires_grad, hooks):
    fits = (isinstance(data, _Leaf) and data.kind == 'tensor' and not data.hooks
            and isinstance(requires_grad, bool) and hooks in (None, {}))
    return _Leaf('tensor', hooks) if fits else None


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
    if not isinstance(code, str) or not _NUMPY_TYPE.fullmatch(code) or (
            not isinstance(align, bool) or not isinstance(copy, bool)):
        return None
    return _Buildable('dtype', int(code[1]))


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


def _statistic(owner, name):
    fits = owner == _Global(_HISTORY) and name in _STATISTICS
    return _Leaf(f'statistic {name}') if fits else None


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
    fits = isinstance(lengths, tuple | list) and all(map(_is_count, lengths))
    return _Leaf('size') if fits else None


def _device(kind, index=0):
    fits = isinstance(kind, str) and _LOCATION.fullmatch(kind) and _is_count(index, 9999)
    return _Leaf('device') if fits else None


_KNOWN = {
    'collections.OrderedDict': _ordered_dict,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': _parameter,
    'torch.Size': _size,
    'torch.device': _device,
    '_codecs.encode': _encode,
    'builtins.bytes': _no_bytes,
    'builtins.getattr': _statistic,
    'numpy.ndarray': None,
    'numpy.dtype': _dtype,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy._core.multiarray.scalar': _number,
    _HISTORY: None,
}
_ARGUMENTS: dict[str, Iterable[int]] = {
    'collections.OrderedDict': (0, ),
    'torch._utils._rebuild_tensor': (4, ),
    'torch._utils._rebuild_tensor_v2': (6, ),
    'torch._utils._rebuild_parameter': (3, ),
    'torch.Size': (1, ),
    'torch.device': (1, 2),
    '_codecs.encode': (2, ),
    'builtins.bytes': (0, ),
    'builtins.getattr': (2, ),
    'numpy.dtype': (3, ),
    'numpy._core.multiarray._reconstruct': (3, ),
    'numpy._core.multiarray.scalar': (2, ),
}
_BUILDS = {'array': _array_state, 'dtype': _dtype_state, 'history': _history_state}


def _is_storage_type(name: str) -> bool:
    module, _, kind = name.rpartition('.')
    return module == 'torch' and kind in _ITEM_SIZES


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
    raise RefusedContent(f'{_describe(value)}, which is no data')


def scan_checkpoint(file: BinaryIO) -> None:
    """Refuses a checkpoint that is not weights and plain data, all of it in the file.

    Args:
        file (BinaryIO): A regular file, or bytes in memory; it is left at its start.

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
            _scan_archive(file, end)
        elif start[:1] in _PICKLE_STARTS:
            _scan_sequence(file, end)
        else:
            raise DamagedContent('neither a ZIP archive nor a pickle')
    except (RefusedContent, DamagedContent):
        raise
    except (ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError,
            zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # What is not well formed; RuntimeError: an encrypted record.
        text = str(error).splitlines() or ['']
        raise DamagedContent(f'{type(error).__name__}: {text[0][:120]}') from error
    finally:
        file.seek(0)


def _scan_archive(file: BinaryIO, end: int) -> None:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if len(records) > _MAX_RECORDS:
            raise RefusedContent(f'{len(records):,} records')
        sizes = {record.filename: record.file_size for record in records}
        # torch does not tell capitals from small letters.
        if len({name.lower() for name in sizes}) != len(records):
            raise RefusedContent('two records of one name')
        folder, _, rest = records[0].filename.partition('/') if records else ('', '', '')
        if not rest or any(not name.startswith(f'{folder}/') for name in sizes):
            raise DamagedContent('records that are not in one folder')
        if f'{folder}/constants.pkl' in sizes:
            raise RefusedContent('a TorchScript archive, which is a program')
        pickled = f'{folder}/data.pkl'
        if pickled not in sizes:
            raise DamagedContent('no data.pkl')
        # torch stores records as they are; a compressed one may swell without end.
        packed = [record.filename for record in records
                  if record.compress_type != zipfile.ZIP_STORED
                  or record.file_size != record.compress_size]
        if packed:
            raise RefusedContent(f'a compressed record, {packed[0][:60]!r}')
        if sum(sizes.values()) > end or archive.comment:
            raise RefusedContent('records that overlap')
        if sizes[pickled] > _MAX_PICKLE_BYTES:
            raise RefusedContent(f'{sizes[pickled]:,} bytes beside the weights')
        storages: dict[str, _Storage] = {}
        stream = io.BytesIO(archive.read(pickled))
        _check_values(_Machine(stream, storages).run())
        for storage in storages.values():
            found = sizes.get(f'{folder}/data/{storage.key}', -1)
            if found != storage.count * storage.item_size:
                raise DamagedContent(
                    f'numbers {storage.key[:40]!r}: {storage.count * storage.item_size:,} '
                    f'bytes are named, {max(found, 0):,} are there')
        # torch compares no checksums: a flipped bit would be loaded as if it were learnt.
        damaged = archive.testzip()
        if damaged:
            raise DamagedContent(f'the checksum of {damaged[:60]!r} is wrong')


def _scan_sequence(file: BinaryIO, end: int) -> None:
    storages: dict[str, _Storage] = {}
    if _Machine(file, storages).run() != _LEGACY_MAGIC:
        raise DamagedContent('a pickle that torch.save did not write')
    for _ in ('version', 'system', 'content', 'keys'):
        _check_values(_Machine(file, storages).run())
    # Behind come the numbers; before each, how many.
    named = sum(storage.count * storage.item_size + 8 for storage in storages.values())
    if named > end - file.tell():
        raise DamagedContent(f'{named:,} bytes of numbers are named, '
                             f'{end - file.tell():,} are there')
