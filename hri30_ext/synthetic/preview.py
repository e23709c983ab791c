"""A contact sheet: what every class looks like."""

import os

import cv2
import numpy as np

from ..names import HRI30_CLASSES
from .render import render_clip

_NAME_WIDTH, _GAP = 168, 4


def write_preview(path, group=None, clip=1, seed=0, num_frames=6, width=1600,
                  columns=2):
    """Writes a picture with a row for each class: its name and frames of a
    clip from the first to the last.

    Args:
        path (str | os.PathLike): A ``.png`` or ``.jpg`` file.
        group (int, optional): The group shown. Defaults to another one in
            every row.
        clip (int): The clip of each class shown.
        seed (int): Seed of the data set.
        num_frames (int): Frames of a clip, evenly spread.
        width (int): Width of the picture.
        columns (int): Columns of classes.

    Raises:
        ValueError: If the name ends in neither.
    """
    if os.path.splitext(path)[1].lower() not in ('.png', '.jpg'):
        raise ValueError(f'cannot write a picture as {path}: expected a name '
                         'that ends in .png or .jpg')
    cell = width // columns
    frame_width = (cell - _NAME_WIDTH) // num_frames - _GAP
    frame_height = round(frame_width * 2 / 3)
    rows = -(-len(HRI30_CLASSES) // columns)
    sheet = np.full((rows * (frame_height + _GAP), width, 3), 255, np.uint8)
    for index, name in enumerate(HRI30_CLASSES):
        left = index // rows * cell
        top = index % rows * (frame_height + _GAP)
        _write_name(sheet, name, index + 1, left + 4, top + 16)
        frames = render_clip(index + 1, group or index + 1, clip, seed,
                             noise=False)
        shown = np.linspace(0, len(frames) - 1, num_frames).round().astype(int)
        for k, frame in enumerate(frames[shown]):
            x = left + _NAME_WIDTH + k * (frame_width + _GAP)
            sheet[top:top + frame_height, x:x + frame_width] = cv2.resize(
                frame, (frame_width, frame_height), interpolation=cv2.INTER_AREA)
    extension = os.path.splitext(path)[1]
    _, data = cv2.imencode(extension, sheet[..., ::-1],
                           (cv2.IMWRITE_PNG_COMPRESSION, 9))
    with open(path, 'wb') as file:
        file.write(data.tobytes())


def _write_name(sheet, name, number, x, y):
    """The name in lines of whole words, of which class names have many."""
    words = ''.join(f' {c}' if c.isupper() else c for c in name).split()
    lines = [str(number)]
    for word in words:
        if len(lines[-1]) + len(word) > 19:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    for i, line in enumerate(lines):
        cv2.putText(sheet, line, (x, y + 17 * i), cv2.FONT_HERSHEY_SIMPLEX,
                    0.42, (20, 20, 20), 1, cv2.LINE_AA)
