"""Comparing runs by their training curves."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import HRI30Error
from ..utils.curves import plot_runs, read_curves
from ..utils.text import format_table


def compare_runs(folders: Sequence[str | Path], out: str | Path) -> str:
    """Draws the curves of work folders over each other into a PNG file.

    Returns:
        str: A table: for each run its epochs, its minutes, and its highest validation
        top-1 and lowest validation loss with their epochs.

    Raises:
        HRI30Error: a folder without curves.
    """
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    # The part that differs names the run.
    common = Path(os.path.commonpath([path.parent for path in paths]))
    runs = {str(path.relative_to(common)): read_curves(path / 'training_curves.csv')
            for path in paths}
    if empty := [name for name, history in runs.items()
                 if not any('val_top1' in point for point in history)]:
        raise HRI30Error(f'{common / empty[0]}/training_curves.csv: has no row of a '
                         'validation yet.\nExpected a training that validates, after its '
                         'first validation.')
    plot_runs(out, runs)
    table = [('run', 'epochs', 'minutes', 'best top-1', 'lowest loss')]
    for name, history in runs.items():
        validated = [point for point in history if 'val_top1' in point]
        best = max(validated, key=lambda point: point['val_top1'])
        lowest = min(validated, key=lambda point: point['val_loss'])
        table.append((name, f'{history[-1]["epoch"]}', f'{history[-1]["minutes"]:.1f}',
                      f'{best["val_top1"]:.4f} @{best["epoch"]}',
                      f'{lowest["val_loss"]:.4f} @{lowest["epoch"]}'))
    return format_table(table)
