"""Writing frames as the kinds of AVI file that HRI30 and its users have."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame

from ..utils.fileio import atomic_path

#: By name: encoder, pixel format and options. The quantiser is fixed, so that noise does
#: not blur the movement.
CODECS = {
    'mpeg4': ('mpeg4', 'yuv420p', {'qmin': '5', 'qmax': '5'}),
    'mjpeg': ('mjpeg', 'yuvj420p', {'qmin': '5', 'qmax': '5'}),
    'dv': ('dvvideo', 'yuv411p', {}),
}


def check_codec(codec, size):
    """Raises a ValueError if ``codec`` cannot hold frames of ``size``."""
    width, height = size
    if (codec not in CODECS or width % 2 or height % 2
            or codec == 'dv' and (width, height) != (720, 480)):
        raise ValueError(f'codec {codec}, {width}x{height}: expected mpeg4 or mjpeg with '
                         'even width and height, or dv with 720x480')


def write_video(frames, path, codec='mpeg4', fps=30):
    """Writes an AVI file, whole or not at all; the same frames give the same bytes.

    Args:
        frames (np.ndarray): uint8 RGB frames, (T, H, W, 3).
        path (str | os.PathLike): The file.
        codec (str): One of ``CODECS``; ``dv`` is 720x480, interlaced, lower field first.
        fps (int | Fraction): Frame rate; DV has its own 30000/1001.

    Raises:
        ValueError: unknown codec, or one that cannot hold this size.
        HRI30Error: the file cannot be written.
    """
    height, width = frames.shape[1:3]
    check_codec(codec, (width, height))
    encoder, pix_fmt, options = CODECS[codec]
    with atomic_path(path) as partial, av.open(
            str(partial), 'w', format='avi', options={'fflags': '+bitexact'}) as container:
        rate = Fraction(30000, 1001) if codec == 'dv' else fps
        stream = container.add_stream(encoder, rate, options)
        stream.pix_fmt, stream.width, stream.height = pix_fmt, width, height
        stream.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        if codec == 'mpeg4':
            stream.gop_size = 15
        for index, frame in enumerate(frames):
            if codec == 'mpeg4':
                frame = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
            picture = VideoFrame.from_ndarray(
                np.ascontiguousarray(frame), pix_fmt if codec == 'mpeg4' else 'rgb24'
            ).reformat(format=pix_fmt)
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
