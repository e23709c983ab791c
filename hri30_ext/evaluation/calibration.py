"""Whether confidences can be believed, and mending them by one temperature.

Shapes: N clips, K classes.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_json

#: Temperatures that are looked at. Beyond them, either all clips are right and there is
#: nothing to mend, or the scores say nothing.
BOUNDS = (0.05, 20.0)

# As scikit-learn's log_loss, so that the numbers agree with metrics.json.
_EPS = np.finfo(np.float64).eps


def normalise(scores_NK: np.ndarray) -> np.ndarray:
    """Makes probabilities, (N, K), sum to 1 in float64.

    Raises:
        HRI30Error: some are negative, or all of a clip are 0: no probabilities.
    """
    scores_NK = np.asarray(scores_NK, np.float64)
    if (scores_NK < 0).any() or (scores_NK.sum(axis=1) <= 0).any():
        raise HRI30Error('scores that are not probabilities (negative, or all 0).\n'
                         "Expected models with average_clips='prob'; test again.")
    return scores_NK / scores_NK.sum(axis=1, keepdims=True)


def _log_scores(scores_NK: np.ndarray) -> np.ndarray:
    # Scores are float32: a probability below its smallest number has become 0.
    return np.log(np.maximum(normalise(scores_NK), np.finfo(np.float32).tiny))


def _log_softmax(logits_NK: np.ndarray) -> np.ndarray:
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    return shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True))


def negative_log_likelihood(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Computes the mean negative log-likelihood in nats, as ``loss`` of the metrics.

    Args:
        scores_NK (np.ndarray): Class probabilities, (N, K).
        labels_N (np.ndarray): True labels in [0, K), (N, ).

    >>> round(negative_log_likelihood(np.array([[.5, .5], [.25, .75]]), [0, 1]), 4)
    0.4904
    """
    true_N = normalise(scores_NK)[np.arange(len(labels_N)), labels_N]
    return float(-np.log(np.clip(true_N, _EPS, 1 - _EPS)).mean())


def reliability_bins(scores_NK: np.ndarray, labels_N: np.ndarray,
                     bins: int = 15) -> list[dict]:
    """Sorts clips by confidence, for the reliability curve.

    Args:
        scores_NK (np.ndarray): Class probabilities, (N, K).
        labels_N (np.ndarray): True labels in [0, K), (N, ).
        bins (int): Number of bins, all of one width.

    Returns:
        list[dict]: For each bin ``low`` and ``high``, its edges (the upper one belongs
        to it); ``confidence`` and ``accuracy``, the means of its clips, None without
        clips; ``clips``, their number.
    """
    probabilities_NK = normalise(scores_NK)
    confidence_N = probabilities_NK.max(axis=1)
    right_N = probabilities_NK.argmax(axis=1) == labels_N
    edges = np.linspace(0, 1, bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side='left') - 1, 0, bins - 1)
    table = []
    for i in range(bins):
        inside_N = bin_N == i
        clips = int(inside_N.sum())
        table.append(dict(
            low=float(edges[i]), high=float(edges[i + 1]),
            confidence=float(confidence_N[inside_N].mean()) if clips else None,
            accuracy=float(right_N[inside_N].mean()) if clips else None, clips=clips))
    return table


def expected_calibration_error(scores_NK: np.ndarray, labels_N: np.ndarray,
                               bins: int = 15) -> float:
    """Computes the gap between confidence and accuracy, averaged over clips.

    The bins are those of :func:`reliability_bins`. 0 is calibrated; 0.1 means that
    confidences are 10 points off.

    Args:
        scores_NK (np.ndarray): Class probabilities, (N, K).
        labels_N (np.ndarray): True labels in [0, K), (N, ).
        bins (int): Number of bins.

    >>> scores = np.array([[.8, .2], [.8, .2], [.3, .7], [.3, .7]])
    >>> round(expected_calibration_error(scores, np.array([0, 1, 1, 1]), bins=10), 4)
    0.3
    """
    return sum(row['clips'] * abs(row['confidence'] - row['accuracy'])
               for row in reliability_bins(scores_NK, labels_N, bins)
               if row['clips']) / len(labels_N)


