"""A contact sheet that shows every class."""

import os

import cv2
import numpy as np

from ..names import HRI30_CLASSES
from ..utils.fileio import atomic_path
from .render import render_clip

_NAME_WIDTH, _GAP, _WIDTH = 168, 4, 1600  # pixels
_COLUMNS, _FRAMES = 2, 6


def write_preview(path, seed=0):
    """Writes :func:`write_sheet` of HRI30's classes, each with another group.

    Args:
        path (str | os.PathLike): A ``.png`` or ``.jpg`` file.
        seed (int): Seed of the data set.

    Raises:
        ValueError: another extension.
    """
    write_sheet(path, HRI30_CLASSES, (render_clip(number, number, 1, seed, noise=False)
                                      for number in range(1, len(HRI30_CLASSES) + 1)))


def write_sheet(path, classes, clips):
    """Writes a picture with a row for each class: its name and frames of one clip.

    Args:
        path (str | os.PathLike): A ``.png`` or ``.jpg`` file.
        classes (Sequence[str]): Names.
        clips (Iterable[np.ndarray]): Of each class, (T, H, W, 3) uint8 RGB.

    Raises:
        ValueError: another extension.
    """
    extension = os.path.splitext(path)[1]
    if extension.lower() not in ('.png', '.jpg'):
        raise ValueError(f'cannot write a picture as {path}: expected a name that ends in '
                         '.png or .jpg')
    cell = _WIDTH // _COLUMNS
    width = (cell - _NAME_WIDTH) // _FRAMES - _GAP
    height = round(width * 2 / 3)
    rows = -(-len(classes) // _COLUMNS)
    sheet = np.full((rows * (height + _GAP), _WIDTH, 3), 255, np.uint8)
    for index, (name, frames) in enumerate(zip(classes, clips, strict=True)):
        left, top = index // rows * cell, index % rows * (height + _GAP)
        _write_name(sheet, name, index + 1, left + 4, top + 16)
        shown = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
        for k, frame in enumerate(frames[shown]):
            x = left + _NAME_WIDTH + k * (width + _GAP)
            sheet[top:top + height, x:x + width] = cv2.resize(
                frame, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(extension, sheet[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 9))
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        file.write(data.tobytes())


def _write_name(sheet, name, number, x, y):
    """Writes a class name in lines of whole words."""
    words = ''.join(f' {c}' if c.isupper() else c for c in name).split()
    lines = [str(number)]
    for word in words:
        if len(lines[-1]) + len(word) > 19:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    for i, line in enumerate(lines):
        cv2.putText(sheet, line, (x, y + 17 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.42,
                    (20, 20, 20), 1, cv2.LINE_AA)
