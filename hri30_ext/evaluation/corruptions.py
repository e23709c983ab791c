"""What a camera may do to a clip, in three strengths each.

Each corruption is a pure function of frames, (T, H, W, 3) uint8 RGB, a strength and a seed,
and returns new frames; only :func:`change_rate` changes their number. Lengths in pixels are
those of a frame of 480 lines, and scale with the height.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes

from ..utils.text import format_table
from ..video.jpeg import decode_jpeg, encode_jpeg
from ..video.preprocessing import FRAME_RATE

#: The row of clips that are not changed.
CLEAN = 'clean'


def add_noise(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Adds Gaussian noise to each value; ``strength`` is its standard deviation, of 255."""
    rng, noisy = np.random.default_rng(seed), np.empty_like(frames)
    for i, frame in enumerate(frames):
        noise = rng.standard_normal(frame.shape, np.float32)
        noisy[i] = np.clip(np.rint(frame + strength * noise), 0, 255)
    return noisy


def blur(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Blurs as a lens out of focus does; ``strength`` is the sigma in pixels."""
    sigma = strength * frames.shape[1] / 480
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def darken(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Halves the light ``strength`` times (stops), at gamma 2.2; adds no noise."""
    table = np.rint(np.arange(256) * 2 ** (-strength / 2.2)).astype(np.uint8)
    return table[frames]


def compress(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Encodes each frame as a JPEG; ``strength`` is the quality, 1 (worst) to 100."""
    return np.stack([decode_jpeg(encode_jpeg(frame, int(strength))) for frame in frames])


def drop_frames(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Loses frames; the last one that came stands for them. The first is never lost.

    ``strength`` is the probability that a frame is lost, in [0, 1].
    """
    lost = np.random.default_rng(seed).random(len(frames)) < strength
    lost[0] = False
    return frames[np.maximum.accumulate(np.where(lost, 0, np.arange(len(frames))))]


def shake(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Shifts each frame by whole pixels, and repeats the edge.

    ``strength`` is the standard deviation along each axis, in pixels.
    """
    scale = strength * frames.shape[1] / 480
    offsets = np.rint(np.random.default_rng(seed).normal(0, scale, (len(frames), 2)))
    size = frames.shape[2], frames.shape[1]
    return np.stack([
        cv2.warpAffine(frame, np.float64([[1, 0, x], [0, 1, y]]), size,
                       flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        for frame, (x, y) in zip(frames, offsets, strict=True)])


def change_rate(frames: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Converts frames at 30 a second to ``strength`` a second.

    A frame between two others is their mean, weighted by the distance in time.
    """
    times = np.arange(0, len(frames) - .5, FRAME_RATE / strength)  # in frames
    before = np.minimum(times.astype(int), len(frames) - 1)
    after = np.minimum(before + 1, len(frames) - 1)
    return np.stack([cv2.addWeighted(frames[a], 1 - share, frames[b], share, 0)
                     for a, b, share in zip(before, after, times - before, strict=True)])


class Corruption(NamedTuple):
    """A function of this file, its strengths from weak to strong, and their unit."""
    apply: Callable[[np.ndarray, float, int], np.ndarray]
    strengths: Sequence[float]
    unit: str


CORRUPTIONS = {
    'noise': Corruption(add_noise, (10, 20, 40), 'of 255'),
    'blur': Corruption(blur, (2, 4, 8), 'px'),
    'low light': Corruption(darken, (2, 4, 6), 'stops'),
    'JPEG': Corruption(compress, (40, 20, 5), 'quality'),
    'frame drops': Corruption(drop_frames, (.1, .3, .6), 'of frames'),
    'frame rate': Corruption(change_rate, (15, 60), 'fps'),
    'shaken camera': Corruption(shake, (4, 8, 16), 'px'),
}


def format_robustness(measured: dict) -> str:
    """Formats what :func:`~hri30_ext.apis.degrading.measure_robustness` returns."""
    rows = measured['rows']
    return format_table([('corruption', 'strength', 'top-1', 'change'), *(
        (row['corruption'], f'{row["strength"]} {row["unit"]}'.strip(),
         f'{row["top1"]:.3f}', f'{row["top1"] - rows[0]["top1"]:+.3f}') for row in rows)])


def plot_robustness(measured: dict, axes: Axes) -> None:
    """Draws a bar for each row, the first one, of unchanged clips, as a line."""
    clean = measured['rows'][0]['top1']
    places, strengths = [], []
    for i, (name, one) in enumerate(CORRUPTIONS.items()):
        values = [row['top1'] for row in measured['rows'] if row['corruption'] == name]
        x = i + .27 * (np.arange(len(values)) - (len(values) - 1) / 2)
        axes.bar(x, values, .25, color=[('C0', .4 + .3 * j) for j in range(len(values))])
        places += x.tolist()
        strengths += one.strengths
    axes.axhline(clean, color='C1', linestyle='--')
    axes.text(1.005, clean, f'{CLEAN}\n{clean:.3f}', color='C1', va='center',
              transform=axes.get_yaxis_transform())
    axes.set(ylim=(0, 1.02), ylabel='Top-1 accuracy')
    axes.set_xticks(places, strengths, minor=True)
    axes.set_xticks(range(len(CORRUPTIONS)), [
        f'{name}\n({one.unit})' for name, one in CORRUPTIONS.items()])
    axes.xaxis.remove_overlapping_locs = False  # of the bars in the middle
    axes.tick_params('x', which='major', pad=18, length=0)
    axes.tick_params('x', which='minor', labelsize=8)
