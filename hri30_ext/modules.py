"""Registers this project's modules in mmaction2's registries.

Configs import it by ``custom_imports``; code that builds models or datasets without a
config imports it first. Importing it changes other packages as :mod:`hri30_ext.compat`
says, which is what makes mmaction2 importable.
"""

from . import compat

compat.apply()  # before the others, which import what it mends

from . import datasets, engine, evaluation, models, transforms  # noqa: E402

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'transforms']
