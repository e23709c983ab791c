"""Damaged videos, read as training and testing read them: in a process of its own."""

import tempfile
from pathlib import Path

import numpy as np

from hri30_ext.errors import HRI30Error
from hri30_ext.video.decode import Video

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')


def one_input(data: bytes, suffix: str = '.avi') -> None:
    """Opens a video and reads the frames that a test would, and all of a short one.

    Args:
        data (bytes): The file.
        suffix (str): Its ending.
    """
    path = Path(_folder.name) / f'input{suffix}'
    path.write_bytes(data)
    try:
        video = Video(path, short_side=64)
        width, height = video.size
        assert video.total_frames > 0 and min(width, height) > 0 and video.fps >= 0
        indices = np.linspace(0, video.total_frames - 1, 8).astype(int)
        _check(video.read(indices), len(indices), video)
        if video.total_frames <= 100:
            _check(video.read_all(), video.total_frames, video)
    except HRI30Error as error:
        assert str(path) in str(error) and len(str(error)) < 2000


def _check(frames_THWC: np.ndarray, count: int, video: Video) -> None:
    width, height = video.size
    assert frames_THWC.shape == (count, height, width, 3)
    assert frames_THWC.dtype == np.uint8
