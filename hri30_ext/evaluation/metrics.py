"""Metrics of a split."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmaction.evaluation import top_k_accuracy
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from sklearn.metrics import (
    balanced_accuracy_score,
    log_loss,
    precision_recall_fscore_support,
)

from ..errors import HRI30Error, first_cases
from .results import Results
from .writers import write_results


@METRICS.register_module()
class HRI30Metric(BaseMetric):
    """Scores a split and, where asked to, writes its result folder.

    Args:
        out_dir (str, optional): Folder of the results; None writes nothing.
        submission (bool): Whether to write ``test_set_labels.csv``.
        data (str): What the clips are, for titles: a score without its data
            means nothing.
        failed_class (str, optional): What the submission says of clips that could not be
            read; without it, there is no submission where there are such clips.

    Raises:
        HRI30Error: no clip could be read, and no result folder is asked for that would
            say so.
    """

    default_prefix = None

    def __init__(self, out_dir: str | None = None, submission: bool = False,
                 data: str = '', failed_class: str | None = None,
                 collect_device: str = 'gpu') -> None:
        # mmengine's 'cpu' goes through files in a folder that all processes must share; its
        # 'gpu' through the network, for gloo as well.
        super().__init__(collect_device=collect_device)
        self.out_dir = out_dir
        self.submission = submission
        self.data = data
        self.failed_class = failed_class

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Collects names, scores (K, ), labels and groups of a batch.

        What a model says of a clip that could not be read, and came blank, is no score.
        """
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
        """Scores what is labelled, and writes."""
        failed = {one['video']: one['failed'] for one in results if one['failed']}
        scored = [one for one in results if not one['failed']]
        if not scored and not self.out_dir:
            raise HRI30Error(
                f'none of the {len(failed)} clips could be read:\n'
                + first_cases(f'{video}: {reason}' for video, reason in failed.items())
                + '\nExpected clips to validate with; replace them, or choose others with '
                'split.')

        def column(name):
            return [one[name] for one in scored]

        labels, classes = column('label'), self.dataset_meta['classes']
        results = Results(
            column('video'), np.reshape(column('scores'), (len(scored), len(classes))),
            classes, labels if labels and min(labels) >= 0 else None, column('group'),
            column('filename'), self.data, failed)
        metrics = self.score(results)
        if self.out_dir:
            write_results(self.out_dir, results, metrics, submission=self.submission,
                          failed_class=self.failed_class)
        return metrics

    @classmethod
    def score(cls, results: Results) -> dict:
        """Computes the metrics of results, over the clips that have scores.

        Returns:
            dict: What :meth:`calculate` returns; ``num_videos`` alone where labels are not
            known. Where clips could not be read, their number, ``num_failed``.
        """
        metrics = (dict(num_videos=len(results.videos)) if results.labels_N is None
                   else cls.calculate(results.scores_NK, results.labels_N))
        if results.failed:
            metrics['num_failed'] = len(results.failed)
        return metrics

    @staticmethod
    def calculate(scores_NK: np.ndarray, labels_N: np.ndarray) -> dict:
        """Computes the metrics of a split.

        Args:
            scores_NK (np.ndarray): Class probabilities, shape (N, K).
            labels_N (np.ndarray): True labels in [0, K), shape (N, ).

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
        num_classes = scores_NK.shape[1]
        top1, top5 = top_k_accuracy(scores_NK, labels_N, (1, min(5, num_classes)))
        predicted_N = scores_NK.argmax(axis=1)
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels_N, predicted_N, average='macro', zero_division=0)
        with warnings.catch_warnings():
            # Fewer predicted than true classes is what early epochs look like.
            warnings.simplefilter('ignore', UserWarning)
            mean_class = balanced_accuracy_score(labels_N, predicted_N)
        probabilities_NK = scores_NK.astype(np.float64)
        probabilities_NK /= probabilities_NK.sum(axis=1, keepdims=True)
        loss = log_loss(labels_N, probabilities_NK, labels=np.arange(num_classes))
        return dict(
            top1=float(top1), top5=float(top5), mean_class=float(mean_class),
            macro_precision=float(precision), macro_recall=float(recall),
            macro_f1=float(f1), loss=float(loss), num_videos=len(labels_N))
