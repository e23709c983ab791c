"""HRI30 action recognition on MMAction2.

Importing the package is all that a config or a tool needs: it mends what is
broken below (:mod:`hri30_ext.compat`) and registers this project's modules in
mmaction2's registries.
"""

from . import compat

compat.apply()

from . import datasets, engine, evaluation, models, transforms  # noqa: E402

__all__ = ['compat', 'datasets', 'engine', 'evaluation', 'models', 'transforms']
