"""Metrics, writers and plots."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .metrics import HRI30Metric

__all__ = ['HRI30Metric']
