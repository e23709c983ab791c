"""Transforms that mmaction2 lacks."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .flip import LabelAwareFlip
from .loading import ClipInit
from .sampling import FrameOrder
from .views import UniformViews

__all__ = ['ClipInit', 'FrameOrder', 'LabelAwareFlip', 'UniformViews']
