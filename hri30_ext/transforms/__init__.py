"""Transforms that mmaction2 lacks."""

from .loading import ClipInit
from .sampling import FrameOrder

__all__ = ['ClipInit', 'FrameOrder']
