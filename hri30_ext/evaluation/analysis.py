"""Analysis of a score: intervals, calibration, and kinds of error.

Shapes: N clips, K classes, U units that are drawn together, R resamples.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from ..deploy.runtime.certainty import apply_temperature
from ..names import HRI30_CLASSES, canonical_name
from .calibration import (
    Calibration,
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

_WORD = re.compile(r'[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+')
_FORMS = {'drilling': 'drill', 'polishing': 'polisher', 'forwards': 'forward',
          'backwards': 'backward', 'diagonally': 'diagonal'}
_TOOLS = {'drill', 'polisher', 'object'}
_DIRECTIONS = {'forward', 'backward', 'left', 'right', 'up', 'down', 'diagonal'}
_FILLERS = {'while', 'with', 'the', 'a', 'an'}


class Description(NamedTuple):
    """What a class name says; parts that it does not mention are empty."""
    action: str
    direction: str
    tool: str


def describe_class(name: str) -> Description:
    """Splits a class name, such as ``WalkingWithDrill``, into action, direction and tool.

    Picking up and putting down are one action in two directions. Unknown words of any
    name belong to the action; ``_`` may also separate words.

    >>> describe_class('MoveDiagonallyBackwardLeftWithDrill')
    Description(action='move', direction='diagonal backward left', tool='drill')
    >>> describe_class('PutDownPolisher')
    Description(action='handle', direction='down', tool='polisher')
    """
    text = ' '.join(_WORD.findall(canonical_name(name))).lower()
    words = re.sub(r'\b(pick(?= up\b)|put(?= down\b))', 'handle', text).split()
    parts: dict[str, list[str]] = dict(action=[], direction=[], tool=[])
    for word in (_FORMS.get(word, word) for word in words if word not in _FILLERS):
        parts['tool' if word in _TOOLS else 'direction' if word in _DIRECTIONS else
              'action'].append(word)
    return Description(*map(' '.join, parts.values()))


def classify_error(true: str, predicted: str) -> str:
    """Classifies a mistake by the parts of two different class names that differ.

    >>> classify_error('Walking', 'WalkingWithDrill')
    'tool'

    Returns:
        str: ``direction`` (same action, same tool), ``tool`` (same action, same
        direction), ``direction_and_tool`` (same action), or ``other``.
    """
    a, b = describe_class(true), describe_class(predicted)
    parts = [name for name in ('direction', 'tool') if getattr(a, name) != getattr(b, name)]
    return '_and_'.join(parts) if a.action == b.action and parts else 'other'


def bootstrap(counts_NM: np.ndarray, groups_N: np.ndarray,
              statistic: Callable[[np.ndarray], np.ndarray], resamples: int = 2000
              ) -> tuple[dict, np.ndarray]:
    """Estimates 95 % intervals of statistics of sums over clips.

    Percentiles of a bootstrap over whole groups of recordings where these are known and
    there are at least two; otherwise over clips, which is too narrow if clips are
    near-copies of each other. With few groups any interval is rough. The same call draws
    the same units.

    All scores here follow from sums over clips, so a resample is a row of weights and all
    resamples are one matrix product; scipy.stats.bootstrap would index clips for each.

    Args:
        counts_NM (np.ndarray): What is summed, M numbers for each clip, (N, M).
        groups_N (np.ndarray): Groups of recordings, -1 where not known, (N, ).
        statistic (Callable): From sums (R, M) to values (R, ...).
        resamples (int): R.

    Returns:
        tuple[dict, np.ndarray]: ``level``, ``unit`` (``groups`` or ``clips``) and
        ``resamples``; and the lower and upper percentile, (2, ...).
    """
    groups, unit_N = np.unique(groups_N, return_inverse=True)
    unit = 'groups' if len(groups) >= 2 and groups[0] >= 0 else 'clips'
    if unit == 'clips':
        unit_N = np.arange(len(groups_N))
    units = unit_N.max() + 1
    counts_UM = np.zeros((units, counts_NM.shape[1]))
    np.add.at(counts_UM, unit_N, counts_NM)
    rng, values = np.random.default_rng(0), []
    # In parts: the weights of many clips would fill the memory.
    step = max(1, 4_000_000 // units)
    for start in range(0, resamples, step):
        weights_RU = rng.multinomial(units, np.full(units, 1 / units),
                                     size=min(step, resamples - start))
        values.append(statistic(weights_RU.astype(np.float64) @ counts_UM))
    tail = (1 - LEVEL) / 2
    return (dict(level=LEVEL, unit=unit, resamples=resamples),
            np.quantile(np.concatenate(values), [tail, 1 - tail], axis=0))


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


def _class_counts(results: Results) -> np.ndarray:
    """Returns hits, true and predicted class of each clip as ones, (N, 3K)."""
    true_NK, predicted_NK = (np.eye(len(results.classes))[classes_N]
                             for classes_N in (results.labels_N, results.predicted_N))
    return np.concatenate([true_NK * predicted_NK, true_NK, predicted_NK], axis=1)


def _calibration(results: Results, temperature: float | None) -> dict:
    def measure(scores_NK: np.ndarray) -> tuple[float, float]:
        return (expected_calibration_error(scores_NK, results.labels_N),
                negative_log_likelihood(scores_NK, results.labels_N))

    ece, nll = measure(results.scores_NK)
    ece_scaled, nll_scaled = (None, None) if temperature is None else measure(
        apply_temperature(results.scores_NK, temperature))
    return dict(temperature=temperature, ece=ece, nll=nll, ece_scaled=ece_scaled,
                nll_scaled=nll_scaled,
                bins=reliability_bins(results.scores_NK, results.labels_N))


def _certainty(results: Results, calibration: Calibration | None) -> dict:
    sets, open_set = (getattr(calibration, name, None) for name in ('sets', 'open_set'))
    columns = {}
    if sets:
        members_NK = sets.members(apply_temperature(results.scores_NK,
                                                    calibration.temperature))
        columns = dict(coverage=members_NK[np.arange(len(members_NK)), results.labels_N],
                       size=members_NK.sum(axis=1))
        columns['single'] = columns['size'] == 1
    if open_set:
        columns['unknown'] = open_set.distances(results.scores_NK) > open_set.threshold

    def average(chosen) -> dict:
        return {name: float(values_N[chosen].mean()) for name, values_N in columns.items()}

    return dict(
        sets=sets and msgspec.to_builtins(sets), open_set=open_set and dict(
            threshold=open_set.threshold, alpha=open_set.alpha, clips=open_set.clips),
        **average(slice(None)), groups=[
            dict(group=group, **average(results.groups_N == group))
            for group in results.known_groups if columns])


def _kinds(results: Results, right_N: np.ndarray) -> list[dict]:
    table = []
    for name, ids in KINDS.items():
        parts = [right_N[results.labels_N == i - 1] for i in ids]
        recalls = [part.mean() for part in parts if len(part)]
        inside_N = np.concatenate(parts)
        table.append(dict(
            name=name, classes=len(ids), clips=len(inside_N),
            top1=float(inside_N.mean()) if recalls else None,
            mean_class=float(np.mean(recalls)) if recalls else None))
    return table


def analyze(results: Results, calibration: Calibration | None = None) -> dict:
    """Analyses the results of labelled clips.

    Args:
        results (Results): With labels.
        calibration (Calibration, optional): Fitted on other clips than these; otherwise
            what it changes is too good.

    Returns:
        dict: Plain values for JSON:

        - ``intervals``: see :func:`bootstrap`, and [low, high] of ``top1``, ``mean_class``
          and ``macro_f1``;
        - ``calibration``: ``ece``, ``nll``, ``temperature``, ``ece_scaled``,
          ``nll_scaled`` (None without a temperature) and ``bins``, see
          :func:`~hri30_ext.evaluation.calibration.reliability_bins`;
        - ``certainty``: ``sets`` and ``open_set``, the thresholds, None where there are
          none; of all clips and of each of ``groups``: ``coverage``, the share whose set
          holds the true class; ``size``, the mean of the sets; ``single``, the share with
          a set of one class; ``unknown``, the share taken for unknown;
        - ``errors``: ``clips``, ``wrong``, and the number of wrong clips for each return
          value of :func:`classify_error`;
        - ``kinds``: the paper's kinds of action, with ``name``, ``classes``, ``clips``,
          ``top1`` and ``mean_class`` (None without clips); empty for other classes;
        - ``groups``: ``group``, ``clips`` and ``top1`` of the groups that are known.

    Raises:
        HRI30Error: no clips, or none with labels.
    """
    results.require_labels()
    labels_N, predicted_N, classes = results.labels_N, results.predicted_N, results.classes
    right_N = predicted_N == labels_N
    errors = Counter(classify_error(classes[labels_N[i]], classes[predicted_N[i]])
                     for i in np.flatnonzero(~right_N))
    of_hri30 = [canonical_name(name) for name in classes] == list(HRI30_CLASSES)
    of_groups = {group: right_N[results.groups_N == group]
                 for group in results.known_groups}
    interval, ends_2x3 = bootstrap(_class_counts(results), results.groups_N,
                                   _scores_from_counts)
    return dict(
        intervals=dict(interval, **dict(zip(('top1', 'mean_class', 'macro_f1'),
                                            ends_2x3.T.tolist(), strict=True))),
        calibration=_calibration(results, calibration and calibration.temperature),
        certainty=_certainty(results, calibration),
        errors=dict(clips=len(right_N), wrong=errors.total(), **{
            kind: errors[kind]
            for kind in ('direction', 'tool', 'direction_and_tool', 'other')}),
        kinds=_kinds(results, right_N) if of_hri30 else [],
        groups=[dict(group=group, clips=len(right), top1=float(right.mean()))
                for group, right in of_groups.items()])
