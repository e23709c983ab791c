"""From a class, a group and a clip number to frames, and a sheet with frames of all."""

import functools
import re
import textwrap
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..names import HRI30_CLASSES, canonical_name
from ..utils.fileio import atomic_path
from ..utils.text import font
from .actions import Planner
from .drawing import Bench, Canvas, Figure, Robot, draw_background
from .groups import DRAWING_SIZE, make_group

NOISE_SPREADS = (1.0, 2.0, 3.0)  # grey levels; a group has one of them
_NOISE_MARGIN = 32

# Of the sheet, in pixels.
_NAME_WIDTH, _GAP, _WIDTH = 168, 4, 1600
_COLUMNS, _FRAMES = 2, 6


def class_id(label):
    """Returns the 1-based id of a class given by id or by name, or raises a ValueError."""
    if canonical_name(label) in HRI30_CLASSES:
        return HRI30_CLASSES.index(canonical_name(label)) + 1
    if str(label).isdecimal() and 1 <= int(label) <= len(HRI30_CLASSES):
        return int(label)
    raise ValueError(f'no class {label!r}: expected an id from 1 to {len(HRI30_CLASSES)} '
                     'or one of the names in hri30_ext.names.HRI30_CLASSES')


def plan_clip(label, group, clip, seed=0):
    """Plans the movement of a clip; arguments are those of :func:`render_clip`.

    Returns the :class:`Plan`, the :class:`Group`, and the generator for further numbers.
    """
    label = class_id(label)
    looks = make_group(group, seed)
    rng = np.random.default_rng((seed, 3, label, group, clip))
    return Planner(looks, rng).plan(HRI30_CLASSES[label - 1]), looks, rng


def render_clip(label, group, clip, seed=0, size=DRAWING_SIZE, fields=False):
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
    grain = _noise_bank(size, looks.noise)
    frames = np.empty((len(plan.yaw), *background.shape), np.uint8)
    frames[:] = background
    offsets = rng.integers(0, _NOISE_MARGIN, (len(frames), 2))
    for t, frame in enumerate(frames):
        canvas, depth = Canvas(frame), plan.root[t, 1]
        for part in (*(each for each in fixtures if each.depth >= depth), figure,
                     *(each for each in fixtures if each.depth < depth)):  # far to near
            part.draw(canvas, t)
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


def write_preview(path, seed=0):
    """Writes :func:`write_sheet` of HRI30's classes, each with another group."""
    write_sheet(path, HRI30_CLASSES, (render_clip(number, number, 1, seed)
                                      for number in range(1, len(HRI30_CLASSES) + 1)))


def write_sheet(path, classes, clips):
    """Writes a picture with a row for each class: its name and frames of one clip.

    Args:
        path (str | os.PathLike): A ``.png`` or ``.jpg`` file; else a ValueError is raised.
        classes (Sequence[str]): Names.
        clips (Iterable[np.ndarray]): Of each class, (T, H, W, 3) uint8 RGB.
    """
    if Path(path).suffix.lower() not in ('.png', '.jpg'):
        raise ValueError(f'cannot write a picture as {path}: expected .png or .jpg')
    cell = _WIDTH // _COLUMNS
    width = (cell - _NAME_WIDTH) // _FRAMES - _GAP
    height = round(width * 2 / 3)
    rows = -(-len(classes) // _COLUMNS)
    sheet = Image.new('RGB', (_WIDTH, rows * (height + _GAP)), 'white')
    for index, (name, frames) in enumerate(zip(classes, clips, strict=True)):
        left, top = index // rows * cell, index % rows * (height + _GAP)
        # A name in capitals and small letters in lines of whole words.
        words = re.sub(r'(?<=[^\W\d_A-Z])(?=[A-Z])', ' ', f'{index + 1} {name}')
        ImageDraw.Draw(sheet).text((left + 4, top + 4), textwrap.fill(words, 20),
                                   (20, 20, 20), font(13))
        shown = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
        for k, frame in enumerate(frames[shown]):
            small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(small),
                        (left + _NAME_WIDTH + k * (width + _GAP), top))
    with atomic_path(path) as temporary:
        sheet.save(temporary, optimize=True)
