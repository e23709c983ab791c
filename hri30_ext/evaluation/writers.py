"""The files of a result folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ..datasets.annotation import Annotation, write_annotations
from ..utils.fileio import atomic_write_text
from ..utils.text import format_csv
from .plots import plot_confusion_matrix
from .results import SCORES, Results

#: What is handed in, and what only labelled clips have.
SUBMISSION = 'test_set_labels.csv'
_OF_LABELLED = ('metrics.json', 'per_class.csv', 'confusion_matrix.png', 'analysis.json')

#: In the place of a class in ``predictions.csv``: the clip could not be read.
FAILED = 'FAILED'


def write_results(out_dir: str | Path, results: Results, metrics: dict,
                  submission: bool = False, failed_class: str | None = None) -> None:
    """Writes everything that a result folder holds, and removes what it no longer holds.

    Args:
        out_dir (str | Path): The folder, created where needed.
        results (Results): Of the split.
        metrics (dict): Of :meth:`HRI30Metric.score`.
        submission (bool): Whether to write ``test_set_labels.csv``.
        failed_class (str, optional): Its class for clips that could not be read. Without
            it, it is not written where there are any: only whole ones are handed in.
    """
    out_dir = Path(out_dir)
    atomic_write_text(out_dir / 'predictions.csv', format_predictions(
        results.videos, results.scores_NK, results.classes, results.failed))
    results.save(out_dir / SCORES)
    if submission and (failed_class or not results.failed):
        _write_submission(out_dir / SUBMISSION, results, failed_class)
    elif submission:
        (out_dir / SUBMISSION).unlink(missing_ok=True)
    if results.labels_N is None:
        for name in _OF_LABELLED:
            (out_dir / name).unlink(missing_ok=True)
        return
    atomic_write_text(out_dir / 'metrics.json', json.dumps(metrics, indent=2) + '\n')
    atomic_write_text(out_dir / 'per_class.csv', format_per_class(
        results.predicted_N, results.labels_N, results.classes))
    matrix_KK = confusion_matrix(results.labels_N, results.predicted_N,
                                 labels=range(len(results.classes)))
    title = (f'{results.data}: top-1 {metrics["top1"]:.3f} of {metrics["num_videos"]} clips'
             .lstrip(': '))
    plot_confusion_matrix(out_dir / 'confusion_matrix.png', matrix_KK, results.classes,
                          title)


def _write_submission(path: Path, results: Results, failed_class: str | None) -> None:
    labels = dict(zip(results.videos, results.predicted_N.tolist(), strict=True))
    for video in results.failed:
        labels[video] = results.classes.index(failed_class)
    write_annotations(path, [
        Annotation(video, results.classes[labels[video]], labels[video] + 1)
        for video in sorted(labels)])


def format_predictions(videos: Sequence[str], scores_NK: np.ndarray,
                       classes: Sequence[str],
                       failed: Mapping[str, str] | None = None) -> str:
    """Formats ``predictions.csv``: a row a clip.

    ``Predicted_Class`` is the name and ``Predicted_Label`` the 1-based id;
    confidences have four decimals. A clip that could not be read has the class
    :data:`FAILED`, id and confidence 0, and the reason in ``Top_5``.
    """
    rows = []
    for video, scores_K in zip(videos, scores_NK, strict=True):
        top = np.argsort(-scores_K, kind='stable')[:5]
        rows.append((video, classes[top[0]], top[0] + 1, f'{scores_K[top[0]]:.4f}',
                     '; '.join(f'{classes[k]}({scores_K[k]:.4f})' for k in top)))
    if failed:
        rows += [(video, FAILED, 0, f'{0:.4f}', reason) for video, reason in failed.items()]
        rows.sort(key=lambda row: row[0])
    return format_csv(('Video', 'Predicted_Class', 'Predicted_Label', 'Confidence',
                        'Top_5'), rows)


def format_per_class(predicted_N: np.ndarray, labels_N: np.ndarray,
                     classes: Sequence[str]) -> str:
    """Formats ``per_class.csv``: precision, recall, F1 and number of clips."""
    columns = precision_recall_fscore_support(
        labels_N, predicted_N, labels=range(len(classes)), zero_division=0)
    rows = [(k + 1, name, f'{precision:.4f}', f'{recall:.4f}', f'{f1:.4f}', support)
            for k, (name, precision, recall, f1, support)
            in enumerate(zip(classes, *columns, strict=True))]
    return format_csv(('Class_ID', 'Class', 'Precision', 'Recall', 'F1', 'Clips'), rows)
