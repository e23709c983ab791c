"""Comparing two models on the same clips, and one on several splits.

Shapes: N clips, K classes, R resamples.
"""

import json
from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_text
from ..utils.text import format_table
from .analysis import (
    LEVEL,
    analyze,
    bootstrap,
    classify_error,
    describe_class,
    resampling_units,
)
from .results import Results


def check_same_clips(results: Sequence[Results]) -> list[Results]:
    """Refuses results that are not of the same clips, classes and labels.

    Args:
        results (Sequence[Results]): At least one; all are compared with the first.

    Returns:
        list[Results]: Restricted to the clips that all of them could read.

    Raises:
        HRI30Error: names the differences and their number.
    """
    failed = {video: reason for one in results for video, reason in one.failed.items()}
    results = [one.without(failed) for one in results]
    for other in results[1:]:
        _check_pair(results[0], other)
    return results


def _check_pair(first: Results, other: Results) -> None:
    pair = f'{first.source} and {other.source}'
    if first.classes != other.classes:
        wrong = [f'class {i}: {a!r} and {b!r}' for i, (a, b)
                 in enumerate(zip(first.classes, other.classes), 1) if a != b]
        if len(first.classes) != len(other.classes):
            wrong.append(f'{len(first.classes)} and {len(other.classes)} classes')
        raise HRI30Error(f'{pair}: other classes:\n{first_cases(wrong)}\nExpected '
                         'models of the same classes, in one order.')
    a, b = ({*one.videos, *one.failed} for one in (first, other))
    wrong = [f'{video}: only in {(first if video in a else other).source}'
             for video in [*sorted(a - b), *sorted(b - a)]]
    if wrong:
        raise HRI30Error(f'{pair}: {len(wrong)} clips are not in both:\n'
                         f'{first_cases(wrong)}\nExpected results of the same split of '
                         'the same data.')
    if (first.labels_N is None) != (other.labels_N is None):
        unlabelled = first if first.labels_N is None else other
        raise HRI30Error(f'{pair}: only {unlabelled.source} has no labels.\nExpected both '
                         'of the same data; test again.')
    if first.labels_N is not None:
        wrong = [f'{video}: {first.classes[a]} and {other.classes[b]}'
                 for video, a, b in zip(first.videos, first.labels_N, other.labels_N,
                                        strict=True) if a != b]
        if wrong:
            raise HRI30Error(f'{pair}: the labels of {len(wrong)} clips differ:\n'
                             f'{first_cases(wrong)}\nExpected results of the same data.')
    merge_groups(first, other)


def merge_groups(first: Results, other: Results) -> np.ndarray:
    """Returns the groups of the same clips, known where either knows them, (N, ).

    Raises:
        HRI30Error: they contradict each other.
    """
    a_N, b_N = first.groups_N, other.groups_N
    differ_N = (a_N >= 0) & (b_N >= 0) & (a_N != b_N)
    if differ_N.any():
        wrong = [f'{first.videos[i]}: {a_N[i]} and {b_N[i]}'
                 for i in np.flatnonzero(differ_N)]
        raise HRI30Error(f'{first.source} and {other.source}: the groups of {len(wrong)} '
                         f'clips differ:\n{first_cases(wrong)}\nExpected results of the '
                         'same data.')
    return np.where(a_N >= 0, a_N, b_N)


