"""Cuts parts out of recordings, each with exactly the frames that reading the part gives.

Runs in an isolated process (:mod:`hri30_ext.video.sandbox`), which may not write files: a
clip comes back as bytes.
"""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from .decoding import DAMAGE, Decoder, has_guessed_times
from .preprocessing import FRAME_RATE
from .resize import FLAGS

#: Containers into which packets are copied, by ending; what else is cut is encoded.
_CONTAINERS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska',
               '.webm': 'webm', '.avi': 'avi'}
#: Fine enough for the times of any camera, and the finest that MPEG-4 takes: 65535.
_TIME_BASE = Fraction(1, 60_000)
#: Encoders, best first, with options at which the loss is hard to see.
_ENCODERS = {'libx264': {'crf': '10', 'preset': 'fast'},
             'mpeg4': {'qmin': '2', 'qmax': '2'}}
# More take more address space than the process has.
_THREADS = 4


def cut_part(filename: str) -> tuple[tuple[str, bool], list[np.ndarray]]:
    """Cuts a part of a recording, see :func:`hri30_ext.names.name_part`, without sound.

    Returns:
        tuple[tuple[str, bool], list[np.ndarray]]: The ending of the clip, that of the
        recording where its packets were copied, else ``.mp4``; whether they were; and the
        bytes of the clip.

    Raises:
        ClipError: the part is not within the recording, or cannot be decoded.
    """
    part, suffix = _Part(filename, threads=_THREADS), Path(filename).suffix.lower()
    content = part.copy(_CONTAINERS[suffix]) if suffix in _CONTAINERS else None
    ending = '.mp4' if content is None else suffix
    return (ending, content is not None), [
        np.frombuffer(part.encode() if content is None else content, np.uint8)]


class _Part(Decoder):
    """A part of a recording, as a clip in memory."""

    def copy(self, container: str) -> bytes | None:
        """Copies packets; None if the first frame is no keyframe, or the last ones need
        frames after the end, or the container does not take them.
        """
        file, first, ended = io.BytesIO(), None, False
        try:
            with self._open() as (source, stream), av.open(file, 'w', container) as clip:
                if has_guessed_times(source, stream):
                    return None
                copied = clip.add_stream_from_template(stream, opaque=True)
                copied.codec_context.framerate = self._rate
                for packet in source.demux(stream):
                    where = self._compare(packet.pts, stream)
                    if packet.size and where == 0:
                        if first is None and packet.is_keyframe:
                            first = packet.pts
                        # A frame that is stored after one beyond the end may need it.
                        if None in (first, packet.pts) or (
                                packet.pts < first or ended or packet.is_discard):
                            return None
                        packet.pts -= first
                        packet.dts = 0 if packet.dts is None else packet.dts - first
                        packet.stream = copied
                        clip.mux(packet)
                    elif where > 0:
                        ended = True
                        if self._compare(packet.dts, stream) > 0:
                            break
        except DAMAGE:  # what is damaged is found by decoding
            return None
        return file.getvalue()

    def encode(self) -> bytes:
        """Encodes frames at their times as H.264, or as MPEG-4 where there is no x264."""
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
        name = next(name for name in _ENCODERS if name in av.codec.codecs_available)
        stream = clip.add_stream(name, self._rate, _ENCODERS[name])
        stream.width, stream.height = frame.width, frame.height
        # H.264 takes odd sizes at 4:4:4 only.
        is_odd = frame.width % 2 or frame.height % 2
        formats = [one.name for one in av.codec.Codec(name, 'w').video_formats]
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
