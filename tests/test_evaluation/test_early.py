"""Early recognition: how much is seen, and when a rule decides."""

import numpy as np
import pytest

from hri30_ext.evaluation.early import RULES, Rule, choose_rule, frames_seen, measure_rule

# Best class and its score in five predictions of three clips; there are two classes.
LABELS = [[0, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 1, 1]]
BEST = [[.9, .6, .8, .8, .9], [.9, .9, .9, .9, .9], [.7, .7, .9, .7, .7]]
SCORES = np.where(np.array(LABELS)[..., None] == [0, 1], np.array(BEST)[..., None],
                  1 - np.array(BEST)[..., None])
TIMES = np.array([[100, 200, 300, 400, 500]] * 2 + [[200, 400, 600, 800, 1000]])


@pytest.mark.parametrize('rule, positions, labels', [
    (Rule(1, .8), [0, 0, 2], [0, 1, 0]),
    (Rule(2, .5), [2, 4, 1], [1, 1, 0]),  # the second clip never repeats a class
    (Rule(2, .75), [3, 4, 4], [1, 1, 1]),  # a score below starts the row again
    (Rule(3, .5), [3, 4, 2], [1, 1, 0]),
    (Rule(5, 0), [4, 4, 4], [1, 1, 1])])
def test_a_class_must_be_sustained(rule, positions, labels):
    decided, found = rule.decide(SCORES)
    assert decided.tolist() == positions and found.tolist() == labels


def test_delay_and_accuracy_of_a_rule():
    found = measure_rule(Rule(2, .5), SCORES, np.array([1, 1, 1]), TIMES)
    assert found == pytest.approx(dict(
        top1=2 / 3, mean_ms=400, median_ms=400, p95_ms=490, at_end=1 / 3))


def test_the_fastest_rule_that_keeps_the_accuracy_is_chosen():
    # All right at the end; sure of the wrong class at first, and never wrong twice above
    # 0.75: Rule(2, .8) takes 400, 500 and 1000 ms; higher scores take as long or longer.
    assert choose_rule(SCORES, np.array([1, 1, 1]), TIMES) == Rule(2, .8)
    # If the first prediction is what counts, any first prediction will do.
    assert choose_rule(SCORES[2:, :3], np.array([0]), TIMES[2:, :3]) == Rule(1, .3)
    # Scores of 1 for the wrong class until the end: only waiting keeps the accuracy.
    late = np.zeros((1, 10, 2))
    late[:, :9, 0], late[:, 9, 1] = 1, 1
    assert choose_rule(late, np.array([1]), np.arange(10.)[None]) == RULES[-1]


def test_a_rule_may_lose_exactly_one_point():
    """13 of 100 are right at the end, 12 at first; in floats, 0.13 - 0.01 is above 0.12."""
    scores = np.zeros((100, 2, 2))
    scores[:12, :, 1] = scores[12:, 0, 0] = scores[12, 1, 1] = scores[13:, 1, 0] = 1
    rule = choose_rule(scores, np.ones(100, int), np.tile([100., 200.], (100, 1)))
    assert rule.predictions == 1


def test_frames_seen_are_not_changed_by_rounding():
    assert [frames_seen(30, share / 10) for share in range(1, 11)] == [
        3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert frames_seen(1, .1) == 1
