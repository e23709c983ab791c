"""torch's ``weights_only`` unpickler, with bounds, and stand-ins for what mmengine names.

torch calls nothing that is not on its list, but it calls what is on the list with any
arguments, any number of times. :class:`BoundedUnpickler` is torch's unpickler, which looks
at its own stack before it executes an operation that copies, hashes or calls. It creates
tensors without data, so that it can run before :func:`torch.load`.
"""

import codecs
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch._weights_only_unpickler import Unpickler
from torch.storage import TypedStorage, UntypedStorage

_MAX_DEPTH = 50
# Of the whole content if shared parts were written out: a list of ten references to a list
# of ten references to a list of ... takes a few bytes, but forever to print or to compare.
_MAX_VALUES = 20_000_000
_ELEMENT_BYTES = 64  # of memory that an element of a dict or a set takes, at least
_MAX_KEY = 2**60  # integers from 2**61 - 1 on may share their hash with others
_LOCATION = re.compile(r'(cpu|cuda|mps|xpu)(:\d{1,3})?')
_NUMPY_TYPE = re.compile(r'[iu][1248]|f[248]|b1')
_STATISTICS = ('min', 'max', 'current', 'mean')
_ANNEALINGS = ('_annealing_cos', '_annealing_linear')


class RefusedContent(ValueError):
    """The file holds something that is not read here; the text follows "it holds"."""


class HostileContent(RefusedContent):
    """The file asks for something that is neither weights nor plain data."""


class DamagedContent(ValueError):
    """The file is truncated, or torch.save did not write it."""


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise RefusedContent(f'{what} of an unexpected form')


# ---- Stand-ins, which check their arguments when torch calls them ------------------------


class _Dtype:
    """``numpy.dtype`` of booleans, integers and floats, little-endian."""

    def __init__(self, code, align, copy) -> None:
        _require(_NUMPY_TYPE.fullmatch(code) is not None, 'numpy.dtype')
        self.dtype = np.dtype(code)

    def __setstate__(self, state) -> None:
        _require(state in [(3, order, None, None, None, -1, -1, 0) for order in '<|'],
                 'numpy.dtype')


class _Array:
    """``numpy.ndarray``; :func:`restore` replaces it."""

    real: np.ndarray | None = None

    def __setstate__(self, state) -> None:
        _, shape, kind, is_fortran, data = state
        _require(type(kind) is _Dtype and type(data) is bytes, 'numpy.ndarray')
        self.real = np.ndarray(shape, kind.dtype, data, order='CF'[is_fortran]).copy('K')


class _History:
    """mmengine's ``HistoryBuffer``, whose own method would change the class."""

    real: HistoryBuffer | None = None

    def __setstate__(self, state) -> None:
        _require(state.keys() - {'statistics_methods'} == {
            'max_length', '_log_history', '_count_history'}, 'HistoryBuffer')
        log, count = state['_log_history'], state['_count_history']
        _require(type(log) is _Array and type(count) is _Array, 'HistoryBuffer')
        self.real = HistoryBuffer(log.real, count.real, state['max_length'])


class _OneCycle:
    """The class of mmengine's OneCycleLR, whose state names one of its functions."""


def _attribute(owner, name):
    """``getattr``, by which pickles name the functions of a class."""
    if owner is _History and name in _STATISTICS:
        return name
    if owner is _OneCycle and name in _ANNEALINGS:
        return getattr(OneCycleParamScheduler, name)
    # Only of a text: that of nested lists may take forever to write.
    what = repr(name)[:40] if isinstance(name, str) else type(name).__name__
    raise HostileContent(f'the attribute {what} of {_name(owner)}')


def _reconstruct(kind, shape, code) -> _Array:
    """numpy's function for an empty array, whose content follows."""
    _require(kind is _Array, 'numpy.ndarray')
    return _Array()


def _scalar(kind, data) -> np.generic:
    """numpy's function for a number."""
    _require(type(kind) is _Dtype and type(data) is bytes, 'a number of numpy')
    return np.frombuffer(data, kind.dtype, 1)[0]


def _no_bytes() -> bytes:
    """``bytes()``, the content of an empty array."""
    return b''


