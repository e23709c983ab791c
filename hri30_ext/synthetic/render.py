"""From a class, a group and a clip number to frames."""

import functools

import cv2
import numpy as np

from ..names import HRI30_CLASSES, RELEASED_SPELLING
from .actions import Planner
from .drawing import Bench, Canvas, Figure, Robot, draw_background
from .groups import DRAWING_SIZE, make_group

NOISE_SPREADS = (1.0, 2.0, 3.0)  # grey levels; a group has one of them
_NOISE_MARGIN = 32


def class_id(label):
    """Returns the 1-based id of a class given by id or by name.

    Raises:
        ValueError: unknown class.
    """
    if isinstance(label, str):
        name = next((ours for ours, released in RELEASED_SPELLING.items()
                     if released == label), label)
        if name in HRI30_CLASSES:
            return HRI30_CLASSES.index(name) + 1
    elif 1 <= label <= len(HRI30_CLASSES):
        return int(label)
    raise ValueError(f'no class {label!r}: expected an id from 1 to {len(HRI30_CLASSES)} '
                     'or one of the names in hri30_ext.names.HRI30_CLASSES')


def plan_clip(label, group, clip, seed=0):
    """Plans the movement of a clip; arguments are those of :func:`render_clip`.

    Returns:
        tuple[Plan, Group, np.random.Generator]: The plan, the looks of the group, and the
        generator for further random numbers.
    """
    label = class_id(label)
    looks = make_group(group, seed)
    rng = np.random.default_rng((seed, 3, label, group, clip))
    return Planner(looks, rng).plan(HRI30_CLASSES[label - 1]), looks, rng


def render_clip(label, group, clip, seed=0, size=DRAWING_SIZE, fields=False, noise=True):
    """Renders one clip.

    Args:
        label (int | str): Class id (1-based) or name.
        group (int): Group number, 0 or more: the worker, the cell and the camera.
        clip (int): Number of the clip in its class and group, 0 or more.
        seed (int): Seed of the whole data set.
        size (tuple[int, int]): Width and height in pixels. Everything is drawn for
            (720, 480); other sizes scale it.
        fields (bool): Whether the upper field of a frame (rows 0, 2, ...) shows half a
            frame later than the lower one, as in interlaced DV.
        noise (bool): Whether to add the sensor noise of the group.

    Returns:
        np.ndarray: uint8 RGB frames, (T, H, W, 3), T from 30 to 60.

    Raises:
        ValueError: unknown class.
    """
    plan, looks, rng = plan_clip(label, group, clip, seed)
    if fields:
        plan = plan.with_half_frames()
    background = _background(group, seed, size)
    figure, fixtures = Figure(plan, looks), (Robot(plan, looks), Bench(looks))
    grain = _noise_bank(size, looks.noise) if noise else None
    frames = np.empty((len(plan.yaw), *background.shape), np.uint8)
    frames[:] = background
    offsets = rng.integers(0, _NOISE_MARGIN, (len(frames), 2))
    for t, frame in enumerate(frames):
        canvas, depth = Canvas(frame), plan.root[t, 1]
        for part in (*(each for each in fixtures if each.depth >= depth), figure,
                     *(each for each in fixtures if each.depth < depth)):  # far to near
            part.draw(canvas, t)
        if noise:
            down, right = offsets[t]
            cv2.add(frame, grain[down:down + size[1], right:right + size[0]], dst=frame)
    if fields:
        woven = frames[::2].copy()
        woven[:, ::2] = frames[1::2, ::2]
        return woven
    return frames


@functools.lru_cache(maxsize=4)
def _background(group, seed, size):
    return draw_background(make_group(group, seed), size)


@functools.lru_cache(maxsize=4)
def _noise_bank(size, level):
    """Makes sensor noise above a small offset, which is added with saturation.

    The bank is larger than a frame; each frame takes a random part of it.
    """
    spread = NOISE_SPREADS[level]
    rng = np.random.default_rng((4, level))
    shape = (size[1] + _NOISE_MARGIN, size[0] + _NOISE_MARGIN)
    grey = rng.normal(2 * spread, spread, (*shape, 1))
    colour = rng.normal(0, spread / 3, (*shape, 3))
    return np.clip(grey + colour, 0, 255).astype(np.uint8)
