"""Transforms that mmaction2 lacks."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .color import ClipColorJitter
from .crop import CropResize, ResizeClip
from .flip import LabelAwareFlip
from .loading import ClipDecode, ClipInit
from .sampling import FrameOrder
from .views import UniformViews

__all__ = ['ClipColorJitter', 'ClipDecode', 'ClipInit', 'CropResize', 'FrameOrder',
           'LabelAwareFlip', 'ResizeClip', 'UniformViews']