#: For :func:`torch.serialization.safe_globals`; numpy 1 and 2 name their module otherwise.
STAND_INS = [
    (_Dtype, 'numpy.dtype'), (_Array, 'numpy.ndarray'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'), (_scalar, 'numpy._core.multiarray.scalar'),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_OneCycle, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
    (_attribute, 'builtins.getattr'), (_no_bytes, 'builtins.bytes')]

_REBUILD = (torch._utils._rebuild_tensor, torch._utils._rebuild_tensor_v2,
            torch._utils._rebuild_tensor_v3)
_CALLABLE = {OrderedDict, Counter, set, complex, codecs.encode, torch.Size, torch.device,
             torch._utils._rebuild_parameter, *_REBUILD,
             _Dtype, _reconstruct, _scalar, _attribute, _no_bytes}


def _name(value) -> str:
    """Names a function, a class or the type of a value; never its content."""
    named = value if callable(value) else type(value)
    return f'{named.__module__}.{named.__name__}'


# ---- Unpickling -------------------------------------------------------------------------


class BoundedUnpickler(Unpickler):
    """torch's unpickler, which refuses what costs more than the file's size suggests.

    ``load`` of the base class reads a byte and executes the operation that it stands for.
    Here reading that byte inspects the stack first. An operation that is not known here is
    refused, so that with another base class nothing is loaded unseen.

    Args:
        file (BinaryIO): At the start of the pickle; afterwards behind it.
        find_storage (Callable): Called with key, number of elements and bytes of one, for
            each storage; raises an error if the file does not hold it.
        left (dict[str, int]): What all pickles of a file together may still use.
    """

    #: By operation of protocol 2, how often torch reads after it (texts apart).
    _READS = {**dict.fromkeys(b')(]}tRbsuaecNQ.\x81\x85\x86\x87\x88\x89', 0),
              **dict.fromkeys(b'\x80KMJGhjqr', 1), **dict.fromkeys(b'XU\x8a', 2)}

    def __init__(self, file: BinaryIO, find_storage: Callable[[str, int, int], None],
                 left: dict[str, int]) -> None:
        super().__init__(file, encoding='utf-8')
        self.read, self.readline = self._read, file.readline
        self._file, self._find_storage, self._left = file, find_storage, left
        self._operation, self._reads = 0, 0
        self._storages: dict[str, TypedStorage] = {}

    @staticmethod
    def limits(size: int) -> dict[str, int]:
        """Returns what a file of a size in bytes may use: ``left`` of the class."""
        return {'operations': 1_000_000, 'calls': 50_000, 'elements not stored': 2**20,
                'bytes copied': 2 * size + 2**24}

    def _spend(self, what: str, amount: int) -> None:
        self._left[what] -= amount
        if self._left[what] < 0:
            raise RefusedContent(f'more {what} than plausible')

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if self._reads:
            self._reads -= 1
            if self._operation == 0x80 and data != b'\2':
                raise RefusedContent(f'a pickle of protocol {data[0]}, not 2')
        elif data:
            self._operation = data[0]
            if self._operation not in self._READS:
                raise RefusedContent(f'the operation {data!r}')
            self._reads = self._READS[self._operation]
            self._spend('operations', 1)
            self._inspect(data)
        return data

    def _inspect(self, operation: bytes) -> None:
        """Checks what an operation is about to do with the values on the stack."""
        if operation == b's':
            _check_keys(self.stack[-2:-1])
        elif operation == b'u':
            _check_keys(self.stack[::2])
        elif operation == b'R':
            self._check_call(*self.stack[-2:])
        elif operation == b'b':
            self._check_state(*self.stack[-2:])
        elif operation == b'\x81' and (self.stack[-2] is not _History or self.stack[-1]):
            raise HostileContent(f'an instance of {_name(self.stack[-2])}')

    def _check_call(self, function, arguments) -> None:
        if function not in _CALLABLE:
            raise RefusedContent(f'a call of {_name(function)}')
        self._spend('calls', 1)
        self._count_copies(arguments)
        if function in _REBUILD:
            self._check_tensor(*arguments)
        elif function in (set, Counter) and arguments:
            _check_keys(*arguments)
        elif function is OrderedDict:
            _require(not arguments, 'an OrderedDict')
        elif function is codecs.encode:  # some other encodings take quadratic time
            _require(arguments[1:] == ('latin1', ), 'bytes')

    def _check_tensor(self, storage, offset, shape, stride, grad=False, hooks=None,
                      dtype=None, metadata=None) -> None:
        _require(type(storage) is TypedStorage and len(shape) == len(stride)
                 and all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)),
                 'a tensor')
        kind = dtype if isinstance(dtype, torch.dtype) else storage.dtype
        _require(not str(kind).startswith('torch.q'), 'a quantised tensor')
        held, size = storage._untyped_storage.nbytes() // kind.itemsize, math.prod(shape)
        if size and offset + sum((n - 1) * s for n, s in zip(shape, stride)) >= held:
            raise HostileContent(f'a tensor of {size:,} elements, and {held:,} of them')
        self._spend('elements not stored', max(0, size - held))  # expand() repeats some

    def _check_state(self, target, state) -> None:
        if type(target) is OrderedDict:  # any other attribute would replace a method
            if type(state) is not dict or not set(state) <= {'_metadata'}:
                raise HostileContent('attributes of an OrderedDict')
        elif type(target) not in (_Dtype, _Array, _History):
            raise HostileContent(f'a state of {_name(type(target))}')
        elif type(state) is tuple:
            self._count_copies(state)

    def _count_copies(self, values: tuple) -> None:
        for value in values:
            if isinstance(value, str | bytes):
                self._spend('bytes copied', len(value))
            elif isinstance(value, list | tuple | dict | set):
                self._spend('bytes copied', len(value) * _ELEMENT_BYTES)

    def persistent_load(self, pid) -> TypedStorage:
        """Returns a storage without data, of the size that the file claims."""
        # The sixth is for views of storages, which nobody writes.
        word, kind, key, location, count, *view = pid
        if not (word == 'storage' and isinstance(key, str) and view in ([], [None]) and (
                kind is UntypedStorage or type(kind) is torch.serialization.StorageType)
                and _LOCATION.fullmatch(location) and type(count) is int and count >= 0):
            raise HostileContent('a storage of an unexpected kind, size or location')
        dtype = torch.uint8 if kind is UntypedStorage else kind.dtype
        if key not in self._storages:
            self._find_storage(key, count, dtype.itemsize)
            data = UntypedStorage(count * dtype.itemsize, device='meta')
            self._storages[key] = TypedStorage(wrap_storage=data, dtype=dtype,
                                               _internal=True)
        known = self._storages[key]
        _require(known.dtype == dtype and known._size() == count, 'one storage as another')
        return known


