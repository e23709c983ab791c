"""Calibration: whether confidences are right, correcting them by one temperature, and
what else validation clips tell about the certainty of a model.

Everywhere, ``scores_NK`` are class probabilities, (N, K), and ``labels_N`` the true labels
in [0, K), (N, ), of N clips and K classes.
"""

import glob
from math import ceil
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ..deploy.runtime.certainty import (
    ClassSets,
    OpenSet,
    apply_temperature,
    centred_logits,
    relative_distance,
)
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_json, sha256_of
from ..utils.reading import read_json

#: Temperatures that are searched. Beyond them, either all clips are right and there is
#: nothing to correct, or the scores carry no information.
BOUNDS = (0.05, 20.0)
#: The share of clips of the classes that may be taken for unknown.
UNKNOWN_ALPHA = 0.05


class Calibration(msgspec.Struct):
    """The content of ``CHECKPOINT.calibration.json``."""

    temperature: Annotated[float, msgspec.Meta(ge=BOUNDS[0], le=BOUNDS[1])]
    checkpoint_sha256: str  # of the checkpoint that it was fitted for
    clips: int = 0  # how many validation clips it was fitted on
    data: str = ''  # what they are
    sets: ClassSets | None = None  # None: too few clips for the certainty
    open_set: OpenSet | None = None  # None: too few clips


def normalise(scores_NK: np.ndarray) -> np.ndarray:
    """Scales probabilities to the sum 1 in float64.

    Raises:
        HRI30Error: some are negative, or all of a clip are 0.
    """
    scores_NK = np.asarray(scores_NK, np.float64)
    if (scores_NK < 0).any() or (scores_NK.sum(axis=1) <= 0).any():
        raise HRI30Error('scores that are not probabilities (negative, or all 0).\n'
                         "Expected models with average_clips='prob'; test again.")
    return scores_NK / scores_NK.sum(axis=1, keepdims=True)


