"""Pictures of results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..utils.curves import save_figure


def plot_confusion_matrix(path: str | Path, matrix_KK: np.ndarray,
                          classes: Sequence[str], title: str = '') -> None:
    """Draws counts, with true classes in rows, into a PNG file: colour is the share of a
    true class, text the count."""
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
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(num_classes + 1) - .5, minor=True)
    axes.grid(which='minor', color='0.9', linewidth=.6)
    axes.tick_params(which='minor', length=0)
    axes.set(xlabel='Predicted class', ylabel='True class')
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, shrink=.5, label='Share of the true class')
    save_figure(figure, path)
