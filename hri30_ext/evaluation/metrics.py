"""Metrics of a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
)

from ..errors import HRI30Error, first_cases
from .calibration import negative_log_likelihood
from .results import Results


@METRICS.register_module()
class HRI30Metric(BaseMetric):
    """Scores a split.

    Clips that could not be read have no score: the figures are over the others.

    Args:
        allow_failed (bool): Whether a split without any readable clip has empty metrics
            instead of being an error.

    Attributes:
        scored (Results): The results of the last evaluation, in the main process.

    Raises:
        HRI30Error: no clip could be read.
    """

    default_prefix = None

    def __init__(self, allow_failed: bool = False, collect_device: str = 'gpu') -> None:
        # mmengine's 'cpu' goes through files in a folder that all processes must share; its
        # 'gpu' through the network, for gloo as well.
        super().__init__(collect_device=collect_device)
        self.allow_failed = allow_failed
        self.scored: Results | None = None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Collects names, scores (K, ), labels and groups of a batch."""
        for sample in data_samples:
            label = sample.get('gt_label')
            filename = sample.get('filename', '')
            self.results.append(dict(
                video=sample['video_id'] + Path(filename).suffix,
                scores=sample['pred_score'].float().cpu().numpy(),
                label=-1 if label is None else int(label),
                group=int(sample.get('group', -1)),
                filename=filename, failed=sample.get('failed')))

    def compute_metrics(self, results: list[dict]) -> dict:
        """Scores the clips that could be read; see :meth:`score`."""
        failed = {one['video']: one['failed'] for one in results if one['failed']}
        scored = [one for one in results if not one['failed']]
        if not scored and not self.allow_failed:
            raise HRI30Error(
                f'none of the {len(failed)} clips could be read:\n'
                + first_cases(f'{video}: {reason}' for video, reason in failed.items())
                + '\nExpected clips to validate with; replace them, or choose others with '
                'split.')

        classes = self.dataset_meta['classes']
        videos, scores, labels, groups, filenames = (
            [one[name] for one in scored]
            for name in ('video', 'scores', 'label', 'group', 'filename'))
        self.scored = Results(
            videos, np.reshape(scores, (len(scored), len(classes))), classes,
            labels if labels and min(labels) >= 0 else None, groups, filenames,
            failed=failed)
        return self.score(self.scored)

    @classmethod
    def score(cls, results: Results) -> dict:
        """Computes what :meth:`calculate` returns, or ``num_videos`` alone where labels are
        not known; and ``num_failed``, if some clips could not be read."""
        metrics = (dict(num_videos=len(results.videos)) if results.labels_N is None
                   else cls.calculate(results.scores_NK, results.labels_N))
        if results.failed:
            metrics['num_failed'] = len(results.failed)
        return metrics

    @staticmethod
    def calculate(scores_NK: np.ndarray, labels_N: np.ndarray) -> dict:
        """Computes the metrics of class probabilities, (N, K), and labels in [0, K), (N, ).

        Returns:
            dict: ``top1``, ``top5`` (over all classes where K < 5),
            ``mean_class`` (mean recall of the classes that occur),
            ``macro_precision``, ``macro_recall``, ``macro_f1`` (over classes
            that occur or are predicted; 0 where undefined), all in [0, 1];
            ``loss``, the mean negative log-likelihood in nats; ``num_videos``.

        >>> scores = np.array([[.7, .2, .1], [.6, .3, .1], [.1, .1, .8]])
        >>> metrics = HRI30Metric.calculate(scores, np.array([0, 1, 2]))
        >>> round(metrics['top1'], 4), round(metrics['loss'], 4)
        (0.6667, 0.5946)
        """
        # Of equal scores the first class is the prediction, as in predictions.csv: logits
        # in bf16 are often equal.
        best_NK = np.argsort(-scores_NK, axis=1, kind='stable')[:, :5]
        hits_NK, predicted_N = best_NK == labels_N[:, None], best_NK[:, 0]
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels_N, predicted_N, average='macro', zero_division=0)
        mean_class = recall_score(labels_N, predicted_N, labels=np.unique(labels_N),
                                  average='macro')
        return dict(
            top1=float(hits_NK[:, 0].mean()), top5=float(hits_NK.any(axis=1).mean()),
            mean_class=float(mean_class),
            macro_precision=float(precision), macro_recall=float(recall),
            macro_f1=float(f1), loss=negative_log_likelihood(scores_NK, labels_N),
            num_videos=len(labels_N))


class ClassScores(NamedTuple):
    """Precision, recall and F1 of each class, in [0, 1], 0 where undefined; its clips; and
    the confusion matrix, counts with true classes in rows."""

    precision_K: np.ndarray
    recall_K: np.ndarray
    f1_K: np.ndarray
    clips_K: np.ndarray
    matrix_KK: np.ndarray

    @classmethod
    def of(cls, results: Results) -> 'ClassScores':
        """Computes the figures of labelled results."""
        pair, labels = (results.labels_N, results.predicted_N), range(len(results.classes))
        return cls(*precision_recall_fscore_support(*pair, labels=labels, zero_division=0),
                   confusion_matrix(*pair, labels=labels))
