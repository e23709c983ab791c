"""What stands behind a score: intervals, calibration, and kinds of error.

Shapes: N clips, K classes, U units that are drawn together, R resamples.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import HRI30Error
from ..names import HRI30_CLASSES, canonical_name
from ..utils.fileio import atomic_write_text
from .calibration import (
    apply_temperature,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from .results import Results

#: The file of a result folder that holds the analysis.
ANALYSIS = 'analysis.json'

LEVEL = 0.95

#: The paper's three kinds of action, by 1-based class id.
KINDS = {
    'human-object interaction': (1, *range(20, 25)),
    'body motion only': (*range(2, 18), *range(27, 31)),
    'human-robot collaboration': (18, 19, 25, 26),
}

_TOOLS = {'drill': 'drill', 'drilling': 'drill', 'polisher': 'polisher',
          'polishing': 'polisher', 'object': 'object'}
_DIRECTIONS = {
    **{word: word for word in ('forward', 'backward', 'left', 'right', 'up', 'down')},
    'forwards': 'forward', 'backwards': 'backward', 'diagonally': 'diagonal',
    'diagonal': 'diagonal'}
_FILLERS = {'while', 'with', 'the', 'a', 'an'}
_WORD = re.compile(r'[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+')


class Description(NamedTuple):
    """What a class name says; parts that it does not mention are empty."""
    action: str
    direction: str
    tool: str


def describe_class(name: str) -> Description:
    """Takes a class name apart.

    Picking up and putting down are one action in two directions. Names of any other form
    are read as far as their words are known; the rest is the action.

    >>> describe_class('MoveDiagonallyBackwardLeftWithDrill')
    Description(action='move', direction='diagonal backward left', tool='drill')
    >>> describe_class('PutDownPolisher')
    Description(action='handle', direction='down', tool='polisher')

    Args:
        name (str): Such as ``WalkingWithDrill``; words may also be divided by ``_``.
    """
    action, direction, tool = [], [], []
    words = [word.lower() for word in _WORD.findall(canonical_name(name))]
    for i, word in enumerate(words):
        if word in _TOOLS:
            tool.append(_TOOLS[word])
        elif word in _DIRECTIONS:
            direction.append(_DIRECTIONS[word])
        elif words[i:i + 2] in (['pick', 'up'], ['put', 'down']):
            action.append('handle')
        elif word not in _FILLERS:
            action.append(word)
    return Description(*map(' '.join, (action, direction, tool)))


def classify_error(true: str, predicted: str) -> str:
    """Says what a model mistook.

    >>> classify_error('Walking', 'WalkingWithDrill')
    'tool'

    Args:
        true (str): The true class.
        predicted (str): Another class.

    Returns:
        str: ``direction`` (same action, same tool), ``tool`` (same action, same
        direction), ``direction_and_tool`` (same action), or ``other``.
    """
    a, b = describe_class(true), describe_class(predicted)
    direction, tool = a.direction != b.direction, a.tool != b.tool
    if a.action != b.action or not (direction or tool):
        return 'other'
    return 'direction_and_tool' if direction and tool else (
        'direction' if direction else 'tool')


def resampling_units(groups_N: np.ndarray) -> tuple[str, np.ndarray]:
    """Decides what is drawn together: clips of a group are near-copies.

    Args:
        groups_N (np.ndarray): Groups of recordings, -1 where not known, (N, ).

    Returns:
        tuple[str, np.ndarray]: ``groups`` and the number of each clip's group, in [0, U);
        or ``clips``, where a group is not known or there is only one.
    """
    groups, unit_N = np.unique(groups_N, return_inverse=True)
    if len(groups) >= 2 and groups[0] >= 0:
        return 'groups', unit_N
    return 'clips', np.arange(len(groups_N))


def bootstrap(counts_UM: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray],
              resamples: int, seed: int) -> np.ndarray:
    """Computes statistics of sums over units that are drawn with replacement.

    What is scored here follows from sums over clips, so a resample is a row of weights
    and all are one matrix product; scipy.stats.bootstrap would index clips anew for each.

    Args:
        counts_UM (np.ndarray): What is summed, M numbers a unit, (U, M).
        statistic (Callable): From sums (R, M) to values (R, ...).
        resamples (int): R.
        seed (int): The same seed draws the same units.

    Returns:
        np.ndarray: The values of all resamples, (R, ...).
    """
    units = len(counts_UM)
    rng = np.random.default_rng(seed)
    # Some at a time: weights of many clips would fill the memory.
    step = max(1, 4_000_000 // units)
    values = []
    for start in range(0, resamples, step):
        weights_RU = rng.multinomial(units, np.full(units, 1 / units),
                                     size=min(step, resamples - start))
        values.append(statistic(weights_RU.astype(np.float64) @ counts_UM))
    return np.concatenate(values)


def percentile_interval(values_R: np.ndarray) -> list[float]:
    """Returns the ends of the central 95 % of values, (R, )."""
    tail = (1 - LEVEL) / 2
    return [float(end) for end in np.quantile(values_R, [tail, 1 - tail])]


def _scores_from_counts(counts_RM: np.ndarray) -> np.ndarray:
    """Computes top-1, mean class accuracy and macro F1, (R, 3), from hits, true and
    predicted clips of each class, (R, 3K)."""
    hits_RK, true_RK, predicted_RK = np.split(counts_RM, 3, axis=1)
    top1_R = hits_RK.sum(axis=1) / true_RK.sum(axis=1)
    recall_RK = hits_RK / np.maximum(true_RK, 1)
    mean_class_R = recall_RK.sum(axis=1) / (true_RK > 0).sum(axis=1)
    # As in the metrics, over classes that occur or are predicted.
    f1_RK = 2 * hits_RK / np.maximum(true_RK + predicted_RK, 1)
    f1_R = f1_RK.sum(axis=1) / (true_RK + predicted_RK > 0).sum(axis=1)
    return np.stack([top1_R, mean_class_R, f1_R], axis=1)


def _class_counts(labels_N: np.ndarray, predicted_N: np.ndarray,
                  num_classes: int) -> np.ndarray:
    """Returns hits, true and predicted class of each clip as ones, (N, 3K)."""
    true_NK = np.eye(num_classes)[labels_N]
    predicted_NK = np.eye(num_classes)[predicted_N]
    return np.concatenate([true_NK * predicted_NK, true_NK, predicted_NK], axis=1)


def _intervals(results: Results, resamples: int, seed: int) -> dict:
    unit, unit_N = resampling_units(results.groups_N)
    counts_NM = _class_counts(results.labels_N, results.predicted_N, len(results.classes))
    counts_UM = np.zeros((unit_N.max() + 1, counts_NM.shape[1]))
    np.add.at(counts_UM, unit_N, counts_NM)
    values_R3 = bootstrap(counts_UM, _scores_from_counts, resamples, seed)
    intervals = map(percentile_interval, values_R3.T)
    return dict(level=LEVEL, unit=unit, resamples=resamples,
                **dict(zip(('top1', 'mean_class', 'macro_f1'), intervals, strict=True)))


def _calibration(results: Results, temperature: float | None) -> dict:
    scores_NK, labels_N = results.scores_NK, results.labels_N
    scaled_NK = None if temperature is None else apply_temperature(scores_NK, temperature)
    return dict(
        ece=expected_calibration_error(scores_NK, labels_N),
        nll=negative_log_likelihood(scores_NK, labels_N),
        temperature=temperature,
        ece_scaled=(None if scaled_NK is None
                    else expected_calibration_error(scaled_NK, labels_N)),
        nll_scaled=(None if scaled_NK is None
                    else negative_log_likelihood(scaled_NK, labels_N)),
        bins=reliability_bins(scores_NK, labels_N))


def _errors(results: Results) -> dict:
    counts = dict(clips=len(results.videos), wrong=0, direction=0, tool=0,
                  direction_and_tool=0, other=0)
    for label, predicted in zip(results.labels_N, results.predicted_N, strict=True):
        if label != predicted:
            counts['wrong'] += 1
            counts[classify_error(results.classes[label],
                                  results.classes[predicted])] += 1
    return counts


def _kinds(results: Results) -> list[dict]:
    if [canonical_name(name) for name in results.classes] != list(HRI30_CLASSES):
        return []
    right_N = results.predicted_N == results.labels_N
    table = []
    for name, ids in KINDS.items():
        recalls = [right_N[results.labels_N == i - 1].mean() for i in ids
                   if (results.labels_N == i - 1).any()]
        inside_N = np.isin(results.labels_N, np.array(ids) - 1)
        table.append(dict(
            name=name, classes=len(ids), clips=int(inside_N.sum()),
            top1=float(right_N[inside_N].mean()) if recalls else None,
            mean_class=float(np.mean(recalls)) if recalls else None))
    return table


def _groups(results: Results) -> list[dict]:
    right_N = results.predicted_N == results.labels_N
    table = []
    for group in np.unique(results.groups_N[results.groups_N >= 0]):
        inside_N = results.groups_N == group
        table.append(dict(group=int(group), clips=int(inside_N.sum()),
                          top1=float(right_N[inside_N].mean())))
    return table


def analyze(results: Results, temperature: float | None = None, resamples: int = 2000,
            seed: int = 0) -> dict:
    """Analyses the results of labelled clips.

    Intervals are percentiles of a bootstrap over whole groups of recordings where these
    are known and there are at least two; else over clips, which is too narrow where
    clips are near-copies of each other. With few groups any interval is rough.

    Args:
        results (Results): With labels.
        temperature (float, optional): Fitted on other clips than these, or else the
            scaled values are better than they will be.
        resamples (int): Of the bootstrap.
        seed (int): Of the bootstrap.

    Returns:
        dict: Plain values for JSON:

        - ``intervals``: ``level``, ``unit`` (``groups`` or ``clips``), ``resamples``, and
          [low, high] of ``top1``, ``mean_class`` and ``macro_f1``;
        - ``calibration``: ``ece``, ``nll``, ``temperature``, ``ece_scaled``,
          ``nll_scaled`` (None without a temperature) and ``bins``, see
          :func:`~hri30_ext.evaluation.calibration.reliability_bins`;
        - ``errors``: ``clips``, ``wrong``, and how many of the wrong ones are each of
          what :func:`classify_error` names;
        - ``kinds``: the paper's kinds of action, with ``name``, ``classes``, ``clips``,
          ``top1`` and ``mean_class`` (None without clips); empty for other classes;
        - ``groups``: ``group``, ``clips`` and ``top1`` of the groups that are known.

    Raises:
        HRI30Error: no clips, or none with labels.
    """
    if results.labels_N is None or not len(results.labels_N):
        raise HRI30Error(f'{results.source}: no labelled clips.\nExpected results of the '
                         'validation, or of test clips with '
                         'annotations/test_set_labels.csv.')
    return dict(
        intervals=_intervals(results, resamples, seed),
        calibration=_calibration(results, temperature), errors=_errors(results),
        kinds=_kinds(results), groups=_groups(results))


def write_analysis(folder: str | Path, results: Results,
                   temperature: float | None = None) -> dict:
    """Writes ``analysis.json`` into a result folder, whole or not at all.

    Args and raised errors are those of :func:`analyze`.

    Returns:
        dict: What was written.
    """
    analysis = analyze(results, temperature)
    atomic_write_text(Path(folder) / ANALYSIS,
                      json.dumps(analysis, indent=2, allow_nan=False) + '\n')
    return analysis