def compare(a: Results, b: Results, resamples: int = 2000, seed: int = 0) -> dict:
    """Compares the top-1 accuracies of two models, clip by clip.

    McNemar's exact test asks whether the clips that only one of them has right are divided
    like coin tosses: a two-sided binomial test. It assumes independent clips, which clips
    of a group are not; the interval, a bootstrap over whole groups where they are known,
    makes no such assumption. Exchanging the models changes signs and sides only.

    Args:
        a (Results): With labels.
        b (Results): Of the same clips.
        resamples (int): Of the bootstrap.
        seed (int): Of the bootstrap.

    Returns:
        dict: Plain values for JSON: ``data``, ``clips``, ``a`` and ``b`` (``results`` and
        ``top1``), ``difference`` (b minus a) with its ``interval`` (``level``, ``unit``,
        ``resamples``, ``low``, ``high``), ``mcnemar`` (``only_a`` and ``only_b``, the
        clips that only one has right, and ``p_value``), and ``flips``: for each class
        where they differ, ``class``, ``clips``, ``only_a`` and ``only_b``. If one of them
        could not read some clips, which are left out, ``failed``, their number.

    Raises:
        HRI30Error: no labels, or other clips, classes or labels.
    """
    a, b = check_same_clips([a, b])
    if a.labels_N is None or not len(a.labels_N):
        raise HRI30Error(f'{a.source}: no labelled clips.\nExpected results of the '
                         'validation, or of test clips with '
                         'annotations/test_set_labels.csv.')
    right_a_N, right_b_N = (one.predicted_N == one.labels_N for one in (a, b))
    only_a_N, only_b_N = right_a_N & ~right_b_N, right_b_N & ~right_a_N
    unit, unit_N = resampling_units(merge_groups(a, b))
    change_N = right_b_N.astype(np.float64) - right_a_N
    low, high = bootstrap(
        np.stack([change_N, np.ones(len(change_N))], axis=1), unit_N,
        lambda sums_R2: sums_R2[:, 0] / sums_R2[:, 1], resamples, seed).tolist()
    only_a, only_b = int(only_a_N.sum()), int(only_b_N.sum())
    clips_K, only_a_K, only_b_K = (
        np.bincount(a.labels_N[chosen_N], minlength=len(a.classes)).tolist()
        for chosen_N in (slice(None), only_a_N, only_b_N))
    flips = [{'class': name, 'clips': clips, 'only_a': in_a, 'only_b': in_b}
             for name, clips, in_a, in_b in zip(a.classes, clips_K, only_a_K, only_b_K,
                                                strict=True) if in_a or in_b]
    flips.sort(key=lambda row: -(row['only_a'] + row['only_b']))
    left_out = dict(failed=len(a.failed)) if a.failed else {}
    return dict(
        data=a.data, clips=len(a.videos), **left_out,
        a=dict(results=a.source, top1=float(right_a_N.mean())),
        b=dict(results=b.source, top1=float(right_b_N.mean())),
        difference=float(change_N.mean()),
        interval=dict(level=LEVEL, unit=unit, resamples=resamples, low=low, high=high),
        mcnemar=dict(only_a=only_a, only_b=only_b, p_value=(
            float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0)),
        flips=flips)


def format_comparison(comparison: dict) -> str:
    """Formats the values of :func:`compare` as text."""
    a, b, interval = comparison['a'], comparison['b'], comparison['interval']
    mcnemar, flips = comparison['mcnemar'], comparison['flips']
    p = mcnemar['p_value']
    p_value = f'= {p:.4f}' if p >= 1e-4 else '< 0.0001'
    lines = [
        f'Data: {comparison["data"] or "not known"}, {comparison["clips"]} clips',
        f'A  top-1 {a["top1"]:.4f}  {a["results"]}',
        f'B  top-1 {b["top1"]:.4f}  {b["results"]}',
        f'B - A  {comparison["difference"]:+.4f}, {interval["level"]:.0%} interval '
        f'{interval["low"]:+.4f} to {interval["high"]:+.4f} (bootstrap over '
        f'{interval["unit"]}, {interval["resamples"]} resamples)',
        f'Only A right {mcnemar["only_a"]}, only B right {mcnemar["only_b"]}: p '
        f'{p_value} (McNemar, exact two-sided binomial test, as if clips '
        'were independent)']
    if 'failed' in comparison:
        lines.insert(1, f'{comparison["failed"]} more clips could not be read for A or B, '
                        'and are left out')
    if flips:
        width = max(len('class'), *(len(row['class']) for row in flips))
        lines += ['', f'{"class":{width}}  clips  A right, B wrong  B right, A wrong']
        lines += [f'{row["class"]:{width}}  {row["clips"]:5}  {row["only_a"]:16}  '
                  f'{row["only_b"]:16}' for row in flips]
    return '\n'.join(lines)


