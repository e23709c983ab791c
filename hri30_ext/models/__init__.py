"""Models that mmaction2 lacks, and what those that it has lack."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .lstm_head import LSTMHead
from .tin_shift import provide_tin_shift, tin_shift

provide_tin_shift()

__all__ = ['LSTMHead', 'provide_tin_shift', 'tin_shift']
