"""torch's ``weights_only`` unpickler, with bounds, and stand-ins for what mmengine names.

torch calls nothing that is not on its list, but it calls what is on the list with any
arguments and any number of times. :class:`BoundedUnpickler` is torch's unpickler, which
looks at its own stack before it executes an operation that copies, hashes or calls. It
creates tensors without data, so that it runs before :func:`torch.load` does.

Names beyond torch's own are served by stand-ins, which check their arguments when torch
calls them. :func:`restore` replaces stand-ins by the objects that they stand for.
"""

import codecs
import contextlib
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch._weights_only_unpickler import Unpickler

_MAX_PICKLE_BYTES = 64 << 20
_MAX_OPERATIONS = 1_000_000
_MAX_CALLS = 100_000
_MAX_NAME = 1000  # bytes of a line, which holds the name of a module, class or function
_MAX_DEPTH = 50
# Of the whole content if shared parts were written out: a list of ten references to a list
# of ten references to a list of ... takes a few bytes, but forever to print or to compare.
_MAX_VALUES = 20_000_000
# Elements of all tensors together that no storage holds: ``expand`` repeats elements.
_MAX_REPEATED = 2**20
# Bytes of memory that an element of a dict or a set takes, at least.
_ELEMENT_BYTES = 64
# A key of at least 2**61 - 1 can share its hash with many others; see hash() of int.
_MAX_KEY = 2**60

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


def _is_count(value, most: int = 2**48) -> bool:
    return type(value) is int and 0 <= value <= most


def _are_counts(values, most_items: int = 64) -> bool:
    return isinstance(values, tuple | list) and len(values) <= most_items and (
        all(map(_is_count, values)))


# ---- Stand-ins, by the names that numpy's and mmengine's objects have in a pickle --------


class _Dtype:
    """``numpy.dtype``: bool, integers and floats, little-endian."""

    def __init__(self, code, align, copy) -> None:
        # numpy before 1.20 wrote 0 and 1 for False and True.
        _require(isinstance(code, str) and _NUMPY_TYPE.fullmatch(code) is not None
                 and align in (0, 1) and copy in (0, 1), 'numpy.dtype')
        self.dtype = np.dtype(code)

    def __setstate__(self, state) -> None:
        _require(state in [(3, order, None, None, None, -1, -1, 0) for order in '<|'],
                 'numpy.dtype')


class _Array:
    """``numpy.ndarray``."""

    array: np.ndarray | None = None

    def __setstate__(self, state) -> None:
        version, shape, kind, is_fortran, data = state
        _require(version == 1 and _are_counts(shape, 16) and type(kind) is _Dtype
                 and type(is_fortran) is bool and type(data) is bytes
                 and math.prod(shape) * kind.dtype.itemsize == len(data), 'numpy.ndarray')
        flat = np.frombuffer(data, kind.dtype)
        self.array = flat.reshape(shape, order='F' if is_fortran else 'C').copy('K')


class _History:
    """mmengine's ``HistoryBuffer``, whose own method would change the class."""

    history: HistoryBuffer | None = None

    def __setstate__(self, state) -> None:
        statistics = state.pop('statistics_methods', {})
        _require(set(state) == {'max_length', '_log_history', '_count_history'}
                 and all(value is _STATISTIC for value in statistics.values()),
                 'HistoryBuffer')
        log, count, length = (state['_log_history'], state['_count_history'],
                              state['max_length'])
        _require(type(log) is _Array and type(count) is _Array and _is_count(length),
                 'HistoryBuffer')
        _require(log.array.shape == count.array.shape and log.array.ndim == 1
                 and len(log.array) <= length, 'HistoryBuffer')
        self.history = HistoryBuffer(log.array, count.array, length)


class _OneCycle:
    """The class of mmengine's OneCycleLR, whose state names one of its functions."""


_STATISTIC = object()  # a method of HistoryBuffer


def _attribute(owner, name):
    """``getattr``, by which pickles name the methods of a class."""
    if owner is _History and name in _STATISTICS:
        return _STATISTIC
    if owner is _OneCycle and name in _ANNEALINGS:
        return getattr(OneCycleParamScheduler, name)
    raise HostileContent(f'the attribute {name!r:.40} of {_name(owner)}')


def _reconstruct(kind, shape, code) -> _Array:
    """``numpy``'s function for an empty array, whose content follows."""
    _require(kind is _Array and shape == (0, ) and code in (b'b', 'b'), 'numpy.ndarray')
    return _Array()


