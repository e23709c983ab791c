"""What a model can say about its own certainty, in numpy alone.

Shapes: N clips, K classes. Scores are class probabilities without the temperature.
"""

from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

_Alpha = Annotated[float, Meta(gt=0, lt=1)]


class ClassSets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Split conformal sets: of the classes whose calibrated probability is at least 1 -
    threshold.

    They hold the true class with a probability of 1 - ``alpha`` or more, for clips that are
    exchangeable with the ``clips`` validation clips. A set may be empty.
    """
    threshold: Annotated[float, Meta(ge=0, le=1)]
    alpha: _Alpha
    clips: int

    def members(self, probabilities_xK: np.ndarray) -> np.ndarray:
        """Returns which classes are in the sets, booleans (..., K)."""
        return 1 - probabilities_xK <= self.threshold


class OpenSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Tells clips of no class by their distance to the nearest prototype of a class: the
    mean of the :func:`centred_logits` of its validation clips.

    It is large for scores that are spread over classes, and for scores much sharper than
    those of clips: a maximum near 1 proves nothing.
    """
    threshold: Annotated[float, Meta(ge=0)]
    alpha: _Alpha  # share of the clips of known classes that may be beyond it
    clips: int
    prototypes: tuple[tuple[float, ...], ...]  # K x K

    @cached_property
    def _prototypes_KK(self) -> np.ndarray:
        return np.array(self.prototypes)

    def distances(self, scores_NK: np.ndarray) -> np.ndarray:
        """Returns the distance of each clip to the nearest prototype, (N, )."""
        logits_N1K = centred_logits(scores_NK)[:, None]
        return relative_distance(logits_N1K, self._prototypes_KK).min(axis=1)


def centred_logits(scores_xK: np.ndarray) -> np.ndarray:
    """Returns the logits behind scores, (..., K), shifted to a mean of 0."""
    # Scores are float32: a probability below its smallest number has become 0.
    logs_xK = np.log(np.maximum(scores_xK, np.finfo(np.float32).tiny, dtype=np.float64))
    return logs_xK - logs_xK.mean(axis=-1, keepdims=True)


def relative_distance(a_xK: np.ndarray, b_xK: np.ndarray) -> np.ndarray:
    """Computes |a - b|^2 / (|a| |b|): it grows with the angle and the ratio of lengths.

    >>> round(float(relative_distance(np.array([3., 4.]), np.array([6., 8.]))), 4)
    0.5
    """
    a_x, b_x = (np.maximum(np.linalg.norm(one, axis=-1), 1e-9) for one in (a_xK, b_xK))
    return a_x / b_x + b_x / a_x - 2 * np.einsum('...k,...k->...', a_xK, b_xK) / (a_x * b_x)


def apply_temperature(scores_xK: np.ndarray, temperature: float | None) -> np.ndarray:
    """Softens (above 1) or sharpens (below 1) scores, as dividing the logits does.

    >>> apply_temperature(np.array([.2, .8]), 0.5).round(4).tolist()
    [0.0588, 0.9412]
    """
    logits_xK = centred_logits(scores_xK) / (temperature or 1)
    scaled_xK = np.exp(logits_xK - logits_xK.max(axis=-1, keepdims=True))
    return scaled_xK / scaled_xK.sum(axis=-1, keepdims=True)


def judge(info, scores_K: np.ndarray) -> dict:
    """Returns ``set``, ``certainty`` and ``unknown`` of a
    :class:`~hri30_ext.deploy.runtime.recognizer.Prediction`, None where nothing was fitted.
    """
    judgement = dict(set=None, certainty=None, unknown=is_unknown(info, scores_K))
    if info.sets:
        probabilities_K = apply_temperature(scores_K, info.temperature)
        members_K = info.sets.members(probabilities_K)
        judgement |= dict(certainty=round(1 - info.sets.alpha, 6), set=tuple(
            info.classes[k] for k in np.argsort(-probabilities_K, kind='stable')
            if members_K[k]))
    return judgement


def is_unknown(info, scores_K: np.ndarray) -> bool | None:
    """Returns whether scores, (K, ), seem to be of no class."""
    if info.open_set is None:
        return None
    return bool(info.open_set.distances(scores_K[None])[0] > info.open_set.threshold)
