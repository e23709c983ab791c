"""Calibration: whether confidences are right, and correcting them by one temperature.

Everywhere, ``scores_NK`` are class probabilities, (N, K), and ``labels_N`` the true labels
in [0, K), (N, ), of N clips and K classes.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_json, sha256_of
from ..utils.reading import read_json

#: Temperatures that are searched. Beyond them, either all clips are right and there is
#: nothing to correct, or the scores carry no information.
BOUNDS = (0.05, 20.0)


class Calibration(msgspec.Struct):
    """The content of ``CHECKPOINT.calibration.json``.

    Attributes:
        temperature (float): Within :data:`BOUNDS`.
        checkpoint_sha256 (str): Of the checkpoint that it was fitted for.
        clips (int): How many validation clips it was fitted on.
        data (str): What they are.
        nll_before, nll_after (float): Their negative log-likelihood without and with it.
    """

    temperature: Annotated[float, msgspec.Meta(ge=BOUNDS[0], le=BOUNDS[1])]
    checkpoint_sha256: str
    clips: int = 0
    data: str = ''
    nll_before: float = 0.
    nll_after: float = 0.


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


def _log_scores(scores_NK: np.ndarray) -> np.ndarray:
    # Scores are float32: a probability below its smallest number has become 0.
    return np.log(np.maximum(normalise(scores_NK), np.finfo(np.float32).tiny))


def negative_log_likelihood(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Computes the mean negative log-likelihood in nats.

    >>> round(negative_log_likelihood(np.array([[.5, .5], [.25, .75]]), [0, 1]), 4)
    0.4904
    """
    return float(log_loss(labels_N, normalise(scores_NK), labels=range(len(scores_NK[0]))))


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
    """Computes the gap between confidence and accuracy, averaged over clips.

    0 is calibrated; 0.1 means that confidences are off by 10 points on average.

    >>> scores = np.array([[.8, .2], [.8, .2], [.3, .7], [.3, .7]])
    >>> round(expected_calibration_error(scores, np.array([0, 1, 1, 1]), bins=10), 4)
    0.3
    """
    return sum(row['clips'] * abs(row['confidence'] - row['accuracy'])
               for row in reliability_bins(scores_NK, labels_N, bins)
               if row['clips']) / len(labels_N)


def apply_temperature(scores_NK: np.ndarray, temperature: float) -> np.ndarray:
    """Softens (above 1) or sharpens (below 1) scores to float64; their order stays.

    Log-probabilities are logits up to a constant for each clip, which the softmax drops:
    this equals dividing the logits by the temperature.

    >>> apply_temperature(np.array([[.2, .8]]), 0.5).round(4).tolist()
    [[0.0588, 0.9412]]
    """
    return softmax(_log_scores(scores_NK) / temperature, axis=1)


def fit_temperature(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Finds the temperature with the lowest negative log-likelihood.

    Fit it on validation clips, never on the clips that are scored. Where the likelihood
    keeps growing, as it does if every clip is right, it is one of :data:`BOUNDS`.

    Raises:
        HRI30Error: no clips.
    """
    if not len(labels_N):
        raise HRI30Error('no clips to fit a temperature on.\nExpected labelled validation '
                         'clips.')
    logits_NK, rows_N = _log_scores(scores_NK), np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        log_NK = log_softmax(logits_NK / np.exp(log_temperature), axis=1)
        return -log_NK[rows_N, labels_N].mean()

    # Convex in 1/T, so in log T there is one minimum.
    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method='bounded',
                            options=dict(xatol=1e-7))
    return float(np.clip(np.exp(found.x), *BOUNDS))


def calibration_path(checkpoint: str | Path) -> Path:
    """Returns the path of the file beside a checkpoint that holds its temperature."""
    path = Path(checkpoint).expanduser()
    return path.with_name(f'{path.stem}.calibration.json')


def save_temperature(checkpoint: str | Path, temperature: float, clips: int, data: str,
                     nll_before: float, nll_after: float) -> Path:
    """Writes a :class:`Calibration` beside its checkpoint; returns the file.

    Raises:
        HRI30Error: the checkpoint cannot be read, or the folder cannot be written.
    """
    try:
        digest = sha256_of(Path(checkpoint).expanduser())
    except OSError as error:
        raise HRI30Error(f'{checkpoint}: cannot be read ({error.strerror}).\nExpected the '
                         'checkpoint that the temperature is for.') from error
    path = calibration_path(checkpoint)
    atomic_write_json(path, msgspec.to_builtins(Calibration(
        float(temperature), digest, int(clips), data, float(nll_before), float(nll_after))))
    return path


def load_temperature(checkpoint: str | Path) -> float | None:
    """Reads the temperature of a checkpoint, None if none was saved.

    If the checkpoint is gone, the temperature is not checked against it.

    Raises:
        HRI30Error: the file holds something else, a temperature outside :data:`BOUNDS`, or
            one that was fitted for another checkpoint of this name.
    """
    path = calibration_path(checkpoint)
    if not path.is_file():
        return None
    remedy = 'remove it, or test the validation clips again to replace it'
    content = read_json(path, f'the temperature of a checkpoint; {remedy}',
                        schema=Calibration)
    checkpoint = Path(checkpoint).expanduser()
    # NAME.pth and NAME.safetensors have the same weights.
    forms = {checkpoint, *map(checkpoint.with_suffix, ('.pth', '.safetensors'))}
    if checkpoint.is_file() and content.checkpoint_sha256 not in map(
            sha256_of, filter(Path.is_file, forms)):
        raise HRI30Error(f'{path}: was fitted for another checkpoint than the '
                         f'{checkpoint.name} beside it.\n{remedy.capitalize()}.')
    return content.temperature