def apply_temperature(scores_NK: np.ndarray, temperature: float) -> np.ndarray:
    """Softens (above 1) or sharpens (below 1) scores; their order stays.

    Log-probabilities are logits but for a constant a clip, which the softmax drops: this
    is what dividing the logits by the temperature gives.

    Args:
        scores_NK (np.ndarray): Class probabilities, (N, K).
        temperature (float): 1 changes nothing.

    Returns:
        np.ndarray: Class probabilities, float64, (N, K).

    >>> apply_temperature(np.array([[.2, .8]]), 0.5).round(4).tolist()
    [[0.0588, 0.9412]]
    """
    return np.exp(_log_softmax(_log_scores(scores_NK) / temperature))


def fit_temperature(scores_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Finds the temperature with the lowest negative log-likelihood.

    Fit it on validation clips, never on those that are scored.

    Args:
        scores_NK (np.ndarray): Class probabilities, (N, K).
        labels_N (np.ndarray): True labels in [0, K), (N, ).

    Returns:
        float: Within :data:`BOUNDS`; its end where the likelihood keeps growing, as it
        does where every clip is right.

    Raises:
        HRI30Error: no clips.
    """
    if not len(labels_N):
        raise HRI30Error('no clips to fit a temperature on.\nExpected labelled validation '
                         'clips.')
    logits_NK = _log_scores(scores_NK)
    rows_N = np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        log_NK = _log_softmax(logits_NK / np.exp(log_temperature))
        return -log_NK[rows_N, labels_N].mean()

    # Convex in 1/T, so in log T there is one minimum.
    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method='bounded',
                            options=dict(xatol=1e-7))
    return float(np.clip(np.exp(found.x), *BOUNDS))


def calibration_path(checkpoint: str | Path) -> Path:
    """Names the file that keeps a checkpoint's temperature, beside it."""
    path = Path(checkpoint).expanduser()
    return path.with_name(f'{path.stem}.calibration.json')


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_temperature(checkpoint: str | Path, temperature: float, clips: int, data: str,
                     nll_before: float, nll_after: float) -> Path:
    """Keeps a temperature beside the checkpoint that it is for.

    Args:
        checkpoint (str | Path): The ``.pth`` file.
        temperature (float): Of :func:`fit_temperature`.
        clips (int): How many it was fitted on.
        data (str): What they are.
        nll_before (float): Their negative log-likelihood without it.
        nll_after (float): And with it.

    Returns:
        Path: ``<checkpoint stem>.calibration.json``.

    Raises:
        HRI30Error: the checkpoint cannot be read, or the folder not written.
    """
    try:
        digest = _digest(Path(checkpoint).expanduser())
    except OSError as error:
        raise HRI30Error(f'{checkpoint}: cannot be read ({error.strerror}).\nExpected the '
                         'checkpoint that the temperature is for.') from error
    path = calibration_path(checkpoint)
    content = dict(temperature=float(temperature), clips=int(clips), data=data,
                   nll_before=float(nll_before), nll_after=float(nll_after),
                   checkpoint_sha256=digest)
    atomic_write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')
    return path


def load_temperature(checkpoint: str | Path) -> float | None:
    """Reads the temperature of a checkpoint.

    Args:
        checkpoint (str | Path): The ``.pth`` file. Where it is no longer there, the
            temperature is taken as it is.

    Returns:
        float | None: None where none was kept.

    Raises:
        HRI30Error: the file is another one, its temperature is out of :data:`BOUNDS`, or
            it was fitted for another checkpoint of this name.
    """
    path = calibration_path(checkpoint)
    if not path.is_file():
        return None
    content = read_json(path, 'the temperature of a checkpoint; remove it, or test the '
                        'validation clips again to write it anew')
    try:
        temperature = content['temperature']
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ValueError(f'temperature {temperature!r}')
        # Not true of NaN either.
        if not BOUNDS[0] <= temperature <= BOUNDS[1]:
            raise ValueError(f'temperature {temperature}, expected {BOUNDS[0]:g} to '
                             f'{BOUNDS[1]:g}')
        digest = content['checkpoint_sha256']
    except (ValueError, KeyError, OverflowError) as error:
        reason = f'no {error}' if isinstance(error, KeyError) else error
        raise HRI30Error(f'{path}: not the temperature of a checkpoint ({reason}).\nRemove '
                         'it, or test the validation clips again to write it anew.'
                         ) from error
    checkpoint = Path(checkpoint).expanduser()
    if checkpoint.is_file() and _digest(checkpoint) != digest:
        raise HRI30Error(f'{path}: was fitted for another checkpoint than the '
                         f'{checkpoint.name} beside it.\nRemove it, or test the validation '
                         'clips again to write it anew.')
    return float(temperature)
