"""Converting and resizing frames: the same for training, testing, export, streams and the
service, and the same pixels on every processor.

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

#: swscale's accurate_rnd. Without it, the rounding depends on the processor's instructions.
#: A number, as PyAV before 18 has no name for it and for the last two below.
ACCURATE = 0x40000
#: Bilinear, accurate rounding, all colour samples used in and out.
FLAGS = 0x2 | ACCURATE | 0x4000 | 0x2000
# swscale converts to planes several times faster than to pixels; PyAV makes pixels of them.
_PLANAR = 'gbrp'
_PADDING = 64  # bytes that swscale may read behind the last pixel
_KEPT_SIZES = 32  # of all threads


@lru_cache(maxsize=_KEPT_SIZES)
def _reformatter(thread: int, *conversion) -> VideoReformatter:
    """Returns what keeps swscale's tables for a conversion, of one thread."""
    return VideoReformatter()


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """Converts a frame of a video to RGB and resizes it, in one pass.

    Linear interpolation, also of colours that are stored at half the size; where a frame
    becomes smaller, each pixel is a weighted mean of all pixels that it covers (a triangle
    filter), so that no detail is skipped. The aspect ratio may change. The matrix and the
    range of the colours are those that the frame names.

    Args:
        frame (av.VideoFrame): In any format, such as YUV.
        width, height (int): Of the result in pixels.

    Returns:
        np.ndarray: (height, width, 3) uint8 RGB.

    Raises:
        HRI30Error: swscale cannot do this, such as one pixel of thousands.
    """
    thread, before = threading.get_ident(), (frame.width, frame.height)
    try:
        return _reformatter(thread, frame.format.name, *before, width, height).reformat(
            frame, width, height, _PLANAR, interpolation=FLAGS, threads=1).to_ndarray()
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise HRI30Error(f'a frame of {before[0]} x {before[1]} pixels cannot be resized '
                         f'to {width} x {height} ({error}).') from error


def resize(frame_HWC: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes a frame, uint8 RGB (H, W, 3), any view of an array, as :func:`to_rgb` does.

    Returns:
        np.ndarray: (height, width, 3) uint8 RGB: the frame itself where it already has this
        size.

    Raises:
        HRI30Error: swscale cannot do this.
    """
    if frame_HWC.shape[1::-1] == (width, height):
        return frame_HWC
    copy = np.empty(frame_HWC.size + _PADDING, np.uint8)
    copy_HWC = copy[:frame_HWC.size].reshape(frame_HWC.shape)
    copy_HWC[...] = frame_HWC
    return to_rgb(av.VideoFrame.from_numpy_buffer(copy_HWC, 'rgb24'), width, height)


def shrunk_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Returns width and height in pixels of frames whose short side is at most a length.

    >>> shrunk_size(720, 480, 256), shrunk_size(96, 64, 256)
    ((384, 256), (96, 64))
    """
    if short_side is None or min(width, height) <= short_side:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)
