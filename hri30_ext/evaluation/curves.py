"""Comparing runs by their training curves."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import HRI30Error
from ..utils.curves import plot_runs, read_curves


def compare_runs(folders: Sequence[str | Path], out: str | Path) -> str:
    """Draws the curves of work folders over each other into a PNG file.

    Returns:
        str: A table: for each run its epochs, its epoch of the highest validation top-1
        and of the lowest validation loss, with their values, and its minutes.

    Raises:
        HRI30Error: a folder without curves.
    """
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    # The part that differs names the run.
    common = Path(os.path.commonpath([path.parent for path in paths]))
    runs = {}
    for path in paths:
        history = read_curves(path / 'training_curves.csv')
        if not history:
            raise HRI30Error(f'{path / "training_curves.csv"}: has no row yet; there is '
                             'one after the first validation.')
        runs[str(path.relative_to(common))] = history
    plot_runs(out, runs)
    width = max(map(len, runs))
    lines = [f'{"run":{width}}  epochs  minutes  best top-1    lowest loss']
    for name, history in runs.items():
        validated = [point for point in history if 'val_top1' in point]
        best = max(validated, key=lambda point: point['val_top1'])
        lowest = min(validated, key=lambda point: point['val_loss'])
        lines.append(
            f'{name:{width}}  {history[-1]["epoch"]:6}  {history[-1]["minutes"]:7.1f}  '
            f'{best["val_top1"]:.4f} @{best["epoch"]:<4}  '
            f'{lowest["val_loss"]:.4f} @{lowest["epoch"]}')
    return '\n'.join(lines)