def _scalar(kind, data) -> np.generic:
    """``numpy``'s function for a number."""
    _require(type(kind) is _Dtype and type(data) is bytes
             and len(data) == kind.dtype.itemsize, 'a number of numpy')
    return np.frombuffer(data, kind.dtype)[0]


def _no_bytes() -> bytes:
    """``bytes`` without arguments: the content of an empty array."""
    return b''


#: For :func:`torch.serialization.safe_globals`.
STAND_INS = [
    (_Dtype, 'numpy.dtype'),
    (_Array, 'numpy.ndarray'),
    # numpy 1 and 2 pickle the same functions under different module names.
    *((function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')
      for function, name in ((_reconstruct, '_reconstruct'), (_scalar, 'scalar'))),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_OneCycle, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
    (_attribute, 'builtins.getattr'),
    (_no_bytes, 'builtins.bytes'),
]


# ---- Calls of torch's own functions, with the arguments that they may have ---------------


def _is_key(value) -> bool:
    return type(value) in (str, bool, type(None)) or (
        type(value) is int and abs(value) < _MAX_KEY)


def _has_no_hooks(hooks) -> bool:
    return hooks is None or type(hooks) in (dict, OrderedDict) and not hooks


def _tensor(storage, offset, shape, stride, requires_grad=False, hooks=None) -> int | None:
    return _tensor_of_type(storage, offset, shape, stride, requires_grad, hooks,
                           storage.dtype)


def _tensor_of_type(storage, offset, shape, stride, requires_grad, hooks, dtype):
    """Returns how many elements the storage does not hold; None if it lacks the last."""
    if not (type(storage) is torch.storage.TypedStorage and _is_count(offset)
            and _are_counts(shape) and _are_counts(stride) and len(shape) == len(stride)
            and type(requires_grad) is bool and _has_no_hooks(hooks)):
        return None
    held = storage._untyped_storage.nbytes() // dtype.itemsize
    size = math.prod(shape)
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride))
    if size and last >= held:
        raise HostileContent(f'a tensor of {size:,} elements, and {held:,} of them')
    return max(0, size - held)


def _parameter(data, requires_grad, hooks):
    return type(data) is torch.Tensor and type(requires_grad) is bool and _has_no_hooks(
        hooks)


def _device(kind, index=0):
    return (isinstance(kind, str) and _LOCATION.fullmatch(kind) is not None
            and _is_count(index, 999))


#: What may be called: a function returns whether its arguments are acceptable, and of
#: tensors how many elements are repeated.
_CALLS: dict[Callable, Callable] = {
    OrderedDict: lambda: True,
    Counter: lambda counts={}: type(counts) is dict,
    set: lambda values: type(values) is list and all(map(_is_key, values)),
    complex: lambda real, imaginary: type(real) is float and type(imaginary) is float,
    torch.Size: _are_counts,
    torch.device: _device,
    torch._utils._rebuild_tensor: _tensor,
    torch._utils._rebuild_tensor_v2: _tensor,
    torch._utils._rebuild_tensor_v3: _tensor_of_type,
    torch._utils._rebuild_parameter: _parameter,
    codecs.encode: lambda text, encoding: type(text) is str and encoding == 'latin1',
    # They check their arguments themselves.
    **{function: lambda *_: True for function in (_Dtype, _reconstruct, _scalar,
                                                  _attribute, _no_bytes)},
}


def _name(value) -> str:
    """Names a function or class, or the type of a value; never its content."""
    named = value if callable(value) else type(value)
    return (f'{getattr(named, "__module__", "")}.{getattr(named, "__name__", "")}'
            ).lstrip('._')


# ---- Unpickling -------------------------------------------------------------------------


@dataclass
class Budget:
    """What all pickles of a file together may use.

    Args:
        size (int): Bytes of the file. Calls may copy as much as that twice.
    """

    size: int
    pickle_bytes: int = _MAX_PICKLE_BYTES
    operations: int = _MAX_OPERATIONS
    calls: int = _MAX_CALLS
    repeated_elements: int = _MAX_REPEATED

    def __post_init__(self) -> None:
        self.copied_bytes = 2 * min(self.size, _MAX_PICKLE_BYTES) + (16 << 20)

    def spend(self, what: str, amount: int) -> None:
        """Subtracts from what is left.

        Raises:
            RefusedContent: nothing is left.
        """
        left = getattr(self, what) - amount
        setattr(self, what, left)
        if left < 0:
            raise RefusedContent(f'more {what.replace("_", " ")} than plausible')