def compare_folders(*folders: str | Path, json_file: str | Path | None = None) -> str:
    """Compares result folders: two of the same clips, or more of several splits.

    Args:
        *folders (str | Path): Of ``tools/test.sh``, with labels.
        json_file (str | Path, optional): Where to write the values.

    Returns:
        str: A text to print.

    Raises:
        HRI30Error: see :func:`compare` and :func:`compare_splits`.
    """
    results = [Results.load(folder, need_labels=True) for folder in folders]
    comparison = compare(*results) if len(results) == 2 else compare_splits(results)
    if json_file:
        atomic_write_text(json_file,
                          json.dumps(comparison, indent=2, allow_nan=False) + '\n')
    return (format_comparison if len(results) == 2 else format_splits)(comparison)


# ---- Several splits, side by side -------------------------------------------------------

_SHOWN_PAIRS = 12


def classify_pair(a: str, b: str) -> str:
    """Classifies two classes as :func:`.analysis.classify_error` does, and takes picking up
    and putting down apart from the other directions."""
    kind = classify_error(a, b)
    handled = kind == 'direction' and describe_class(a).action == 'handle'
    return 'pick up / put down' if handled else kind


def compare_splits(results: Sequence[Results]) -> dict:
    """Puts the confusions of the results of several splits side by side, without a mean.

    Args:
        results (Sequence[Results]): With labels, of the same classes.

    Returns:
        dict: Plain values for JSON: ``splits``, a dict for each with ``results``, ``data``,
        ``clips``, ``top1``, ``interval`` and ``unit``; ``kinds``, by kind of pair: for each
        split ``[confused, clips]``, clips that were given the other class of such a pair,
        of those whose class is in one; and ``pairs``, the most confused ones: ``kind``,
        ``classes`` and ``confused`` of each split.
    """
    classes = results[0].classes
    if any(other.classes != classes for other in results):
        raise HRI30Error(f'{", ".join(one.source for one in results)}: other classes.\n'
                         'Expected results of one data set.')
    splits, matrices = [], []
    for one in results:
        interval = analyze(one)['intervals']
        splits.append(dict(
            results=one.source, data=one.data, clips=len(one.videos),
            top1=float((one.predicted_N == one.labels_N).mean()),
            interval=interval['top1'], unit=interval['unit']))
        matrices.append(confusion_matrix(one.labels_N, one.predicted_N,
                                         labels=range(len(classes))))
    kinds: dict = {'direction': [], 'tool': [], 'pick up / put down': []}
    for i, j in combinations(range(len(classes)), 2):
        kinds.get(classify_pair(classes[i], classes[j]), []).append((i, j))
    pairs = [dict(kind=kind, classes=[classes[i], classes[j]], confused=[
        int(matrix[i, j] + matrix[j, i]) for matrix in matrices])
        for kind, of_kind in kinds.items() for i, j in of_kind]
    counts = {kind: [[sum(pair['confused'][k] for pair in pairs if pair['kind'] == kind),
                      int(matrix[sorted({*chain(*kinds[kind])})].sum())]
                     for k, matrix in enumerate(matrices)] for kind in kinds}
    most = sorted((pair for pair in pairs if any(pair['confused'])),
                  key=lambda pair: -sum(pair['confused']))
    return dict(splits=splits, kinds=counts, pairs=most[:_SHOWN_PAIRS])


def format_splits(found: dict) -> str:
    """Formats the values of :func:`compare_splits` as text, a column a split."""
    splits = found['splits']
    table = [['', *(f'({i})' for i in range(1, len(splits) + 1))],
             ['clips', *(str(one['clips']) for one in splits)],
             ['top-1', *(f'{one["top1"]:.3f}' for one in splits)],
             [f'{LEVEL:.0%} interval', *('{:.3f} to {:.3f}'.format(*one['interval'])
                                         for one in splits)]]
    table += [[f'{kind} confused', *(f'{wrong} of {clips}' for wrong, clips in columns)]
              for kind, columns in found['kinds'].items()]
    table += [[f'{pair["kind"]}: {" / ".join(pair["classes"])}',
               *map(str, pair['confused'])] for pair in found['pairs']]
    return '\n'.join([
        *(f'({i}) {one["data"]}, interval over {one["unit"]}: {one["results"]}'
          for i, one in enumerate(splits, 1)), '', format_table(table), '',
        "No mean: the paper's splits are nested, so the same clips would count up to three "
        'times.'])
