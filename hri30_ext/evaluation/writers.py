"""The files of a result folder."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ..datasets.annotation import Annotation, write_annotations
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from .plots import is_learning_rate, plot_confusion_matrix
from .results import SCORES, Results


def write_results(out_dir: str | Path, results: Results, metrics: dict,
                  submission: bool = False) -> None:
    """Writes everything that a result folder holds.

    Args:
        out_dir (str | Path): The folder, created where needed.
        results (Results): Of the split.
        metrics (dict): Of :meth:`HRI30Metric.calculate`; for labelled clips.
        submission (bool): Whether to write ``test_set_labels.csv``.
    """
    out_dir = Path(out_dir)
    atomic_write_text(out_dir / 'predictions.csv', format_predictions(
        results.videos, results.scores_NK, results.classes))
    results.save(out_dir / SCORES)
    if submission:
        write_annotations(
            out_dir / 'test_set_labels.csv',
            [Annotation(video, results.classes[label], int(label) + 1)
             for video, label in zip(results.videos, results.predicted_N, strict=True)])
    if results.labels_N is None:
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


def format_csv(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Formats a table with a header, LF at the end of each line."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def format_predictions(videos: Sequence[str], scores_NK: np.ndarray,
                       classes: Sequence[str]) -> str:
    """Formats ``predictions.csv``.

    ``Predicted_Class`` is the name and ``Predicted_Label`` the 1-based id;
    confidences have four decimals.
    """
    rows = []
    for video, scores_K in zip(videos, scores_NK, strict=True):
        top = np.argsort(-scores_K, kind='stable')[:5]
        rows.append((video, classes[top[0]], top[0] + 1, f'{scores_K[top[0]]:.4f}',
                     '; '.join(f'{classes[k]}({scores_K[k]:.4f})' for k in top)))
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


CURVES = ('epoch', 'minutes', 'train_loss', 'val_loss', 'train_top1', 'val_top1')


def write_curves(path: str | Path, history: Sequence[dict]) -> None:
    """Writes ``training_curves.csv``: a row an epoch, values that are absent empty.

    Columns: :data:`CURVES`, then learning rates, ``lr`` or one ``NAME_lr`` a group.
    """
    rates = dict.fromkeys(name for point in history for name in point
                          if is_learning_rate(name))
    columns = (*CURVES, *rates)
    atomic_write_text(path, format_csv(columns, [
        [point.get(name, '') for name in columns] for point in history]))


def read_curves(path: str | Path) -> list[dict]:
    """Reads what :func:`write_curves` wrote.

    Raises:
        HRI30Error: no such file, or another one.
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            return [{name: int(value) if name == 'epoch' else float(value)
                     for name, value in row.items() if value}
                    for row in csv.DictReader(file)]
    except OSError as error:
        raise HRI30Error(f'{path}: cannot be read ({error.strerror}).\nExpected the '
                         'training_curves.csv of a work folder.') from error
    except (ValueError, AttributeError, TypeError) as error:
        raise HRI30Error(f'{path}: not a table of curves ({error}).\nExpected the '
                         'training_curves.csv that tools/train.sh writes.') from error
