"""Registers this project's modules in mmaction2's registries.

A config imports it by ``custom_imports``; whoever builds models or datasets without a
config imports it first.
"""

from . import datasets, engine, evaluation, models, transforms

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'transforms']
