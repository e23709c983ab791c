"""Intervals over groups of recordings."""

import math

import numpy as np
import pytest
from scipy.stats import t

from hri30_ext.evaluation.intervals import group_interval

CLIPS, SPREAD = 70, 0.05  # clips of a group; standard deviation of the groups' accuracies


def sample(rng, accuracy, groups, times):
    """Draws the number of correct clips of each group; returns the mean of all groups."""
    pool = rng.normal(accuracy, SPREAD, 100_000).clip(0, 1)
    return rng.binomial(CLIPS, rng.choice(pool, (times, groups))), pool.mean()


def cover(accuracy, groups, times=1500, seed=0):
    """Returns the share of intervals that hold the mean of all groups."""
    counts, truth = sample(np.random.default_rng(seed), accuracy, groups, times)
    clips, group = np.arange(CLIPS), np.repeat(np.arange(groups), CLIPS)
    held = 0
    for row in counts:
        low, high, *_ = group_interval((clips < row[:, None]).ravel(), group)
        held += low <= truth <= high
    return held / times


@pytest.mark.parametrize('accuracy', (.6, .8, .9, .95))
@pytest.mark.parametrize('groups', (3, 4, 8, 14))
def test_coverage(groups, accuracy):
    assert .93 <= cover(accuracy, groups) <= .97


def test_by_hand():
    # Accuracies .5, .75 and 1 of groups of four: mean .75, deviation .25.
    correct, groups = [1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], np.repeat([1, 2, 3], 4)
    interval = group_interval(correct, groups)
    error, quantile = .25 / math.sqrt(3), t(2).ppf(.975)
    assert (interval.unit, interval.units, interval.note) == ('groups', 3, '')
    assert interval.error == pytest.approx(error)
    odds, factor = 3, math.exp(quantile * error / (.75 * .25))
    assert interval[:2] == pytest.approx((odds / factor / (1 + odds / factor),
                                          odds * factor / (1 + odds * factor)))
    plain = group_interval(correct, groups, bounded=False)
    assert plain[:2] == pytest.approx((max(.75 - quantile * error, -1),
                                       min(.75 + quantile * error, 1)))


def test_a_statistic_is_jackknifed():
    # The ratio of two sums, for which leaving groups of 1, 2 and 3 clips out is by hand.
    pairs, groups = np.array([[1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [0, 1]]), [
        1, 2, 2, 3, 3, 3]
    interval = group_interval(pairs, groups, lambda sums: sums[:, 0] / sums[:, 1])
    left = np.array([3 / 5, 3 / 4, 2 / 3])
    assert interval.error == pytest.approx(
        math.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum()))
    assert interval == group_interval(pairs[:, 0], groups)


@pytest.mark.parametrize('correct, groups, unit, note', [
    ([1, 1, 0, 1], [1, 1, 2, 2], 'groups', 'too few'),
    ([1, 0, 1, 1], [1, 1, 1, 1], 'clips', 'too few'),
    ([1, 0, 1, 1], [-1, -1, 2, 2], 'clips', 'too few'),
    ([1, 0, 0, 1, 1, 0], [1, 1, 2, 2, 3, 3], 'clips', 'equal'),
    ([1, 1, 1], [1, 2, 3], 'clips', 'equal'),
    ([0, 0, 0], [1, 2, 3], 'clips', 'equal'),
    ([1, 1], [1, 2], 'clips', 'too few'),
    ([1], [1], 'clips', 'too few'),
])
def test_few_and_equal_groups(correct, groups, unit, note):
    interval = group_interval(correct, groups)
    assert interval.unit == unit and note in interval.note
    assert 0 <= interval.low <= np.mean(correct) <= interval.high <= 1
    assert interval.low < interval.high


def test_the_same_model_twice_differs_by_nothing():
    assert group_interval(np.zeros(6), [1, 1, 2, 2, 3, 3], bounded=False)[:2] == (0, 0)
