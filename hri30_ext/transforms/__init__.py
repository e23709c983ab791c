"""Transforms that mmaction2 lacks."""

from .color import ClipColorJitter, ClipRandAugment
from .crop import CropResize, ResizeClip
from .flip import LabelAwareFlip
from .loading import ClipDecode, ClipInit
from .views import FrameOrder, UniformSegments, UniformViews

__all__ = ['ClipColorJitter', 'ClipDecode', 'ClipInit', 'ClipRandAugment', 'CropResize',
           'FrameOrder', 'LabelAwareFlip', 'ResizeClip', 'UniformSegments', 'UniformViews']
