"""Transforms that mmaction2 lacks."""

from .loading import ClipInit

__all__ = ['ClipInit']
