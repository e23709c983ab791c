"""How well clips of other actions are told from clips of the classes."""

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from ..errors import HRI30Error
from .calibration import calibration_path, load_calibration
from .results import Results


def measure_unknown(checkpoint: str, known: str, unknown: str) -> str:
    """Describes AUROC and FPR at 95 % TPR of two scores, and the calibration's threshold,
    for a checkpoint and two result folders: of clips of its classes and of others.

    Raises:
        HRI30Error: no calibration, results that cannot be read, or other classes.
    """
    calibration = load_calibration(checkpoint)
    if calibration is None or calibration.open_set is None:
        raise HRI30Error(f'{calibration_path(checkpoint)}: missing, or without a threshold '
                         'for unknown actions.\nTest the validation clips, 19 or more and '
                         'two of each class: bash tools/test.sh CONFIG CHECKPOINT')
    both, open_set = [Results.load(known), Results.load(unknown)], calibration.open_set
    for one in both:
        if not one.videos or len(one.classes) != len(open_set.prototypes):
            raise HRI30Error(f'{one.source}: {len(one.videos)} clips, {len(one.classes)} '
                             f'classes.\nExpected clips, and {len(open_set.prototypes)} '
                             f'classes as {checkpoint} has.')
    is_known_N = np.repeat([True, False], [len(one.videos) for one in both])
    scores_NK = np.concatenate([one.scores_NK for one in both])
    distance_N = open_set.distances(scores_NK)
    text = (f'{is_known_N.sum()} clips of the classes, {(~is_known_N).sum()} of others\n'
            f'{"score":12}   AUROC  FPR at 95 % TPR')
    for name, score_N in (('prototypes', -distance_N),
                          ('max-softmax', scores_NK.max(axis=1))):
        fpr, tpr, _ = roc_curve(is_known_N, score_N, drop_intermediate=False)
        text += (f'\n{name:12}  {roc_auc_score(is_known_N, score_N):.4f}  '
                 f'{fpr[np.argmax(tpr >= .95)]:.4f}')
    passes_N = distance_N <= open_set.threshold
    kept, passed = passes_N[is_known_N].mean(), passes_N[~is_known_N].mean()
    return text + (f'\nWith the threshold of the calibration, {kept:.4f} of the first and '
                   f'{passed:.4f} of the others pass.')
