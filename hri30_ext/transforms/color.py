"""Augmentation of pixels, the same for all frames of a clip."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import HRI30Error

#: Luma of R, G and B (ITU-R BT.601), as torchvision and mmaction2 have it.
_LUMA = np.array([0.299, 0.587, 0.114])


def color_matrix(brightness: float, contrast: float, saturation: float,
                 mean_luma: float) -> np.ndarray:
    """Composes changes of brightness, contrast and saturation into one.

    Each is linear, as in torchvision: brightness scales a colour, contrast moves it away
    from the mean luma, and saturation away from its own luma. A factor of 1 changes
    nothing; the mean luma is that of the clip before the change, in [0, 255].

    Returns:
        np.ndarray: (3, 4) float64: a colour becomes ``M[:, :3] @ rgb + M[:, 3]``.
    """
    gray = np.tile(_LUMA, (3, 1))
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * gray)
    offset = (1 - contrast) * brightness * mean_luma
    # Gray has no saturation to lose: the offset is the same in all channels.
    return np.concatenate([matrix, np.full((3, 1), offset)], axis=1)


@TRANSFORMS.register_module()
class ClipColorJitter(BaseTransform):
    """Changes brightness, contrast and saturation, the same for all frames of a clip.

    Like mmaction2's ``ColorJitter`` without hue, brightness first and saturation last, but
    in one pass over uint8 pixels: the three linear changes are one matrix. Values are
    clipped to [0, 255] once. mmaction2 works on float frames, one after the other.

    Required Keys: imgs, (T, H, W, 3) uint8 RGB of one array.
    Modified Keys: imgs, in place.

    Args:
        brightness, contrast, saturation (float | tuple[float, float]): Range of the random
            factor; a number ``x`` means (1 - x, 1 + x). Defaults to 0.

    Raises:
        HRI30Error: a range below 0.
    """

    def __init__(self, brightness=0, contrast=0, saturation=0) -> None:
        self.ranges = {
            name: _range(name, value) for name, value in dict(
                brightness=brightness, contrast=contrast, saturation=saturation).items()}

    def transform(self, results: dict) -> dict:
        """Changes the colours of a clip."""
        frames_THWC = results['imgs']
        if not isinstance(frames_THWC, np.ndarray):
            frames_THWC = results['imgs'] = np.stack(frames_THWC)
        factors = {name: np.random.uniform(*limits)
                   for name, limits in self.ranges.items()}
        # A pixel in 64 is enough for the mean.
        mean_luma = frames_THWC[:, ::8, ::8].mean(axis=(0, 1, 2)) @ _LUMA
        pixels = frames_THWC.reshape(-1, *frames_THWC.shape[2:])
        cv2.transform(pixels, color_matrix(mean_luma=mean_luma, **factors), dst=pixels)
        return results


@TRANSFORMS.register_module()
class ClipRandAugment(BaseTransform):
    """RandAugment (arXiv 1909.13719) of timm, with one draw for all frames of a clip.

    Required Keys: imgs, (T, H, W, 3) uint8 RGB, or T of (H, W, 3).
    Modified Keys: imgs, (T, H, W, 3) uint8 RGB of one array.

    Args:
        policy (str): As timm reads it: ``rand-m7-n4-mstd0.5-inc1`` draws four changes of
            magnitude 7, with a deviation of 0.5, that grow with it.

    Raises:
        HRI30Error: timm is not installed, or does not know the policy.
    """

    def __init__(self, policy: str) -> None:
        try:
            from PIL import Image
            from timm.data.auto_augment import rand_augment_transform
            self._augment = rand_augment_transform(policy)
        except ModuleNotFoundError as error:
            raise HRI30Error(f'{error.name}: this package of the extra foundation is not '
                             'installed.\nRun bash tools/setup.sh, or set '
                             'rand_augment=None.') from error
        except (AssertionError, ValueError) as error:
            raise HRI30Error(f'ClipRandAugment: policy={policy!r}, expected one of timm, '
                             'such as rand-m7-n4-mstd0.5-inc1.') from error
        self._image = Image.fromarray

    def transform(self, results: dict) -> dict:
        """Changes all frames alike."""
        states = random.getstate(), np.random.get_state()
        frames = []
        for frame in results['imgs']:
            random.setstate(states[0])
            np.random.set_state(states[1])
            frames.append(np.asarray(self._augment(self._image(frame))))
        results['imgs'] = np.stack(frames)
        return results


def _range(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    low, high = (1 - value, 1 + value) if isinstance(value, int | float) else value
    if not 0 <= low <= high:
        raise HRI30Error(f'ClipColorJitter: {name}={value!r}, expected a number from 0 to '
                         '1 or two factors, such as (0.8, 1.2).')
    return low, high
