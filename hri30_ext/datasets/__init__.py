"""Datasets, their names, annotations and splits."""

from ..names import HRI30_CLASSES
from .hri30 import HRI30Dataset

__all__ = ['HRI30_CLASSES', 'HRI30Dataset']
