"""Late fusion of several models' scores.

Shapes: N clips, K classes, M models.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .calibration import normalise
from .compare import check_same_clips
from .results import Results

_EPS = np.finfo(np.float64).eps


def fuse(results: Sequence[Results], weights_M: Sequence[float]) -> Results:
    """Averages the probabilities of several models, with weights whose sum is 1.

    Raises:
        HRI30Error: other clips, classes or labels; see :func:`check_same_clips`.
    """
    results = check_same_clips(results)
    fused_NK = sum(weight * normalise(one.scores_NK)
                   for weight, one in zip(weights_M, results, strict=True))
    return replace(results[0], scores_NK=fused_NK, source='the ensemble')


def fit_weights(results: Sequence[Results]) -> np.ndarray:
    """Finds the weights, (M, ), with the lowest negative log-likelihood of the average of
    results of the same labelled validation clips: from 0, with the sum 1.

    Raises:
        HRI30Error: no labels, or other clips, classes or labels.
    """
    results = check_same_clips(results)
    results[0].require_labels()
    labels_N = results[0].labels_N
    rows_N = np.arange(len(labels_N))
    # The likelihood of the average depends on the true class alone.
    true_NM = np.stack([np.maximum(normalise(one.scores_NK)[rows_N, labels_N], _EPS)
                        for one in results], axis=1)
    weights_M = np.full(len(results), 1 / len(results))
    for _ in range(2000):
        # Expectation maximisation: the share of each model in the probability of a clip.
        weights_M = (weights_M * true_NM / (true_NM @ weights_M)[:, None]).mean(axis=0)
    return weights_M
