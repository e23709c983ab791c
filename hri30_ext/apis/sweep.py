"""Comparing settings with the same seeds on the same clips."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import HRI30Error
from ..evaluation.results import Results
from ..transforms.flip import mirrored_labels
from ..utils.curves import plot_runs, read_curves
from ..utils.fileio import atomic_write_json, check_writable
from ..utils.text import format_table
from .runs import Run, complete


def parse_arms(arms: Sequence[str]) -> dict[str, list[str]]:
    """Parses ``NAME: KEY=VALUE KEY=VALUE``.

    >>> parse_arms(['none: flip=None', 'base:'])
    {'none': ['flip=None'], 'base': []}

    Raises:
        HRI30Error: Another form, or a repeated name.
    """
    parsed: dict[str, list[str]] = {}
    for arm in arms:
        match = re.fullmatch(r'\s*([\w.-]+)\s*:\s*(.*)', arm)
        if match is None or match[1] in parsed:
            raise HRI30Error(f'--arm {arm!r}: expected "NAME: KEY=VALUE ..." with a new '
                             'NAME, such as "noflip: flip=None".')
        parsed[match[1]] = match[2].split()
    return parsed


def sweep(config: str, arms: dict[str, list[str]], seeds: Sequence[int], out: str,
          options: Sequence[str] = ()) -> list[dict]:
    """Trains and tests every arm with every seed; an interrupted call resumes.

    Args:
        config (str): Path of the config.
        arms (dict[str, list[str]]): Settings as for ``--cfg-options``, by name.
            ``{seed}`` in a value becomes the seed.
        seeds (Sequence[int]): Of weights, order and augmentation.
        out (str): Gets a work folder ``<arm>/seed<seed>/`` for each.
        options (Sequence[str]): Settings of all runs, as for ``--cfg-options``.

    Returns:
        list[dict]: One row for each run: ``arm``, ``seed``, ``top1`` of the last epoch's
        validation, ``mirrored_top1`` (over the classes that a flip changes into others;
        None without any), ``epochs`` and ``minutes``.

    Raises:
        HRI30Error: A user's mistake, or a run failed.
    """
    out = check_writable(out)
    runs = {Run(f'{name}, seed {seed}', config, out / name / f'seed{seed}', tuple(
        setting.replace('{seed}', str(seed))
        for setting in (*options, *settings, f'seed={seed}'))): (name, seed)
        for name, settings in arms.items() for seed in seeds}
    rows, curves = [], {}
    for run in complete(runs):
        history = curves[run.name] = read_curves(run.folder / 'training_curves.csv')
        name, seed = runs[run]
        rows.append(dict(arm=name, seed=seed, **_summarize(history, run.folder)))
        print(f'{run.name}: top-1 {rows[-1]["top1"]:.3f}, '
              f'{rows[-1]["minutes"]:.1f} minutes', flush=True)
    atomic_write_json(out / 'sweep.json', rows, indent=1)
    plot_runs(out / 'curves.png', curves)
    return rows


def _summarize(history: list[dict], folder: Path) -> dict:
    results = Results.load(folder / 'val', need_labels=True)
    right_N = results.correct_N
    mirrored_N = np.isin(results.labels_N, list(mirrored_labels(results.classes)[0]))
    return dict(
        top1=float(right_N.mean()),
        mirrored_top1=float(right_N[mirrored_N].mean()) if mirrored_N.any() else None,
        epochs=history[-1]['epoch'], minutes=history[-1]['minutes'])


def format_sweep(rows: Sequence[dict]) -> str:
    """Formats the rows of :func:`sweep` as a table: mean and sample standard deviation over
    the seeds of each arm, without deviations for a single seed.
    """
    columns = [('top1', 'top-1', 3), ('mirrored_top1', 'top-1, left/right', 3),
               ('epochs', 'epochs', 1), ('minutes', 'minutes', 2)]
    table = [['arm', 'seeds', *(title for _, title, _ in columns)]]
    for arm in dict.fromkeys(row['arm'] for row in rows):
        of_arm = [row for row in rows if row['arm'] == arm]
        table.append([arm, str(len(of_arm)), *(
            mean_and_spread([row[key] for row in of_arm], digits)
            for key, _, digits in columns)])
    return format_table(table)


def mean_and_spread(values: Sequence, digits: int) -> str:
    """Formats the mean and sample standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    if not known:
        return '-'
    text = f'{statistics.mean(known):.{digits}f}'
    if len(known) > 1:
        text += f' ± {statistics.stdev(known):.{digits}f}'
    if len(known) < len(values):
        text += f' ({len(known)} of {len(values)})'
    return text
