"""Comparing two models on the same clips.

Shapes: N clips, K classes, U units that are drawn together, R resamples.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_text
from .analysis import LEVEL, bootstrap, percentile_interval, resampling_units
from .results import Results


def check_same_clips(results: Sequence[Results]) -> list[Results]:
    """Refuses results that are not of the same clips, classes and labels.

    Args:
        results (Sequence[Results]): At least one; all are compared with the first.

    Returns:
        list[Results]: Of the clips that all have scores of: a clip that could not be read
        for one of them has failed for all.

    Raises:
        HRI30Error: names the differences and their number.
    """
    failed = {video: reason for one in results for video, reason in one.failed.items()}
    results = [one.without(failed) for one in results]
    first = results[0]
    for other in results[1:]:
        pair = f'{first.source} and {other.source}'
        if first.classes != other.classes:
            wrong = [f'class {i}: {a!r} and {b!r}' for i, (a, b)
                     in enumerate(zip(first.classes, other.classes), 1) if a != b]
            if len(first.classes) != len(other.classes):
                wrong.append(f'{len(first.classes)} and {len(other.classes)} classes')
            raise HRI30Error(f'{pair}: other classes:\n{first_cases(wrong)}\nExpected '
                             'models of the same classes, in one order.')
        a, b = ({*one.videos, *one.failed} for one in (first, other))
        if a != b:
            wrong = ([f'{video}: only in {first.source}' for video in sorted(a - b)]
                     + [f'{video}: only in {other.source}' for video in sorted(b - a)])
            raise HRI30Error(f'{pair}: {len(wrong)} clips are not in both:\n'
                             f'{first_cases(wrong)}\nExpected results of the same split of '
                             'the same data.')
        if (first.labels_N is None) != (other.labels_N is None):
            unlabelled = first if first.labels_N is None else other
            raise HRI30Error(f'{pair}: {unlabelled.source} has no labels, and the other '
                             'has.\nExpected both of the same data; test again.')
        if first.labels_N is not None:
            wrong = [f'{video}: {first.classes[a]} and {other.classes[b]}'
                     for video, a, b in zip(first.videos, first.labels_N, other.labels_N,
                                            strict=True) if a != b]
            if wrong:
                raise HRI30Error(f'{pair}: the labels of {len(wrong)} clips differ:\n'
                                 f'{first_cases(wrong)}\nExpected results of the same '
                                 'data.')
        merge_groups(first, other)
    return results


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

    McNemar's exact test asks whether clips that only one of them has right are shared out
    like coin tosses: a two-sided binomial test. It takes clips for independent, which
    clips of a group are not; the interval, a bootstrap over whole groups where they are
    known, makes no such claim. Exchanging the models changes signs and sides alone.

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
        where they differ, ``class``, ``clips``, ``only_a`` and ``only_b``. Where one of
        them could not read some clips, which are left out, ``failed``, their number.

    Raises:
        HRI30Error: no labels, or other clips, classes or labels.
    """
    a, b = check_same_clips([a, b])
    if a.labels_N is None or not len(a.labels_N):
        raise HRI30Error(f'{a.source}: no labelled clips.\nExpected results of the '
                         'validation, or of test clips with '
                         'annotations/test_set_labels.csv.')
    right_a_N = a.predicted_N == a.labels_N
    right_b_N = b.predicted_N == b.labels_N
    only_a_N, only_b_N = right_a_N & ~right_b_N, right_b_N & ~right_a_N
    unit, unit_N = resampling_units(merge_groups(a, b))
    change_N = right_b_N.astype(np.float64) - right_a_N
    counts_U2 = np.stack([np.bincount(unit_N, change_N), np.bincount(unit_N)], axis=1)
    low, high = percentile_interval(bootstrap(
        counts_U2, lambda sums_R2: sums_R2[:, 0] / sums_R2[:, 1], resamples, seed))
    only_a, only_b = int(only_a_N.sum()), int(only_b_N.sum())
    flips = []
    for label, name in enumerate(a.classes):
        inside_N = a.labels_N == label
        row = {'class': name, 'clips': int(inside_N.sum()),
               'only_a': int(only_a_N[inside_N].sum()),
               'only_b': int(only_b_N[inside_N].sum())}
        if row['only_a'] or row['only_b']:
            flips.append(row)
    flips.sort(key=lambda row: -(row['only_a'] + row['only_b']))
    discordant = only_a + only_b
    left_out = dict(failed=len(a.failed)) if a.failed else {}
    return dict(
        data=a.data, clips=len(a.videos), **left_out,
        a=dict(results=a.source, top1=float(right_a_N.mean())),
        b=dict(results=b.source, top1=float(right_b_N.mean())),
        difference=float(change_N.mean()),
        interval=dict(level=LEVEL, unit=unit, resamples=resamples, low=low, high=high),
        mcnemar=dict(only_a=only_a, only_b=only_b, p_value=(
            float(binomtest(only_a, discordant).pvalue) if discordant else 1.0)),
        flips=flips)


def format_comparison(comparison: dict) -> str:
    """Lays the values of :func:`compare` out for reading."""
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
        lines.insert(1, f'{comparison["failed"]} clips more could not be read for A or B, '
                        'and are left out')
    if flips:
        width = max(len('class'), *(len(row['class']) for row in flips))
        lines += ['', f'{"class":{width}}  clips  A right, B wrong  B right, A wrong']
        lines += [f'{row["class"]:{width}}  {row["clips"]:5}  {row["only_a"]:16}  '
                  f'{row["only_b"]:16}' for row in flips]
    return '\n'.join(lines)


def compare_folders(a: str | Path, b: str | Path,
                    json_file: str | Path | None = None) -> str:
    """Compares two result folders.

    Args:
        a (str | Path): Of ``tools/test.sh``, with labels.
        b (str | Path): Of the same clips.
        json_file (str | Path, optional): Gets the values.

    Returns:
        str: A text to print.

    Raises:
        HRI30Error: see :func:`compare`.
    """
    comparison = compare(Results.load(a, need_labels=True),
                         Results.load(b, need_labels=True))
    if json_file:
        atomic_write_text(json_file,
                          json.dumps(comparison, indent=2, allow_nan=False) + '\n')
    return format_comparison(comparison)
