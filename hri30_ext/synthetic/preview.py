"""A contact sheet that shows every class."""

import os

import cv2
import numpy as np

from ..names import HRI30_CLASSES
from .render import render_clip

_NAME_WIDTH, _GAP, _WIDTH = 168, 4, 1600  # pixels
_COLUMNS, _FRAMES = 2, 6


def write_preview(path, seed=0):
    """Writes a picture with a row for each class: its name and frames of one clip.

    Each row shows another group.

    Args:
        path (str | os.PathLike): A ``.png`` or ``.jpg`` file.
        seed (int): Seed of the data set.

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
    rows = -(-len(HRI30_CLASSES) // _COLUMNS)
    sheet = np.full((rows * (height + _GAP), _WIDTH, 3), 255, np.uint8)
    for index, name in enumerate(HRI30_CLASSES):
        left, top = index // rows * cell, index % rows * (height + _GAP)
        _write_name(sheet, name, index + 1, left + 4, top + 16)
        frames = render_clip(index + 1, index + 1, 1, seed, noise=False)
        shown = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
        for k, frame in enumerate(frames[shown]):
            x = left + _NAME_WIDTH + k * (width + _GAP)
            sheet[top:top + height, x:x + width] = cv2.resize(
                frame, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(extension, sheet[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 9))
    with open(path, 'wb') as file:
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
