"""Pictures of results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..utils.fileio import atomic_path


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        # No metadata: the same numbers give the same file.
        figure.savefig(temporary, dpi=100, metadata={'Software': None})


def plot_confusion_matrix(path: str | Path, matrix_KK: np.ndarray,
                          classes: Sequence[str], title: str = '') -> None:
    """Draws a confusion matrix: colour is the share of a true class, text the count.

    Args:
        path (str | Path): The PNG file.
        matrix_KK (np.ndarray): Counts, true classes in rows, shape (K, K).
        classes (Sequence[str]): K names.
        title (str): What the clips are.
    """
    num_classes = len(classes)
    side = max(5.0, 0.36 * num_classes + 4.2)
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.add_subplot()
    totals_K1 = matrix_KK.sum(axis=1, keepdims=True)
    shares_KK = matrix_KK / np.maximum(totals_K1, 1)
    image = axes.imshow(shares_KK, cmap='Blues', vmin=0, vmax=1)
    for row, column in np.argwhere(matrix_KK):
        axes.text(column, row, int(matrix_KK[row, column]), ha='center', va='center',
                  fontsize=8, color='white' if shares_KK[row, column] > .5 else 'black')
    names = [f'{k} {name}' for k, name in enumerate(classes, 1)]
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=8)
    axes.set_yticks(range(num_classes), names, fontsize=8)
    axes.set_xticks(np.arange(num_classes + 1) - .5, minor=True)
    axes.set_yticks(np.arange(num_classes + 1) - .5, minor=True)
    axes.grid(which='minor', color='0.9', linewidth=.6)
    axes.tick_params(which='minor', length=0)
    axes.set_xlabel('Predicted class')
    axes.set_ylabel('True class')
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, shrink=.5, label='Share of the true class')
    _save(figure, path)


def plot_training_curves(path: str | Path, history: Sequence[dict],
                         title: str = '') -> None:
    """Draws loss and top-1 accuracy, training against validation.

    Args:
        path (str | Path): The PNG file.
        history (Sequence[dict]): A point an epoch: ``epoch`` and some of
            ``train_loss``, ``val_loss``, ``train_top1``, ``val_top1``.
        title (str): The name of the run.
    """
    figure = Figure(figsize=(10, 4), layout='constrained')
    for position, (name, label) in enumerate((('loss', 'Loss'),
                                              ('top1', 'Top-1 accuracy')), 1):
        axes = figure.add_subplot(1, 2, position)
        for side, colour in (('train', 'tab:blue'), ('val', 'tab:orange')):
            points = [(point['epoch'], point[f'{side}_{name}']) for point in history
                      if f'{side}_{name}' in point]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker='.',
                          label={'train': 'Training', 'val': 'Validation'}[side])
        axes.set_xlabel('Epoch')
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=.3)
        if name == 'top1':
            axes.set_ylim(-.02, 1.02)
        else:
            axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend()
    figure.suptitle(title, fontsize=11)
    _save(figure, path)
