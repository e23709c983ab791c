"""The files of a result folder."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..datasets.annotation import Annotation, write_annotations
from ..utils.curves import save_figure
from ..utils.fileio import atomic_write_json, atomic_write_text
from ..utils.text import format_csv
from .analysis import ANALYSIS
from .metrics import ClassScores, HRI30Metric
from .results import SCORES, Results

SUBMISSION = 'test_set_labels.csv'
#: In the place of a class name in ``predictions.csv``: the clip could not be read.
FAILED = 'FAILED'


def write_results(out_dir: str | Path, results: Results, analysis: dict | None = None,
                  submission: bool = False, failed_class: str | None = None) -> dict:
    """Writes a result folder except for its report, and removes files of earlier results.

    Args:
        out_dir (str | Path): The folder, created if needed.
        results (Results): Of the split.
        analysis (dict, optional): Of :func:`~hri30_ext.evaluation.analysis.analyze`, for
            ``analysis.json``.
        submission (bool): Whether to write ``test_set_labels.csv``.
        failed_class (str, optional): Its class for clips that could not be read. Without
            it, no submission is written if there are such clips: it would be incomplete.

    Returns:
        dict: The metrics, see :meth:`HRI30Metric.score`.
    """
    out_dir = Path(out_dir)
    metrics = HRI30Metric.score(results)
    for name in ('report.html', 'metrics.json', 'per_class.csv', 'confusion_matrix.png',
                 ANALYSIS, *([SUBMISSION] if submission else [])):
        (out_dir / name).unlink(missing_ok=True)
    atomic_write_text(out_dir / 'predictions.csv', format_predictions(
        results.videos, results.scores_NK, results.classes, results.failed))
    results.save(out_dir / SCORES)
    if submission and (failed_class or not results.failed):
        _write_submission(out_dir / SUBMISSION, results, failed_class)
    if results.labels_N is None:
        return metrics
    scores = ClassScores.of(results)
    atomic_write_json(out_dir / 'metrics.json', metrics)
    atomic_write_text(out_dir / 'per_class.csv', format_per_class(scores, results.classes))
    title = (f'{results.data}: top-1 {metrics["top1"]:.3f} of {metrics["num_videos"]} clips'
             .lstrip(': '))
    _plot_confusion_matrix(out_dir / 'confusion_matrix.png', scores.matrix_KK,
                           results.classes, title)
    if analysis:
        atomic_write_json(out_dir / ANALYSIS, analysis)
    return metrics


def write_analysis(folder: str | Path, name: str, content: dict,
                   plot: Callable[[dict, Axes], None]) -> None:
    """Writes what an analysis of a checkpoint measured, NAME.json, and its chart, NAME.png.

    Args:
        content (dict): Plain values, ``checkpoint``, ``data`` and ``clips`` among them.
        plot (Callable): Draws the content.
    """
    atomic_write_json(Path(folder) / f'{name}.json', content)
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.add_subplot()
    plot(content, axes)
    axes.set_title('{checkpoint}: {data} ({clips} clips)'.format(**content), fontsize=9)
    save_figure(figure, Path(folder) / f'{name}.png')


def _write_submission(path: Path, results: Results, failed_class: str | None) -> None:
    labels = dict(zip(results.videos, results.predicted_N.tolist(), strict=True))
    labels |= {video: results.classes.index(failed_class) for video in results.failed}
    write_annotations(path, sorted(
        Annotation(results.video_id(video), results.classes[label], label + 1)
        for video, label in labels.items()))


def format_predictions(videos: Sequence[str], scores_NK: np.ndarray,
                       classes: Sequence[str],
                       failed: Mapping[str, str] | None = None,
                       more: Mapping[str, Sequence[str]] | None = None) -> str:
    """Formats ``predictions.csv``: a row a clip.

    ``Video`` is the file's name with its ending, ``Predicted_Class`` the 1-based id,
    ``Predicted_Label`` the name; confidences have four decimals. A clip that could not be
    read has no id, the name :data:`FAILED`, confidence 0, and the reason in ``Top_5``.
    ``more`` has the cells of further columns, by their names.
    """
    rows, more = [], more or {}
    for video, scores_K, *cells in zip(videos, scores_NK, *more.values(), strict=True):
        top = np.argsort(-scores_K, kind='stable')[:5]
        rows.append((video, top[0] + 1, classes[top[0]], f'{scores_K[top[0]]:.4f}',
                     '; '.join(f'{classes[k]}({scores_K[k]:.4f})' for k in top), *cells))
    rows += [(video, '', FAILED, '0.0000', reason, *[''] * len(more))
             for video, reason in (failed or {}).items()]
    return format_csv(('Video', 'Predicted_Class', 'Predicted_Label', 'Confidence',
                        'Top_5', *more), sorted(rows, key=itemgetter(0)))


def format_per_class(scores: ClassScores, classes: Sequence[str]) -> str:
    """Formats ``per_class.csv``: precision, recall, F1 and number of clips."""
    rows = [(k, name, *(f'{value:.4f}' for value in values), clips)
            for k, (name, *values, clips) in enumerate(
                zip(classes, *scores[:4], strict=True), 1)]
    return format_csv(('Class_ID', 'Class', 'Precision', 'Recall', 'F1', 'Clips'), rows)


def _plot_confusion_matrix(path: Path, matrix_KK: np.ndarray, classes: Sequence[str],
                           title: str) -> None:
    """Draws counts, with true classes in rows, into a PNG file: colour is the share of a
    true class, text the count."""
    side = min(max(5.0, 0.36 * len(classes) + 4.2), 60)  # inches: 400 classes fit
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.add_subplot()
    shares_KK = matrix_KK / np.maximum(matrix_KK.sum(axis=1, keepdims=True), 1)
    image = axes.pcolormesh(shares_KK, cmap='Blues', vmin=0, vmax=1, edgecolors='0.9',
                            linewidth=.6)
    for row, column in np.argwhere(matrix_KK):
        axes.text(column + .5, row + .5, int(matrix_KK[row, column]), ha='center',
                  va='center', fontsize=8,
                  color='white' if shares_KK[row, column] > .5 else 'black')
    names = [f'{k} {name}' for k, name in enumerate(classes, 1)]
    middles = np.arange(len(classes)) + .5
    axes.set_xticks(middles, names, rotation=90, fontsize=8)
    axes.set_yticks(middles, names, fontsize=8)
    axes.set(xlabel='Predicted class', ylabel='True class', aspect='equal')
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, shrink=.5, label='Share of the true class')
    save_figure(figure, path)
