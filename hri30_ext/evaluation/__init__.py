"""Metrics, writers and plots."""

from .metrics import HRI30Metric

__all__ = ['HRI30Metric']