class BoundedUnpickler(Unpickler):
    """torch's unpickler, which refuses what costs more than the file's size suggests.

    ``load`` of the base class reads a byte and executes the operation that it stands for.
    Here reading that byte inspects the stack first. An operation that is not in
    :attr:`_OPERANDS` is refused, so an unpickler that works otherwise loads nothing.

    Args:
        file (BinaryIO): At the start of the pickle; afterwards behind it.
        budget (Budget): Shared by all pickles of a file.
        find_storage (Callable): Called with the key of a storage, its number of elements
            and the bytes of one; raises an error if the file does not hold them.
    """

    #: Operations of pickle's protocol 2, and how often torch reads after each.
    _OPERANDS = {**dict.fromkeys(b')(]}tRbsuaeNQ.\x81\x85\x86\x87\x88\x89', 0),
                 **dict.fromkeys(b'\x80KMJGhjqr', 1), **dict.fromkeys(b'XU\x8a', 2),
                 ord('c'): 0}

    def __init__(self, file: BinaryIO, budget: Budget,
                 find_storage: Callable[[str, int, int], None]) -> None:
        super().__init__(file, encoding='utf-8')
        self.file, self.budget, self.find_storage = file, budget, find_storage
        self.read, self.readline = self._read, lambda: file.readline(_MAX_NAME)
        self._operation, self._operands = 0, 0
        self._storages: dict[str, torch.storage.TypedStorage] = {}

    def _read(self, count: int) -> bytes:
        self.budget.spend('pickle_bytes', count)
        data = self.file.read(count)
        if self._operands:
            self._operands -= 1
            if self._operation == 0x80 and data != b'\2':
                raise RefusedContent(f'a pickle of protocol {data[0]}, not 2')
        elif data:
            self._operation = data[0]
            if self._operation not in self._OPERANDS:
                raise RefusedContent(f'the operation {data!r}')
            self._operands = self._OPERANDS[self._operation]
            self.budget.spend('operations', 1)
            self._inspect(data)
        return data

    def _inspect(self, operation: bytes) -> None:
        """Checks what an operation is about to do with the values on the stack."""
        if operation == b's':
            self._check_keys(self.stack[-2:-1])
        elif operation == b'u':
            self._check_keys(self.stack[::2])
        elif operation == b'R':
            self._check_call(self.stack[-2], self.stack[-1])
        elif operation == b'b':
            self._check_state(self.stack[-2], self.stack[-1])
        elif operation == b'\x81' and (self.stack[-2] is not _History or self.stack[-1]):
            raise HostileContent(f'an instance of {_name(self.stack[-2])}')

    @staticmethod
    def _check_keys(keys: list) -> None:
        # The hash of a tuple of tuples of ... takes forever to compute.
        for key in keys:
            if not _is_key(key):
                kind = 'large integer' if type(key) is int else type(key).__name__
                raise RefusedContent(f'a {kind} as a key')

    def _check_call(self, function, arguments) -> None:
        self.budget.spend('calls', 1)
        self._spend_copies(arguments)
        accept = _CALLS.get(function)
        if accept is None:
            raise RefusedContent(f'a call of {_name(function)}')
        accepted = False
        with contextlib.suppress(TypeError, AttributeError):  # more arguments, or others
            accepted = accept(*arguments)
        if accepted is None or accepted is False:
            raise RefusedContent(f'{_name(function)} with unexpected arguments')
        if accepted is not True:
            self.budget.spend('repeated_elements', accepted)

    def _check_state(self, target, state) -> None:
        if type(target) is OrderedDict:
            # As torch keeps it in state dicts. Any other would replace a method.
            if type(state) is not dict or not set(state) <= {'_metadata'}:
                raise HostileContent('attributes of an OrderedDict')
        elif type(target) in (_Dtype, _Array, _History):
            self._spend_copies(state if type(state) is tuple else ())
        else:
            raise HostileContent(f'a state of {_name(type(target))}')

    def _spend_copies(self, values: tuple) -> None:
        for value in values:
            if isinstance(value, str | bytes):
                self.budget.spend('copied_bytes', len(value))
            elif isinstance(value, list | tuple | dict | set):
                self.budget.spend('copied_bytes', len(value) * _ELEMENT_BYTES)

    def persistent_load(self, pid) -> torch.storage.TypedStorage:
        """Returns a storage without data, of the size that the file claims."""
        fits = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == 'storage' and (
            pid[5:] in ((), (None, )))
        if not fits:
            raise HostileContent('a reference that torch.save does not write')
        _, kind, key, location, count = pid[:5]
        if not (isinstance(key, str) and _is_count(count)
                and (kind is torch.UntypedStorage
                     or type(kind) is torch.serialization.StorageType)
                and isinstance(location, str) and _LOCATION.fullmatch(location)):
            raise HostileContent('a storage of an unexpected kind, size or location')
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        size = count * dtype.itemsize
        known = self._storages.get(key)
        if known is None:
            self.find_storage(key, count, dtype.itemsize)
            known = self._storages[key] = torch.storage.TypedStorage(
                wrap_storage=torch.UntypedStorage(size, device='meta'), dtype=dtype,
                _internal=True)
        if known.dtype != dtype or known._untyped_storage.nbytes() != size:
            raise HostileContent(f'the storage {key!r:.40} with two types or sizes')
        return known


