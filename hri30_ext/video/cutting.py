"""Cuts parts out of recordings, each with exactly the frames that reading the part gives.

Runs in an isolated process (:mod:`hri30_ext.video.sandbox`), which may not write files: a
clip comes back as bytes.
"""

import io
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType

from .decoding import Decoder
from .preprocessing import FRAME_RATE
from .resize import FLAGS

#: Fine enough for the times of any camera.
_TIME_BASE = Fraction(1, 60_000)
#: Options of x264 at which the loss is hard to see.
_QUALITY = {'crf': '10', 'preset': 'fast'}
# More take more address space than the process has.
_THREADS = 4


def cut_part(filename: str) -> tuple[None, list[np.ndarray]]:
    """Cuts a part of a recording, see :func:`hri30_ext.names.name_part`, without sound.

    Returns:
        tuple[None, list[np.ndarray]]: The bytes of the clip, an MP4 file.

    Raises:
        ClipError: the part is not within the recording, or cannot be decoded.
    """
    return None, [np.frombuffer(_Part(filename, threads=_THREADS).encode(), np.uint8)]


class _Part(Decoder):
    """A part of a recording, as a clip in memory."""

    def encode(self) -> bytes:
        """Encodes frames at their times as H.264."""
        file, first, stream = io.BytesIO(), None, None
        with av.open(file, 'w', 'mp4') as clip:
            for frame in self._from_start():
                if stream is None:
                    first, stream = frame.time, self._add_stream(clip, frame)
                time = frame.time - first
                frame = frame.reformat(stream.width, stream.height, stream.pix_fmt,
                                       interpolation=FLAGS)
                frame.pts, frame.time_base = round(time / _TIME_BASE), _TIME_BASE
                frame.duration = round(1 / self._rate / _TIME_BASE)
                frame.pict_type = PictureType.NONE
                clip.mux(stream.encode(frame))
            clip.mux(stream.encode())
        if self._damage:
            raise self._error(self._damage)
        return file.getvalue()

    @property
    def _rate(self) -> Fraction:
        return Fraction(self.fps if 1 <= self.fps <= 480 else FRAME_RATE
                        ).limit_denominator(1001)

    def _add_stream(self, clip, frame: av.VideoFrame):
        stream = clip.add_stream('libx264', self._rate, _QUALITY)
        stream.width, stream.height = frame.width, frame.height
        # H.264 takes odd sizes at 4:4:4 only.
        is_odd = frame.width % 2 or frame.height % 2
        formats = [one.name for one in av.codec.Codec('libx264', 'w').video_formats]
        stream.pix_fmt = next(one for one in (
            'yuv444p' if is_odd else frame.format.name, 'yuv420p') if one in formats)
        if self._matrix is not None:
            stream.set_display_matrix(np.frombuffer(bytes(self._matrix), np.int32))
        context = stream.codec_context
        context.time_base = stream.time_base = _TIME_BASE
        context.thread_count = _THREADS
        if stream.pix_fmt == frame.format.name:
            context.colorspace, context.color_range = frame.colorspace, frame.color_range
        return stream
