"""Clips that run backwards: whether predictions follow the motion."""

import re
from collections.abc import Sequence

import numpy as np

from .results import Results

_OPPOSITES = (('Forward', 'Backward'), ('Left', 'Right'), ('PickUp', 'PutDown'))
_SWAPPED = {word: other for pair in _OPPOSITES for word, other in (pair, pair[::-1])}


def opposite_class(name: str, classes: Sequence[str]) -> str | None:
    """Returns the one of the classes that a clip shows when it runs backwards.

    None for classes without a direction in time, or if the opposite is no class.

    >>> opposite_class('MoveForwardWhileDrilling', ['MoveBackwardsWhileDrilling'])
    'MoveBackwardsWhileDrilling'
    """
    opposite = re.sub('|'.join(_SWAPPED), lambda match: _SWAPPED[match[0]], name)
    # The released names pair 'Backwards' with 'Forward'.
    forms = (opposite, opposite.replace('Backward', 'Backwards', 1),
             opposite.replace('Forwards', 'Forward'))
    return next((form for form in forms if form in classes and opposite != name), None)


def count_opposites(results: Results) -> dict[str, tuple[int, int, int]]:
    """Counts what is predicted for clips that run backwards, labelled as recorded.

    Returns:
        dict: For each class with an opposite: number of clips that get the opposite
        class, that get their own, and of all clips.
    """
    counts = {}
    for label, name in enumerate(results.classes):
        opposite = opposite_class(name, results.classes)
        if opposite is not None:
            predicted = results.predicted_N[results.labels_N == label]
            counts[name] = (int((predicted == results.classes.index(opposite)).sum()),
                            int((predicted == label).sum()), len(predicted))
    return counts


def format_opposites(results: Results) -> str:
    """Formats the counts of :func:`count_opposites` as a table with a sum."""
    counts = count_opposites(results)
    counts['all'] = np.sum(list(counts.values()), axis=0) if counts else (0, 0, 0)
    return '\n'.join([f'{"class":42} opposite  own  clips', *(
        f'{name:42} {opposite:8} {own:4} {clips:6}'
        for name, (opposite, own, clips) in counts.items())])