# ---- What was loaded --------------------------------------------------------------------

_PLAIN = (type(None), bool, int, float, complex, str, bytes, set, torch.Size, torch.device,
          torch.dtype)
_CONTAINERS = (dict, OrderedDict, Counter, list, tuple)


class _Restorer:
    """See :func:`restore`."""

    def __init__(self) -> None:
        # By id of a container, which is kept so that no other gets the id: what replaces
        # it, how many values it has and how deep it is; None while it is being visited.
        self.visited: dict[int, tuple | None] = {}
        self.kept: list = []

    def visit(self, value, depth: int = 0) -> tuple[object, int, int]:
        """Returns what replaces a value, the number of values in it and its depth."""
        if type(value) not in _CONTAINERS:
            return _restore_leaf(value), 1, 0
        if id(value) not in self.visited:
            if depth > _MAX_DEPTH:
                raise RefusedContent(f'values nested deeper than {_MAX_DEPTH}')
            self.visited[id(value)] = None
            self.visited[id(value)] = self._visit_container(value, depth + 1)
            self.kept.append(value)
        found = self.visited[id(value)]
        if found is None:
            raise RefusedContent('a value that holds itself')
        if found[1] > _MAX_VALUES or depth + found[2] > _MAX_DEPTH:
            raise RefusedContent(f'values nested deeper than {_MAX_DEPTH}, or more than '
                                 f'{_MAX_VALUES:,} of them')
        return found

    def _visit_container(self, value, depth: int) -> tuple[object, int, int]:
        items = list(value.values() if isinstance(value, dict) else value)
        attributes = getattr(value, '__dict__', {})  # of an OrderedDict: _metadata
        found = [self.visit(item, depth) for item in (*items, *attributes.values())]
        new = [item for item, _, _ in found]
        attributes.update(zip(attributes, new[len(items):]))
        if isinstance(value, dict):
            dict.update(value, zip(list(value), new))  # Counter's would add
        elif type(value) is list:
            value[:] = new
        else:
            value = tuple(new)
        return (value, 1 + sum(size for _, size, _ in found),
                1 + max((height for _, _, height in found), default=0))


def _restore_leaf(value):
    if type(value) in _PLAIN or isinstance(value, np.generic):
        return value
    if type(value) in (torch.Tensor, torch.nn.Parameter) and not value._backward_hooks:
        return value
    if type(value) is _Array and value.array is not None:
        return value.array
    if type(value) is _History and value.history is not None:
        return value.history
    if any(value is getattr(OneCycleParamScheduler, name) for name in _ANNEALINGS):
        return value
    if isinstance(value, torch.storage.TypedStorage | torch.UntypedStorage):
        raise RefusedContent('a storage by itself')
    raise HostileContent(f'{_name(value)}, which is no data')


def restore(content):
    """Replaces stand-ins in what was loaded, in place where that is possible.

    Args:
        content: What :func:`torch.load` returned.

    Returns:
        The same content with arrays and histories in it.

    Raises:
        RefusedContent: it holds itself, is too deep or too large, or holds something that
            is no data.
    """
    return _Restorer().visit(content)[0]
