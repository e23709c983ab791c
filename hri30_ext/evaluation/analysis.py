"""Analysis of a score: intervals, calibration, and kinds of error.

Shapes: N clips, K classes, U sums over some of the clips.
"""

import re
from collections import Counter
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
from .intervals import LEVEL, group_interval
from .results import Results

#: The file of a result folder that holds the analysis.
ANALYSIS = 'analysis.json'

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


def _mean_class(counts_UM: np.ndarray) -> np.ndarray:
    """Computes mean class accuracy, (U, ), from :func:`_class_counts`, summed."""
    hits_UK, true_UK, _ = np.split(counts_UM, 3, axis=1)
    return (hits_UK / np.maximum(true_UK, 1)).sum(axis=1) / (true_UK > 0).sum(axis=1)


def _macro_f1(counts_UM: np.ndarray) -> np.ndarray:
    """Computes macro F1, (U, ), over classes that occur or are predicted."""
    hits_UK, true_UK, predicted_UK = np.split(counts_UM, 3, axis=1)
    both_UK = true_UK + predicted_UK
    return (2 * hits_UK / np.maximum(both_UK, 1)).sum(axis=1) / (both_UK > 0).sum(axis=1)


def _class_counts(results: Results) -> np.ndarray:
    """Returns hits, true and predicted class of each clip as ones, (N, 3K)."""
    true_NK, predicted_NK = (np.eye(len(results.classes))[classes_N]
                             for classes_N in (results.labels_N, results.predicted_N))
    return np.concatenate([true_NK * predicted_NK, true_NK, predicted_NK], axis=1)


def _intervals(results: Results, right_N: np.ndarray) -> dict:
    top1 = group_interval(right_N, results.groups_N)
    ends = {name: list(group_interval(_class_counts(results), results.groups_N, score)[:2])
            for name, score in (('mean_class', _mean_class), ('macro_f1', _macro_f1))}
    return dict(level=LEVEL, unit=top1.unit, units=top1.units, note=top1.note,
                top1=list(top1[:2]), **ends)


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

        - ``intervals``: ``level``; ``unit``, ``units`` and ``note``, see
          :class:`~hri30_ext.evaluation.intervals.Interval`; and [low, high] of ``top1``,
          ``mean_class`` and ``macro_f1``;
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
    right_N = results.correct_N
    errors = Counter(classify_error(classes[labels_N[i]], classes[predicted_N[i]])
                     for i in np.flatnonzero(~right_N))
    of_hri30 = [canonical_name(name) for name in classes] == list(HRI30_CLASSES)
    of_groups = {group: right_N[results.groups_N == group]
                 for group in results.known_groups}
    return dict(
        intervals=_intervals(results, right_N),
        calibration=_calibration(results, calibration and calibration.temperature),
        certainty=_certainty(results, calibration),
        errors=dict(clips=len(right_N), wrong=errors.total(), **{
            kind: errors[kind]
            for kind in ('direction', 'tool', 'direction_and_tool', 'other')}),
        kinds=_kinds(results, right_N) if of_hri30 else [],
        groups=[dict(group=group, clips=len(right), top1=float(right.mean()))
                for group, right in of_groups.items()])
