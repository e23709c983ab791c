"""Comparing two models on the same clips, and one on several splits.

Shapes: N clips, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_json
from ..utils.text import format_table
from .analysis import classify_error, describe_class
from .intervals import LEVEL, format_units, group_interval
from .metrics import ClassScores
from .results import Results


def check_same_clips(results: Sequence[Results]) -> list[Results]:
    """Refuses results that are not of the same clips, classes, labels and groups.

    Returns:
        list[Results]: Restricted to the clips that all of them could read.

    Raises:
        HRI30Error: names the differences and their number.
    """
    failed = {video: reason for one in results for video, reason in one.failed.items()}
    results = [one.without(failed) for one in results]
    first = _facts(results[0])
    for one in results[1:]:
        other = _facts(one)
        differ = [f'{name}: {first.get(name, "missing")} and {other.get(name, "missing")}'
                  for name in sorted(first | other) if first.get(name) != other.get(name)]
        if differ:
            raise HRI30Error(
                f'{results[0].source} and {one.source}: {len(differ)} classes or clips '
                f'differ:\n{first_cases(differ)}\nExpected results of the same split of '
                'the same data, of models of the same classes in one order.')
    return results


def _facts(one: Results) -> dict[str, str]:
    """Describes what results to compare share: each class, and each clip by its name."""
    labels = ['unknown'] * len(one.videos) if one.labels_N is None else [
        one.classes[label] for label in one.labels_N]
    return {f'class {i}': name for i, name in enumerate(one.classes, 1)} | {
        video: f'label {label}, group {group}'
        for video, label, group in zip(one.videos, labels, one.groups_N, strict=True)
    } | dict.fromkeys(one.failed, 'not readable')


def compare(a: Results, b: Results) -> dict:
    """Compares the top-1 accuracies of two models, clip by clip.

    McNemar's exact test asks whether the clips that only one of them has right are divided
    like coin tosses: a two-sided binomial test. It assumes independent clips, which clips
    of a group are not; the interval, over whole groups where they are known, makes no such
    assumption. Exchanging the models changes signs and sides only.

    Returns:
        dict: Plain values for JSON: ``data``, ``clips``, ``a`` and ``b`` (``results`` and
        ``top1``), ``difference`` (b minus a) with its ``interval`` (the fields of
        :class:`~hri30_ext.evaluation.intervals.Interval`), ``mcnemar`` (``only_a`` and
        ``only_b``, the clips that only one has right, and ``p_value``), and ``flips``: for
        each class where they differ, ``class``, ``clips``, ``only_a`` and ``only_b``;
        ``failed``, the number of clips left out because a model could not read them.

    Raises:
        HRI30Error: no labels, or other clips, classes or labels.
    """
    a, b = check_same_clips([a, b])
    a.require_labels()
    right_a_N, right_b_N = a.correct_N, b.correct_N
    only_a_N, only_b_N = right_a_N & ~right_b_N, right_b_N & ~right_a_N
    change_N = right_b_N.astype(np.float64) - right_a_N
    interval = group_interval(change_N, a.groups_N, bounded=False)
    only_a, only_b = int(only_a_N.sum()), int(only_b_N.sum())
    flips = [{'class': name, 'clips': int(of_class_N.sum()),
              'only_a': int(only_a_N[of_class_N].sum()),
              'only_b': int(only_b_N[of_class_N].sum())}
             for k, name in enumerate(a.classes)
             if (change_N[of_class_N := a.labels_N == k] != 0).any()]
    flips.sort(key=lambda row: -(row['only_a'] + row['only_b']))
    return dict(
        data=a.data, clips=len(a.videos), failed=len(a.failed),
        a=dict(results=a.source, top1=float(right_a_N.mean())),
        b=dict(results=b.source, top1=float(right_b_N.mean())),
        difference=float(change_N.mean()),
        interval=interval._asdict(),
        mcnemar=dict(only_a=only_a, only_b=only_b, p_value=(
            float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0)),
        flips=flips)


def format_comparison(comparison: dict) -> str:
    """Formats the values of :func:`compare` as text."""
    a, b, interval = comparison['a'], comparison['b'], comparison['interval']
    mcnemar = comparison['mcnemar']
    lines = [
        f'Data: {comparison["data"]}, {comparison["clips"]} clips; {comparison["failed"]} '
        'more that a model could not read are left out',
        f'A  top-1 {a["top1"]:.4f}  {a["results"]}',
        f'B  top-1 {b["top1"]:.4f}  {b["results"]}',
        f'B - A  {comparison["difference"]:+.4f}, {LEVEL:.0%} interval '
        f'{interval["low"]:+.4f} to {interval["high"]:+.4f} over '
        f'{format_units(interval)}',
        f'Only A right {mcnemar["only_a"]}, only B right {mcnemar["only_b"]}: p = '
        f'{mcnemar["p_value"]:.3g} (McNemar, exact two-sided binomial test, as if clips '
        'were independent)']
    if comparison['flips']:
        lines += ['', format_table([
            ('class', 'clips', 'A right, B wrong', 'B right, A wrong'),
            *(tuple(map(str, row.values())) for row in comparison['flips'])])]
    return '\n'.join(lines)


def compare_folders(*folders: str | Path, json_file: str | Path | None = None) -> str:
    """Compares result folders of labelled clips: two of the same clips, or more of several
    splits, and may also write the values into a file.

    Returns:
        str: A text to print.

    Raises:
        HRI30Error: see :func:`compare` and :func:`compare_splits`.
    """
    results = [Results.load(folder, need_labels=True) for folder in folders]
    comparison = compare(*results) if len(results) == 2 else compare_splits(results)
    if json_file:
        atomic_write_json(json_file, comparison)
    return (format_comparison if len(results) == 2 else format_splits)(comparison)


# ---- Several splits, side by side -------------------------------------------------------

_PAIRS = ('direction', 'tool', 'pick up / put down')


def classify_pair(a: str, b: str) -> str:
    """Classifies two classes as :func:`.analysis.classify_error` does, and takes picking up
    and putting down apart from the other directions."""
    kind = classify_error(a, b)
    handled = kind == 'direction' and describe_class(a).action == 'handle'
    return 'pick up / put down' if handled else kind


def compare_splits(results: Sequence[Results]) -> dict:
    """Puts confusions in labelled results of several splits side by side, without a mean.

    Returns:
        dict: Plain values for JSON: ``splits``, a dict for each with ``results``, ``data``,
        ``clips``, ``top1`` and ``interval``; and ``kinds``, by kind of pair: for each
        split ``[confused, clips]``, clips that were given the other class of such a pair,
        of those whose class is in one.
    """
    classes = results[0].classes
    if any(other.classes != classes for other in results):
        raise HRI30Error(f'{", ".join(one.source for one in results)}: other classes.\n'
                         'Expected results of one data set.')
    splits, matrices = [], []
    for one in results:
        splits.append(dict(
            results=one.source, data=one.data, clips=len(one.videos),
            top1=float(one.correct_N.mean()),
            interval=group_interval(one.correct_N, one.groups_N)._asdict()))
        matrices.append(ClassScores.of(one).matrix_KK)
    kinds_KK = np.array([[classify_pair(a, b) if a != b else '' for b in classes]
                         for a in classes])
    return dict(splits=splits, kinds={
        kind: [[int(matrix_KK[kinds_KK == kind].sum()),
                int(matrix_KK[(kinds_KK == kind).any(axis=1)].sum())]
               for matrix_KK in matrices] for kind in _PAIRS})


def format_splits(comparison: dict) -> str:
    """Formats the values of :func:`compare_splits` as text, a column a split."""
    splits = comparison['splits']
    table = [['', *(f'({i})' for i in range(1, len(splits) + 1))],
             ['clips', *(str(one['clips']) for one in splits)],
             ['top-1', *(f'{one["top1"]:.3f}' for one in splits)],
             [f'{LEVEL:.0%} interval', *('{low:.3f} to {high:.3f}'.format(**one['interval'])
                                         for one in splits)]]
    table += [[f'{kind} confused', *(f'{wrong} of {clips}' for wrong, clips in columns)]
              for kind, columns in comparison['kinds'].items()]
    return '\n'.join([
        *(f'({i}) {one["data"]}, interval over {format_units(one["interval"])}: '
          f'{one["results"]}'
          for i, one in enumerate(splits, 1)), '', format_table(table), '',
        "No mean: the paper's splits are nested, so the same clips would count up to three "
        'times.'])
