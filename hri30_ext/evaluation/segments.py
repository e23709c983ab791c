"""Scores of predicted segments of recordings, in percent as they are published.

A segment is a stretch of one action: start, end and label. Time without one is background,
which is no segment. Segment F1 is that of Lea et al., "Temporal Convolutional Networks for
Action Segmentation and Detection", CVPR 2017; the edit score that of Lea et al., "Segmental
Spatiotemporal CNNs for Fine-grained Action Segmentation", ECCV 2016.

Shapes: P predicted segments of a recording, T true ones; those of a side do not overlap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Thresholds of segment F1: intersection over union in percent.
THRESHOLDS = (10, 25, 50)


class Segment(NamedTuple):
    """A stretch of one action, in seconds."""
    start: float
    end: float
    label: str


def shared_seconds(predicted: Sequence[Segment], truth: Sequence[Segment],
                   same_action: bool = True) -> np.ndarray:
    """Returns how long segments, of the same action or of any, overlap, (P, T)."""
    return np.reshape([(not same_action or a.label == b.label)
                       * max(0, min(a.end, b.end) - max(a.start, b.start))
                       for a in predicted for b in truth], (len(predicted), len(truth)))


def count_matches(predicted: Sequence[Segment], truth: Sequence[Segment],
                  threshold: float) -> int:
    """Counts the true segments that are found.

    Each predicted segment, in order, takes the true one of its action with the largest
    intersection over union (IoU). It is a true positive if the IoU reaches the threshold,
    in [0, 1], and no segment took that one before.
    """
    lengths_P, lengths_T = (np.array([one.end - one.start for one in side])
                            for side in (predicted, truth))
    shared_PT = shared_seconds(predicted, truth)
    union_PT = np.add.outer(lengths_P, lengths_T) - shared_PT
    # Two segments without a length share nothing.
    iou_PT = shared_PT / np.maximum(union_PT, np.finfo(float).tiny)
    # Times that are equal on paper differ by less than 1e-9.
    return len({int(iou_T.argmax()) for iou_T in iou_PT
                if iou_T.max(initial=0) >= threshold - 1e-9})


def edit_score(predicted: Sequence[Segment], truth: Sequence[Segment]) -> float:
    """Returns 100 (1 - d / max(P, T)), with the Levenshtein distance d between the
    sequences of actions; 100 if both are empty.
    """
    distances = list(range(len(truth) + 1))
    for i, a in enumerate(predicted, 1):
        diagonal, distances[0] = distances[0], i
        for j, b in enumerate(truth, 1):
            diagonal, distances[j] = distances[j], min(
                distances[j] + 1, distances[j - 1] + 1, diagonal + (a.label != b.label))
    return 100 * (1 - distances[-1] / max(len(predicted), len(truth), 1))


def score_segments(pairs: Sequence[tuple[Sequence[Segment], Sequence[Segment]]],
                   lengths: Sequence[float]) -> dict:
    """Scores the predicted and the true segments, in the order of time, of recordings.

    Args:
        pairs (Sequence[tuple]): Predicted and true segments of each recording.
        lengths (Sequence[float]): Of the recordings, in seconds; a segment that ends later
            makes its recording longer.

    Returns:
        dict: ``recordings``, ``predicted`` and ``true``: numbers, of segments; ``F1@10``,
        ``F1@25`` and ``F1@50`` of the matches of all recordings together, 100 if there is
        no segment; ``edit``, the mean of the recordings; ``frames``, the share of the time
        of true segments in which their action is predicted; ``frame_accuracy``, the share
        of all time that has its true action, or is background on both sides. The last
        three are None if there is nothing to score.
    """
    scores = dict(recordings=len(pairs), predicted=sum(len(one) for one, _ in pairs),
                  true=sum(len(one) for _, one in pairs))
    both = scores['predicted'] + scores['true']
    for percent in THRESHOLDS:
        matches = sum(count_matches(*pair, percent / 100) for pair in pairs)
        scores[f'F1@{percent}'] = 200 * matches / both if both else 100.
    labelled = sum(one.end - one.start for _, truth in pairs for one in truth)
    correct = sum(float(shared_seconds(*pair).sum()) for pair in pairs)
    total = background = 0.
    for pair, length in zip(pairs, lengths, strict=True):
        segments = [*pair[0], *pair[1]]
        length = max(length, *(one.end for one in segments), 0.)
        total += length
        background += length - sum(one.end - one.start for one in segments) + float(
            shared_seconds(*pair, same_action=False).sum())
    return dict(
        scores, edit=float(np.mean([edit_score(*one) for one in pairs])) if pairs else None,
        frames=100 * correct / labelled if labelled else None,
        frame_accuracy=100 * (correct + background) / total if total else None)
