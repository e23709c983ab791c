"""Whether predictions follow the motion: clips that run backwards."""

import re
from collections.abc import Sequence

import numpy as np

_OPPOSITES = (('Forward', 'Backward'), ('Left', 'Right'), ('PickUp', 'PutDown'))


def opposite_class(name: str, classes: Sequence[str]) -> str | None:
    """Returns the class that a clip shows when it runs backwards.

    >>> opposite_class('MoveForwardWhileDrilling', ['MoveBackwardsWhileDrilling'])
    'MoveBackwardsWhileDrilling'

    Args:
        name (str): A class name.
        classes (Sequence[str]): All class names.

    Returns:
        str | None: None for classes without a direction in time, or where the
        opposite is not among the classes.
    """
    swapped = {word: other for pair in _OPPOSITES
               for word, other in (pair, pair[::-1])}
    opposite = re.sub('|'.join(swapped), lambda match: swapped[match[0]], name)
    if opposite == name:
        return None
    # The released names say 'Backwards' where they say 'Forward'.
    forms = (opposite, opposite.replace('Backward', 'Backwards', 1),
             opposite.replace('Forwards', 'Forward'))
    return next((form for form in forms if form in classes), None)


def count_opposites(labels_N: np.ndarray, predicted_N: np.ndarray,
                    classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Counts what is predicted for clips that run backwards.

    Args:
        labels_N (np.ndarray): Labels of the clips as recorded, shape (N, ).
        predicted_N (np.ndarray): Predicted labels of the reversed clips, (N, ).
        classes (Sequence[str]): Class names.

    Returns:
        dict: For each class with an opposite: clips given the opposite class,
        clips given their own, all clips.
    """
    counts = {}
    for label, name in enumerate(classes):
        opposite = opposite_class(name, classes)
        if opposite is None:
            continue
        predicted = predicted_N[labels_N == label]
        counts[name] = (int((predicted == list(classes).index(opposite)).sum()),
                        int((predicted == label).sum()), len(predicted))
    return counts
