"""What torch's ``weights_only`` unpickler creates for the names in mmengine's checkpoints.

Torch calls what is on its list with any arguments, any number of times. The classes of
numpy and mmengine do not expect that: ``numpy.ndarray`` takes pointers from the file if the
dtype is ``object``, and ``HistoryBuffer`` updates its own class. So the list has stand-ins,
which check their arguments before they build anything.
"""

import pickle
import re

import numpy as np
from mmengine.logging import HistoryBuffer

_PLAIN_DTYPE = re.compile(r'[iu][1248]|f[248]|b1')
_STATISTICS = ('min', 'max', 'current', 'mean')


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f'{name} with unexpected arguments')


class _Dtype:
    """``numpy.dtype`` of booleans, integers and floats, little-endian."""

    def __init__(self, code, align, copy) -> None:
        _require(type(code) is str and _PLAIN_DTYPE.fullmatch(code), 'numpy.dtype')
        self.dtype = np.dtype(code)

    def __setstate__(self, state) -> None:
        _require(state in [(3, order, None, None, None, -1, -1, 0) for order in '<|'],
                 'numpy.dtype')


class _Array(np.ndarray):
    """``numpy.ndarray``: empty until it gets its state, once."""

    def __new__(cls):
        return super().__new__(cls, 0)

    def __setstate__(self, state) -> None:
        _, shape, kind, is_fortran, data = state
        # A second state would free the memory of the first, to which a tensor may refer.
        _require(type(kind) is _Dtype and type(data) is bytes and not self.size,
                 'numpy.ndarray')
        array = np.frombuffer(data, kind.dtype).reshape(
            shape, order='F' if is_fortran else 'C')
        super().__setstate__(array.__reduce__()[2])

    def __reduce__(self):
        return self.view(np.ndarray).__reduce__()


class _History(HistoryBuffer):
    """mmengine's ``HistoryBuffer``, whose own method would change the class."""

    def __new__(cls):
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        log, count, length = map(state.get, ('_log_history', '_count_history',
                                             'max_length'))
        _require(type(log) is type(count) is _Array and log.ndim == 1
                 and log.shape == count.shape and type(length) is int, 'HistoryBuffer')
        super().__init__(log, count, length)


def _attribute(owner, name) -> str:
    """``getattr``, by which pickles name the statistics of a history."""
    _require(owner is _History and name in _STATISTICS, 'builtins.getattr')
    return name


def _reconstruct(kind, shape, code) -> _Array:
    """numpy's function for an empty array, whose state follows."""
    _require(kind is _Array, 'numpy._core.multiarray._reconstruct')
    return _Array()


def _scalar(kind, data) -> np.generic:
    """numpy's function for a number."""
    _require(type(kind) is _Dtype and type(data) is bytes, 'numpy._core.multiarray.scalar')
    number, = np.frombuffer(data, kind.dtype)
    return number


def _no_bytes() -> bytes:
    """``bytes()``, the content of an empty array."""
    return b''


#: For :func:`torch.serialization.safe_globals`; numpy 1 has ``numpy.core``.
STAND_INS = [
    (_Dtype, 'numpy.dtype'), (_Array, 'numpy.ndarray'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'), (_scalar, 'numpy._core.multiarray.scalar'),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_attribute, 'builtins.getattr'), (_no_bytes, 'builtins.bytes')]
