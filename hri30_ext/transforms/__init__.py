"""Transforms that mmaction2 lacks."""

from .flip import LabelAwareFlip
from .loading import ClipInit
from .sampling import FrameOrder
from .views import UniformViews

__all__ = ['ClipInit', 'FrameOrder', 'LabelAwareFlip', 'UniformViews']