def negative_log_likelihood(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Computes the mean negative log-likelihood in nats.

    >>> round(negative_log_likelihood(np.array([[.5, .5], [.25, .75]]), [0, 1]), 4)
    0.4904
    """
    true_N = normalise(scores_NK)[np.arange(len(labels_N)), labels_N]
    return float(np.log(1 / np.maximum(true_N, np.finfo(np.float64).eps)).mean())


def reliability_bins(scores_NK: np.ndarray, labels_N: np.ndarray,
                     bins: int = 15) -> list[dict]:
    """Bins clips by confidence, for the reliability curve.

    Returns:
        list[dict]: For each of ``bins`` bins of equal width ``low`` and ``high``, its edges
        (the upper one belongs to it); ``confidence`` and ``accuracy``, the means of its
        clips, None without clips; ``clips``, their number.
    """
    probabilities_NK = normalise(scores_NK)
    columns = dict(confidence=probabilities_NK.max(axis=1),
                   accuracy=probabilities_NK.argmax(axis=1) == labels_N)
    edges = np.linspace(0, 1, bins + 1)
    bin_N = np.searchsorted(edges[1:-1], columns['confidence'])
    clips = np.bincount(bin_N, minlength=bins).tolist()
    return [dict(low=float(edges[i]), high=float(edges[i + 1]), clips=clips[i], **{
        name: float(values_N[bin_N == i].mean()) if clips[i] else None
        for name, values_N in columns.items()}) for i in range(bins)]


def expected_calibration_error(scores_NK: np.ndarray, labels_N: np.ndarray,
                               bins: int = 15) -> float:
    """Computes the gap between confidence and accuracy, averaged over clips: 0.1 means that
    confidences are off by 10 points on average.

    >>> scores = np.array([[.8, .2], [.8, .2], [.3, .7], [.3, .7]])
    >>> round(expected_calibration_error(scores, np.array([0, 1, 1, 1]), bins=10), 4)
    0.3
    """
    return sum(row['clips'] * abs(row['confidence'] - row['accuracy'])
               for row in reliability_bins(scores_NK, labels_N, bins)
               if row['clips']) / len(labels_N)


def fit_temperature(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Finds the temperature with the lowest negative log-likelihood.

    Fit it on validation clips, never on the clips that are scored. Where the likelihood
    keeps growing, as it does if every clip is right, it is one of :data:`BOUNDS`.
    """
    logits_NK = centred_logits(normalise(scores_NK))
    rows_N = np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        log_NK = log_softmax(logits_NK / np.exp(log_temperature), axis=1)
        return -log_NK[rows_N, labels_N].mean()

    # Convex in 1/T, so in log T there is one minimum.
    minimum = minimize_scalar(loss, bounds=np.log(BOUNDS), method='bounded',
                              options=dict(xatol=1e-7))
    return float(np.clip(np.exp(minimum.x), *BOUNDS))


def conformal_quantile(values_N: np.ndarray, alpha: float) -> float:
    """Returns the value that a further one exceeds with a probability of ``alpha`` at most:
    the ceil((n + 1) (1 - alpha))-th smallest of the n values.

    >>> conformal_quantile(np.arange(1, 20), 0.1)
    18.0

    Raises:
        HRI30Error: too few values.
    """
    rank = ceil((len(values_N) + 1) * (1 - alpha) - 1e-9)
    if rank > len(values_N):
        raise HRI30Error(
            f'{len(values_N)} validation clips: a certainty of {1 - alpha:g} needs '
            f'{ceil(1 / alpha - 1e-9) - 1} or more.\nHold more clips out, see split.')
    return float(np.sort(values_N)[rank - 1])


def fit_sets(scores_NK: np.ndarray, labels_N: np.ndarray, temperature: float,
             certainty: float) -> ClassSets:
    """Fits sets of classes that hold the true one with a certainty in (0, 1).

    Raises:
        HRI30Error: too few clips for this certainty.
    """
    probabilities_NK = apply_temperature(scores_NK, temperature)
    alpha = round(1 - certainty, 9)
    return ClassSets(conformal_quantile(
        1 - probabilities_NK[np.arange(len(labels_N)), labels_N], alpha), alpha,
        len(labels_N))


def fit_open_set(scores_NK: np.ndarray, labels_N: np.ndarray) -> OpenSet:
    """Fits what tells clips of no class, so that :data:`UNKNOWN_ALPHA` of others are lost.

    Each clip is compared with the prototypes of the other clips.

    Raises:
        HRI30Error: too few clips, or a class without two.
    """
    logits_NK, K = centred_logits(scores_NK), scores_NK.shape[1]
    clips_K = np.bincount(labels_N, minlength=K)
    if clips_K.min() < 2:
        raise HRI30Error(f'{(clips_K < 2).sum()} classes have fewer than two validation '
                         'clips.\nHold more clips out, see split.')
    sums_KK = np.zeros((K, K))
    np.add.at(sums_KK, labels_N, logits_NK)
    prototypes_KK = (sums_KK / clips_K[:, None]).round(3)
    distance_NK = relative_distance(logits_NK[:, None], prototypes_KK)
    others_NK = (sums_KK[labels_N] - logits_NK) / (clips_K[labels_N, None] - 1)
    distance_NK[np.arange(len(labels_N)), labels_N] = relative_distance(
        logits_NK, others_NK)
    return OpenSet(conformal_quantile(distance_NK.min(axis=1), UNKNOWN_ALPHA),
                   UNKNOWN_ALPHA, len(labels_N), tuple(map(tuple, prototypes_KK.tolist())))


def calibration_path(checkpoint: str | Path) -> Path:
    """Returns the path of the file beside a checkpoint that holds its temperature."""
    path = Path(checkpoint).expanduser()
    return path.with_name(f'{path.stem}.calibration.json')


def save_calibration(checkpoint: str | Path, temperature: float, clips: int, data: str,
                     sets: ClassSets | None = None, open_set: OpenSet | None = None
                     ) -> Calibration:
    """Writes a :class:`Calibration` beside its checkpoint, and returns it.

    Raises:
        HRI30Error: the folder cannot be written.
    """
    digest = sha256_of(Path(checkpoint).expanduser())
    calibration = Calibration(float(temperature), digest, clips, data, sets, open_set)
    atomic_write_json(calibration_path(checkpoint), msgspec.to_builtins(calibration))
    return calibration


def load_calibration(checkpoint: str | Path) -> Calibration | None:
    """Reads the calibration of a checkpoint, None if none was saved.

    If the checkpoint is gone, it is not checked against it. ``best.pth`` is another name
    of ``best_METRIC_epoch_N.pth`` and has its calibration if it has none of its own.

    Raises:
        HRI30Error: the file holds something else, a value out of range, or the calibration
            of another checkpoint of this name.
    """
    own = calibration_path(checkpoint)
    checkpoint = Path(checkpoint).expanduser()
    others = own.parent.glob(f'{glob.escape(checkpoint.stem)}_*.calibration.json')
    files = [own] if own.is_file() else sorted(others) if checkpoint.is_file() else []
    # NAME.pth and NAME.safetensors have the same weights.
    forms = {checkpoint, *map(checkpoint.with_suffix, ('.pth', '.safetensors'))}
    digests = {sha256_of(form) for form in forms if files and form.is_file()}
    remedy = 'remove it, or test the validation clips again to replace it'
    for path in files:
        content = read_json(path, f'the temperature of a checkpoint; {remedy}',
                            schema=Calibration)
        if not checkpoint.is_file() or content.checkpoint_sha256 in digests:
            return content
    if own in files:
        raise HRI30Error(f'{own}: was fitted for another checkpoint than the '
                         f'{checkpoint.name} beside it.\n{remedy.capitalize()}.')
    return None


def load_certainty(checkpoint: str | Path) -> dict:
    """Returns the fields of a ``ModelInfo`` that were fitted for a checkpoint."""
    calibration = load_calibration(checkpoint)
    return {name: getattr(calibration, name)
            for name in ('temperature', 'sets', 'open_set') if calibration}
