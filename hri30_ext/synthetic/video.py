"""Writing frames as the kind of AVI file that HRI30 has."""

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame

from ..utils.fileio import atomic_path

#: The quantiser is fixed, so that noise does not blur the movement.
_QUANTISER = {'qmin': '5', 'qmax': '5'}


def write_video(frames, path, fps=30):
    """Writes MPEG-4 in AVI, whole or not at all; the same frames give the same bytes.

    Args:
        frames (np.ndarray): uint8 RGB frames, (T, H, W, 3), even H and W.
        path (str | os.PathLike): The file.
        fps (int | Fraction): Frame rate.

    Raises:
        HRI30Error: the file cannot be written.
    """
    with atomic_path(path) as partial, av.open(
            str(partial), 'w', format='avi', options={'fflags': '+bitexact'}) as container:
        stream = container.add_stream('mpeg4', fps, _QUANTISER)
        stream.pix_fmt, stream.gop_size, stream.thread_count = 'yuv420p', 15, 1
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.codec_context.flags |= Flags.bitexact
        for index, frame in enumerate(frames):
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(
                cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)), 'yuv420p')
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
