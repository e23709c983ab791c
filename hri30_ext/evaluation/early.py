"""How early an action is recognized: accuracy by the share seen, and a rule that decides.

Shapes: N clips, S shares of a clip, ascending, R predictions in a row, K classes.
"""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.lib.stride_tricks import sliding_window_view

from ..utils.text import format_table

#: Shares of an action at which it is predicted.
SHARES = tuple(round(.1 * tenth, 1) for tenth in range(1, 11))

#: Accuracy of decisions that a rule may cost against waiting for the end.
MAX_LOSS = 0.01


def frames_seen(total_frames: int, share: float) -> int:
    """Counts the frames of a share of a clip, in (0, 1]: 1 or more.

    >>> [frames_seen(41, share) for share in (.01, .1, .5, 1)]
    [1, 5, 21, 41]
    """
    return math.ceil(round(share * total_frames, 6))


class Rule(NamedTuple):
    """Decides when one class was the best in ``predictions`` predictions in a row, each
    with a score of ``confidence`` or more; at the end of a clip in any case.
    """
    predictions: int
    confidence: float

    def decide(self, scores_NSK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decides clips from their scores in [0, 1].

        Returns:
            tuple[np.ndarray, np.ndarray]: The position in S of each decision, and its
            label, both (N, ) int64. Without a decision, those of the last prediction.
        """
        labels_NS, best_NS = scores_NSK.argmax(axis=2), scores_NSK.max(axis=2)
        rows_NSR = sliding_window_view(
            np.where(best_NS >= self.confidence, labels_NS, -1),
            row := min(self.predictions, labels_NS.shape[1]), axis=1)
        held_NS = (rows_NSR == rows_NSR[..., :1]).all(axis=2) & (rows_NSR[..., 0] >= 0)
        decided_N = np.where(held_NS.any(axis=1), held_NS.argmax(axis=1) + row - 1,
                             labels_NS.shape[1] - 1)
        return decided_N, labels_NS[np.arange(len(labels_NS)), decided_N]


#: Rules to choose from. The last one waits for the end of each clip.
RULES = (*(Rule(*pair) for pair in product((1, 2, 3), (.3, .4, .5, .6, .7, .8, .9, .95))),
         Rule(len(SHARES), 0.))


def choose_rule(scores_NSK: np.ndarray, labels_N: np.ndarray, times_NS: np.ndarray) -> Rule:
    """Chooses the rule with the least mean delay that costs :data:`MAX_LOSS` at most.

    Scores and classes are those of the validation clips; ``times_NS`` is when each
    prediction is made, in ms.
    """
    # Accuracies that are equal on paper differ by less than 1e-9.
    least = (scores_NSK[:, -1].argmax(axis=1) == labels_N).mean() - MAX_LOSS - 1e-9

    def delay(rule: Rule) -> float:
        decision = measure_rule(rule, scores_NSK, labels_N, times_NS)
        return decision['mean_ms'] if decision['top1'] >= least else math.inf

    return min(RULES, key=delay)


def measure_rule(rule: Rule, scores_NSK: np.ndarray, labels_N: np.ndarray,
                 times_NS: np.ndarray) -> dict:
    """Measures the decisions of a rule; arguments are those of :func:`choose_rule`.

    Returns:
        dict: ``top1`` of the decisions in [0, 1]; ``mean_ms``, ``median_ms`` and
        ``p95_ms``: how much of a clip a decision needs, without the time to compute;
        ``at_end``, the share of clips that are decided by their last prediction.
    """
    decided_N, found_N = rule.decide(scores_NSK)
    delays_N = times_NS[np.arange(len(times_NS)), decided_N]
    median, p95 = np.percentile(delays_N, (50, 95))
    return dict(top1=float((found_N == labels_N).mean()), mean_ms=float(delays_N.mean()),
                median_ms=float(median), p95_ms=float(p95),
                at_end=float((decided_N == times_NS.shape[1] - 1).mean()))


def format_early(measured: dict) -> str:
    """Formats what :func:`~hri30_ext.apis.degrading.measure_early` returns."""
    rule, decision = measured['rule'], measured['decision']
    rows = [('seen', 'mean ms', 'top-1'), *(
        (f'{row["share"]:.0%}', f'{row["mean_ms"]:.0f}', f'{row["top1"]:.3f}')
        for row in measured['shares'])]
    return (f'{format_table(rows)}\n\nRule, chosen on {rule["chosen_on"]}: a class in '
            f'{rule["predictions"]} predictions in a row, at {rule["confidence"]} or more\n'
            f'Decisions: top-1 {decision["top1"]:.3f}; after {decision["mean_ms"]:.0f} ms '
            f'on average (median {decision["median_ms"]:.0f}, 95th percentile '
            f'{decision["p95_ms"]:.0f}); {decision["at_end"]:.0%} at the end of the clip')


def plot_early(measured: dict, axes: Axes) -> None:
    """Draws accuracy over the seen share, and the decisions of the rule."""
    shares, decision = measured['shares'], measured['decision']
    axes.plot([row['mean_ms'] for row in shares], [row['top1'] for row in shares], 'o-',
              label='all clips, by the seen share of the action')
    for row in shares:
        axes.annotate(f'{row["share"]:.0%}', (row['mean_ms'], row['top1']), xytext=(-4, 4),
                      textcoords='offset points', ha='right', fontsize=8)
    axes.plot(decision['mean_ms'], decision['top1'], 'D', color='C1',
              label=f'decisions of the rule: mean {decision["mean_ms"]:.0f} ms, '
                   f'95 % by {decision["p95_ms"]:.0f} ms')
    axes.set(ylim=(0, 1.08), xlim=(0, None), ylabel='Top-1 accuracy',
             xlabel='Time seen (ms, mean of clips)')
    axes.grid(alpha=.3)
    axes.legend(loc='lower right')
