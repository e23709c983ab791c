"""Clips that run backwards: whether predictions follow the motion."""

from collections.abc import Sequence

import numpy as np

from ..utils.text import format_table
from .analysis import describe_class
from .results import Results

_OPPOSITES = {'forward': 'backward', 'left': 'right', 'up': 'down'}
_OPPOSITES |= {other: word for word, other in _OPPOSITES.items()}


def opposite_class(name: str, classes: Sequence[str]) -> str | None:
    """Returns the one of the classes that a clip shows when it runs backwards.

    None for classes without a direction in time, or if the opposite is no class.

    >>> opposite_class('MoveForwardWhileDrilling', ['MoveBackwardsWhileDrilling'])
    'MoveBackwardsWhileDrilling'
    """
    own = describe_class(name)
    opposite = own._replace(direction=' '.join(
        _OPPOSITES.get(word, word) for word in own.direction.split()))
    return next((other for other in classes
                 if describe_class(other) == opposite != own), None)


def format_opposites(results: Results) -> str:
    """Counts what is predicted for clips that run backwards, labelled as recorded.

    Returns:
        str: A table: for each class with an opposite, and for all, how many clips get the
        opposite class, how many their own, and how many there are.
    """
    rows = {}
    for label, name in enumerate(results.classes):
        opposite = opposite_class(name, results.classes)
        if opposite is not None:
            predicted = results.predicted_N[results.labels_N == label]
            rows[name] = ((predicted == results.classes.index(opposite)).sum(),
                          (predicted == label).sum(), len(predicted))
    rows['all'] = np.sum([(0, 0, 0), *rows.values()], axis=0)
    return format_table([('class', 'opposite', 'own', 'clips'), *(
        (name, *map(str, counts)) for name, counts in rows.items())])