def _check_keys(keys) -> None:
    # The hash of a tuple of tuples of ... takes forever to compute.
    for key in keys:
        if type(key) is int and abs(key) >= _MAX_KEY:
            raise RefusedContent('a large integer as a key')
        if type(key) not in (str, int, bool, type(None)):
            raise RefusedContent(f'a {type(key).__name__} as a key')


# ---- What was loaded --------------------------------------------------------------------

_PLAIN = (type(None), bool, int, float, complex, str, bytes, set, torch.Size, torch.device,
          torch.dtype)


def restore(content):
    """Returns what torch loaded with arrays and histories for stand-ins, mostly in place.

    Raises:
        RefusedContent: it holds itself, is too deep or too large, or is no data.
    """
    # By id of a container, which is kept so that no other gets its id: what replaces it,
    # the number of its values and its depth; None while it is visited.
    visited: dict[int, tuple | None] = {}

    def visit(value, depth: int) -> tuple:
        if type(value) not in (dict, OrderedDict, Counter, list, tuple):
            return _restore_leaf(value), 1, 0, value
        if id(value) not in visited and depth <= _MAX_DEPTH:
            visited[id(value)] = None
            visited[id(value)] = *visit_items(value, depth + 1), value
        found = visited.get(id(value))
        if found is None or found[1] > _MAX_VALUES or depth + found[2] > _MAX_DEPTH:
            raise RefusedContent(f'a value that holds itself, values nested deeper than '
                                 f'{_MAX_DEPTH}, or more than {_MAX_VALUES:,} of them')
        return found

    def visit_items(value, depth: int) -> tuple:
        items = list(value.values() if isinstance(value, dict) else value)
        attributes = getattr(value, '__dict__', {})  # of an OrderedDict: _metadata
        found = [visit(item, depth) for item in (*items, *attributes.values())]
        new = [one[0] for one in found]
        attributes.update(zip(attributes, new[len(items):]))
        if isinstance(value, dict):
            dict.update(value, zip(list(value), new))  # Counter's own would add
        elif type(value) is list:
            value[:] = new
        else:
            value = tuple(new)
        return (value, 1 + sum(one[1] for one in found),
                1 + max((one[2] for one in found), default=0))

    return visit(content, 0)[0]


def _restore_leaf(value):
    kind = type(value)
    if kind in (_Array, _History) and value.real is not None:
        return value.real
    if kind in _PLAIN or isinstance(value, np.generic):
        return value
    if kind in (torch.Tensor, torch.nn.Parameter) and not value._backward_hooks:
        return value
    if any(value is getattr(OneCycleParamScheduler, name) for name in _ANNEALINGS):
        return value
    error = RefusedContent if kind is TypedStorage else HostileContent
    raise error(f'{_name(value)}, which is no data')
