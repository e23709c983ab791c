"""Writing frames as the kinds of AVI file that HRI30 and its users have."""

import os
from fractions import Fraction

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame

CODECS = ('mpeg4', 'mjpeg', 'dv')
DV_SIZE, DV_RATE = (720, 480), Fraction(30000, 1001)


def check_codec(codec, size):
    """Raises ValueError where ``codec`` cannot hold frames of ``size``."""
    width, height = size
    if codec not in CODECS:
        raise ValueError(f'unknown codec {codec!r}: expected one of '
                         f'{", ".join(CODECS)}')
    if codec == 'dv' and (width, height) != DV_SIZE:
        raise ValueError(f'DV holds frames of {DV_SIZE[0]}x{DV_SIZE[1]} only, '
                         f'not {width}x{height}: choose mpeg4 or mjpeg')
    if width % 2 or height % 2:
        raise ValueError(f'width and height must be even, not {width}x{height}')


def write_video(frames, path, codec='mpeg4', fps=30):
    """Writes an AVI file; the same frames give the same bytes.

    The file appears at ``path`` when it is whole, never before.

    Args:
        frames (np.ndarray): uint8 RGB frames, (T, H, W, 3).
        path (str | os.PathLike): Where to; its folder must exist.
        codec (str): ``'mpeg4'``, ``'mjpeg'`` or ``'dv'`` (720x480, interlaced,
            lower field first). Defaults to ``'mpeg4'``.
        fps (int | Fraction): Frame rate; DV has its own 30000/1001.

    Raises:
        ValueError: If the codec is unknown or cannot hold this size.
    """
    height, width = frames.shape[1:3]
    check_codec(codec, (width, height))
    partial = f'{os.fspath(path)}.part'
    with av.open(partial, 'w', format='avi',
                 options={'fflags': '+bitexact'}) as container:
        stream = _add_stream(container, codec, fps)
        stream.width, stream.height = width, height
        stream.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for index, frame in enumerate(frames):
            if codec == 'mpeg4':
                planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
                picture = VideoFrame.from_ndarray(planes, format='yuv420p')
            else:
                picture = VideoFrame.from_ndarray(
                    np.ascontiguousarray(frame), format='rgb24')
                picture = picture.reformat(format=stream.pix_fmt)
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    os.replace(partial, path)


def _add_stream(container, codec, fps):
    if codec == 'dv':
        stream = container.add_stream('dvvideo', rate=DV_RATE)
        stream.pix_fmt = 'yuv411p'
        return stream
    # A fixed quantiser: noise must not cost the movement its sharpness.
    options = {'qmin': '5', 'qmax': '5'}
    if codec == 'mjpeg':
        stream = container.add_stream('mjpeg', rate=fps, options=options)
        stream.pix_fmt = 'yuvj420p'
        return stream
    stream = container.add_stream('mpeg4', rate=fps, options=options)
    stream.pix_fmt = 'yuv420p'
    stream.gop_size = 15
    return stream
