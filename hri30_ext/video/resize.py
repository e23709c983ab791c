"""Resizing frames: the one function of training, testing, export, streams and service.

Shapes: H height and W width in pixels.
"""

import threading
from functools import lru_cache

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import HRI30Error

# FFmpeg writes about damaged packets; what matters is raised. None and not a level: with a
# level, PyAV's callback takes the GIL, and a decoder hangs whose threads log while Python
# closes it.
av.logging.set_level(None)

# Of swscale: bilinear, accurate rounding, all colour samples used in and out. Numbers, as
# PyAV before 18 has no names for the last three.
_FLAGS = 0x2 | 0x40000 | 0x4000 | 0x2000
# swscale resizes to planes several times faster than to pixels.
_PLANAR = 'gbrp'
_PADDING = 64  # bytes that swscale may read behind the last pixel
_KEPT_SIZES = 32  # of all threads


@lru_cache(maxsize=_KEPT_SIZES)
def _reformatter(thread: int, *sizes: int) -> VideoReformatter:
    """Returns what keeps swscale's tables for sizes, of one thread."""
    return VideoReformatter()


def resize(frame_HWC: np.ndarray, width: int, height: int,
           out: np.ndarray | None = None) -> np.ndarray:
    """Resizes a frame; the aspect ratio may change.

    Linear interpolation; where a frame becomes smaller, each pixel is a weighted mean of
    all pixels that it covers (a triangle filter), so that no detail is skipped.

    Args:
        frame_HWC (np.ndarray): uint8 RGB, (H, W, 3); any view of an array.
        width, height (int): Of the result in pixels.
        out (np.ndarray, optional): Where to write, (height, width, 3) uint8.

    Returns:
        np.ndarray: (height, width, 3) uint8 RGB: ``out``, or the frame itself where it
        already has this size, or a new array.

    Raises:
        HRI30Error: swscale cannot do this, such as one pixel of thousands.
    """
    before = frame_HWC.shape[1::-1]
    if before == (width, height):
        if out is None:
            return frame_HWC
        out[...] = frame_HWC
        return out
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    copy = np.empty(frame_HWC.size + _PADDING, np.uint8)
    copy_HWC = copy[:frame_HWC.size].reshape(frame_HWC.shape)
    copy_HWC[...] = frame_HWC
    frame = av.VideoFrame.from_numpy_buffer(copy_HWC, 'rgb24')
    thread = threading.get_ident()
    try:
        planar = _reformatter(thread, *before, width, height).reformat(
            frame, width, height, _PLANAR, interpolation=_FLAGS, threads=1)
        plane = _reformatter(thread).reformat(planar, format='rgb24', threads=1).planes[0]
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise HRI30Error(f'a frame of {before[0]} x {before[1]} pixels cannot be resized '
                         f'to {width} x {height} ({error}).') from error
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    out[...] = lines[:height, :3 * width].reshape(height, width, 3)
    return out


def shrunk_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Returns width and height in pixels of frames whose short side is at most a length.

    >>> shrunk_size(720, 480, 256), shrunk_size(96, 64, 256)
    ((384, 256), (96, 64))
    """
    if short_side is None or min(width, height) <= short_side:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)
