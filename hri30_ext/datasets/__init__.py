"""Datasets, their names, annotations and splits."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from ..names import HRI30_CLASSES
from .hri30 import HRI30Dataset

__all__ = ['HRI30_CLASSES', 'HRI30Dataset']
