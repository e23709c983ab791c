"""Training curves: the table and the pictures of a work folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import HRI30Error
from .fileio import atomic_path, atomic_write_text
from .reading import open_text
from .text import format_csv, unescape_cell

CURVES = ('epoch', 'minutes', 'train_loss', 'val_loss', 'train_top1', 'val_top1')


def write_curves(path: str | Path, history: Sequence[dict]) -> None:
    """Writes ``training_curves.csv``: a row an epoch, values that are absent empty.

    Columns: :data:`CURVES`, then learning rates, ``lr`` or one ``NAME_lr`` a group.
    """
    columns = (*CURVES, *_learning_rates(history))
    atomic_write_text(path, format_csv(columns, [
        [point.get(name, '') for name in columns] for point in history]))


def read_curves(path: str | Path) -> list[dict]:
    """Reads what :func:`write_curves` wrote.

    Raises:
        HRI30Error: no such file, or another one.
    """
    try:
        with open_text(path, 'the training_curves.csv of a work folder') as file:
            return [{unescape_cell(name): (int if name == 'epoch' else float)(value)
                     for name, value in row.items() if value}
                    for row in csv.DictReader(file)]
    except (ValueError, AttributeError, TypeError) as error:
        raise HRI30Error(f'{path}: not a table of curves ({str(error)[:160]}).\nExpected '
                         'the training_curves.csv that tools/train.sh writes.') from error


def save_figure(figure: Figure, path: str | Path) -> None:
    """Saves a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        # No metadata: the same numbers give the same file.
        figure.savefig(temporary, dpi=100, metadata={'Software': None})


def _learning_rates(history: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for point in history for name in point
                              if name == 'lr' or name.endswith('_lr')))


#: Curves that are drawn: name of the column, label, limits of the axis.
_CURVES = (('loss', 'Loss', {'bottom': 0}),
           ('top1', 'Top-1 accuracy', {'bottom': -.02, 'top': 1.02}))


def _epoch_panel(figure: Figure, position: int, panels: int, label: str) -> Axes:
    axes = figure.add_subplot(1, panels, position)
    axes.set_xlabel('Epoch')
    axes.set_ylabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=.3)
    return axes


def _draw(axes: Axes, history: Sequence[dict], column: str, **style) -> None:
    points = [(point['epoch'], point[column]) for point in history if column in point]
    if points:
        axes.plot(*zip(*points, strict=True), marker='.', **style)


def plot_training_curves(path: str | Path, history: Sequence[dict],
                         title: str = '') -> None:
    """Draws loss and top-1 accuracy, training against validation, and learning rates.

    A point of the history is an epoch: ``epoch`` and some of ``train_loss``, ``val_loss``,
    ``train_top1``, ``val_top1`` and learning rates (``lr``, or ``NAME_lr``).
    """
    figure = Figure(figsize=(14, 4), layout='constrained')
    for position, (name, label, limits) in enumerate(_CURVES, 1):
        axes = _epoch_panel(figure, position, 3, label)
        _draw(axes, history, f'train_{name}', color='tab:blue', label='Training')
        _draw(axes, history, f'val_{name}', color='tab:orange', label='Validation')
        axes.set_ylim(**limits)
        if axes.lines:
            axes.legend()
    axes = _epoch_panel(figure, 3, 3, 'Learning rate')
    for name in _learning_rates(history):
        _draw(axes, history, name, label=name.removesuffix('_lr'))
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis='y', style='sci', scilimits=(0, 0))
    if len(axes.lines) > 1:
        axes.legend()
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def plot_runs(path: str | Path, runs: Mapping[str, Sequence[dict]]) -> None:
    """Draws the curves of several runs, by their names, over each other, a colour a run."""
    figure = Figure(figsize=(14, 5.2), layout='constrained')
    for position, (name, label, limits) in enumerate(_CURVES, 1):
        axes = _epoch_panel(figure, position, 2, label)
        for i, (run, history) in enumerate(runs.items()):
            colour = f'C{i % 10}'
            _draw(axes, history, f'train_{name}', color=colour, alpha=.3, linewidth=1,
                  markersize=2)
            _draw(axes, history, f'val_{name}', color=colour, label=run)
        axes.set_ylim(**limits)
    handles = {label: line for line, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles, loc='outside lower center', fontsize=9)
    figure.suptitle('Validation (bold) and training (faint)', fontsize=11)
    save_figure(figure, path)
