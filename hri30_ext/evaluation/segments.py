"""Scores of predicted segments of recordings, in percent as they are published.

A segment is a stretch of one action. Background, the time without one, is no segment, and
what is predicted there counts as a false segment and not as a wrong frame.

Segment F1 is that of Lea et al., "Temporal Convolutional Networks for Action Segmentation
and Detection", CVPR 2017; the edit score that of Lea et al., "Segmental Spatiotemporal CNNs
for Fine-grained Action Segmentation", ECCV 2016.

Shapes: P predicted segments of a recording, T true ones.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..utils.text import format_table

#: Thresholds of segment F1: intersection over union in percent.
THRESHOLDS = (10, 25, 50)
# Sums of times that are equal on paper differ by less.
_SAME = 1e-6


class Segment(NamedTuple):
    """A stretch of one action, in seconds."""
    start: float
    end: float
    label: str


def join(segments: Iterable[Segment]) -> list[Segment]:
    """Sorts segments and joins those of one action that touch.

    >>> join([Segment(1, 2, 'Wave'), Segment(0, 1, 'Wave')])
    [Segment(start=0, end=2, label='Wave')]
    """
    joined: list[Segment] = []
    for one in sorted(segments):
        if joined and joined[-1].label == one.label and (
                one.start <= joined[-1].end + _SAME):
            joined[-1] = joined[-1]._replace(end=max(one.end, joined[-1].end))
        else:
            joined.append(one)
    return joined


def shared_seconds(predicted: Sequence[Segment], truth: Sequence[Segment]) -> np.ndarray:
    """Returns how long segments of the same action overlap, in seconds, (P, T)."""
    return np.array([[max(0., min(a.end, b.end) - max(a.start, b.start))
                      if a.label == b.label else 0. for b in truth] for a in predicted]
                    ).reshape(len(predicted), len(truth))


def count_matches(predicted: Sequence[Segment], truth: Sequence[Segment],
                  threshold: float) -> tuple[int, int, int]:
    """Matches segments of a recording, which are sorted.

    Each predicted segment, in order, takes the true one of its action with the largest
    intersection over union. It is a true positive if that reaches the threshold, in [0, 1],
    and no earlier segment took it.

    Returns:
        tuple[int, int, int]: True positives, false positives, false negatives.
    """
    shared_PT = shared_seconds(predicted, truth)
    both_PT = np.add.outer(_lengths(predicted), _lengths(truth)) - shared_PT
    taken: set[int] = set()
    for iou_T in shared_PT / both_PT if truth else ():
        best = int(iou_T.argmax())
        if iou_T[best] >= threshold - _SAME:
            taken.add(best)
    return len(taken), len(predicted) - len(taken), len(truth) - len(taken)


def edit_score(predicted: Sequence[Segment], truth: Sequence[Segment]) -> float:
    """Compares the order of actions of a recording, whatever their times.

    Returns:
        float: 100 (1 - d / max(P, T)), with the Levenshtein distance d of the sequences of
        actions; 100 if both are empty.
    """
    distances = list(range(len(truth) + 1))
    for i, a in enumerate(predicted, 1):
        diagonal, distances[0] = distances[0], i
        for j, b in enumerate(truth, 1):
            diagonal, distances[j] = distances[j], min(
                distances[j] + 1, distances[j - 1] + 1, diagonal + (a.label != b.label))
    return 100 * (1 - distances[-1] / max(len(predicted), len(truth), 1))


def score_segments(recordings: Iterable[tuple[Iterable[Segment], Iterable[Segment]]]
                   ) -> dict:
    """Scores the predicted and the true segments of recordings.

    Segments of one side of a recording do not overlap; :func:`join` is applied.

    Returns:
        dict: ``recordings``, ``predicted`` and ``true``, numbers of segments; ``f1``, by
        threshold, of the matches of all recordings together, 100 if there is no segment at
        all; ``edit``, the mean of the recordings; ``frame_accuracy``, the share of the time
        of true segments in which their action is predicted, None if there are none.
    """
    pairs = [(join(predicted), join(truth)) for predicted, truth in recordings]
    f1 = {}
    for percent in THRESHOLDS:
        true, *wrong = np.sum([count_matches(*pair, percent / 100) for pair in pairs], 0)
        most = 2 * true + sum(wrong)
        f1[str(percent)] = float(200 * true / most) if most else 100.
    labelled = sum(_lengths(truth).sum() for _, truth in pairs)
    correct = sum(shared_seconds(*pair).sum() for pair in pairs)
    return dict(
        recordings=len(pairs), predicted=sum(len(one) for one, _ in pairs),
        true=sum(len(one) for _, one in pairs), f1=f1,
        edit=float(np.mean([edit_score(*pair) for pair in pairs])),
        frame_accuracy=float(100 * correct / labelled) if labelled else None)


def format_scores(scores: dict) -> str:
    """Formats what :func:`score_segments` returns."""
    columns = {'segments': scores['true'], 'predicted': scores['predicted'],
               **{f'F1@{percent}': f'{value:.1f}' for percent, value in
                  scores['f1'].items()}, 'edit': f'{scores["edit"]:.1f}',
               'frames': f'{scores["frame_accuracy"]:.1f}'}
    return format_table([[*columns], [*map(str, columns.values())]])


def _lengths(segments: Sequence[Segment]) -> np.ndarray:
    return np.array([one.end - one.start for one in segments], float)
