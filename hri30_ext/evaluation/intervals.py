"""Confidence intervals of scores of clips that were recorded in groups.

Clips of a group are near-copies, so the groups are the sample: with G groups, an interval
has G - 1 degrees of freedom, however many clips there are.

Shapes: N clips, M numbers that are summed, U units that vary independently.
"""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

LEVEL = 0.95

#: An interval over fewer groups of recordings has a note that says so.
_FEW = 3


class Interval(NamedTuple):
    """A confidence interval of 95 %."""
    low: float
    high: float
    error: float  # the standard error
    unit: str  # what varies independently: groups or clips
    units: int
    note: str  # why it is rough: too few groups, equal groups; empty otherwise


def format_units(interval: Mapping) -> str:
    """Formats what the fields of an :class:`Interval` say about its units.

    >>> format_units(dict(unit='groups', units=2, note='too few groups'))
    '2 groups (too few groups)'
    """
    note = f' ({interval["note"]})' if interval['note'] else ''
    return f'{interval["units"]} {interval["unit"]}{note}'


def group_interval(values: np.ndarray, groups: np.ndarray,
                   statistic: Callable[[np.ndarray], np.ndarray] | None = None,
                   bounded: bool = True) -> Interval:
    """Estimates the 95 % confidence interval of a score over groups of recordings.

    The standard error is that of the delete-one-group jackknife; for a mean over groups of
    equal size this is the cluster-robust one. The interval is Student's with U - 1 degrees
    of freedom: on the logit scale by the delta method if the score is in [0, 1], so that it
    holds near 1 as well, on the plain scale if not.

    Single clips are the units if fewer than two groups are known, or if all groups have the
    same score, which says nothing about how others vary. That interval is too narrow if the
    clips of a group are alike. If all clips have the same score as well, 0 or 1, half a
    clip of each outcome is added.

    Args:
        values (np.ndarray): The score of each clip, such as whether it is correct, (N, );
            with a ``statistic``, the numbers that are summed, (N, M).
        groups (np.ndarray): The group of each clip, integers, -1 where not known, (N, ).
        statistic (Callable, optional): From sums over clips, (U, M), to scores, (U, ). The
            mean of the values by default.
        bounded (bool): Whether the score is in [0, 1]; otherwise it is a difference of two
            such scores, in [-1, 1].

    >>> correct = np.repeat([1, 0, 1, 0, 1, 0], [8, 2, 7, 3, 9, 1])
    >>> low, high, *_ = group_interval(correct, np.repeat([1, 2, 3], 10))
    >>> round(low, 3), round(high, 3)
    (0.459, 0.95)
    """
    values_NM = np.asarray(values, np.float64)
    if statistic is None:
        values_NM = np.stack([values_NM, np.ones(len(values_NM))], axis=1)
        statistic = _mean
    known, unit_N = np.unique(groups, return_inverse=True)
    number = len(known) if known[0] >= 0 else 0
    note, unit = ('too few groups' if number < _FEW else ''), 'groups'
    score, error, units = _jackknife(values_NM, unit_N, statistic)
    if number < 2 or error < 1e-12:
        note, unit = note or 'equal groups', 'clips'
        score, error, units = _jackknife(values_NM, np.arange(len(unit_N)), statistic)
    quantile = stdtrit(max(units - 1, 1), (1 + LEVEL) / 2)
    if not bounded:
        ends = np.clip([score - quantile * error, score + quantile * error], -1, 1)
        return Interval(*ends.tolist(), error, unit, units, note)
    middle = score
    if score in (0, 1):
        middle = (score * units + .5) / (units + 1)
        error = sqrt(middle * (1 - middle) / units)
    width = quantile * error / (middle * (1 - middle))
    low, high = expit([logit(middle) - width, logit(middle) + width]).tolist()
    return Interval(min(low, score), max(high, score), error, unit, units, note)


def _mean(sums_U2: np.ndarray) -> np.ndarray:
    return sums_U2[:, 0] / sums_U2[:, 1]


def _jackknife(values_NM: np.ndarray, unit_N: np.ndarray, statistic: Callable
               ) -> tuple[float, float, int]:
    """Returns the score of all clips, its standard error and the number of units."""
    units = unit_N.max() + 1
    sums_UM = np.zeros((units, values_NM.shape[1]))
    np.add.at(sums_UM, unit_N, values_NM)
    total_1M = sums_UM.sum(axis=0, keepdims=True)
    score = float(statistic(total_1M)[0])
    if units < 2:
        return score, 0., 1
    error = statistic(total_1M - sums_UM).std() * sqrt(units - 1)
    return score, float(error), int(units)
