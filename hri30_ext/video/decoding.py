"""Decoding clips: one pass, only what is needed, de-interlaced where they are interlaced.

This runs in a process of its own: what reads clips is
:class:`~hri30_ext.video.decode.Video`, which
asks this module and lives on where a damaged file makes a decoder crash or hang.

Shapes: N frames read, H height, W width.

The clips of HRI30 take a second or two. A decoder that seeks, as decord does for
mmaction2's ``DecordDecode``, decodes parts of them more than once; here a clip is decoded
from its first frame to the last one that is asked for, and only frames that are asked for
become RGB, scaled in the same step.
"""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np

from ..errors import HRI30Error
from .decode import broken

#: Of the frames that a container announces, those that may be missing at its end: a clip
#: that was cut in the middle of its last frames, or counts packed B-frames twice.
_MISSING_ALLOWED = 0.1

#: For opening files. A playlist under the name of a clip, ffconcat or HLS, would have
#: FFmpeg open other files, and addresses. What holds pictures itself may be read, from a
#: disk.
OPTIONS = {
    'format_whitelist': 'avi,mov,matroska,mpeg,mpegts,mpegvideo,m4v,dv,h264,hevc,asf,flv,'
                        'ogg,mxf,ivf,gif,mjpeg,yuv4mpegpipe',
    'protocol_whitelist': 'file',
}

# FFmpeg writes about broken packets to the terminal; what matters is raised.
av.logging.set_level(av.logging.PANIC)


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Returns width and height in pixels of frames whose short side is at most a length.

    >>> scaled_size(720, 480, 256), scaled_size(96, 64, 256)
    ((384, 256), (96, 64))
    """
    if short_side is None or min(width, height) <= short_side:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


#: Pixels of a frame: 8K (7680 x 4320) and no more.
MAX_PIXELS = 2**25
#: Frames of a clip: more than 10 minutes.
MAX_FRAMES = 20_000
#: Bytes of the frames that are read at once.
MAX_BYTES = 2**30

# IndexError: PyAV knows no stream that begins in the midst of a file, as the sound of a
# damaged DV file may (InputContainer.demux, seen in av 18.1).
_DAMAGE = (av.FFmpegError, OSError, ValueError, IndexError)


class Decoder:
    """Decodes a clip on disk, in this process.

    Arguments, attributes and methods are those of :class:`~hri30_ext.video.decode.Video`.

    Raises:
        HRI30Error: the file is no video, has no frames, or is beyond :data:`MAX_PIXELS` or
            :data:`MAX_FRAMES`.
    """

    def __init__(self, filename: str | Path, short_side: int | None = None,
                 threads: int = 1) -> None:
        self.filename, self.threads = str(filename), threads
        try:
            with av.open(self.filename, options=OPTIONS) as container:
                stream = self._stream(container)
                self._check_pixels(stream.width, stream.height)
                self.fps = float(stream.average_rate or 0)
                self.size = scaled_size(stream.width, stream.height, short_side)
                # Counting packets decodes nothing: a third of a millisecond for a clip.
                self.total_frames = sum(packet.size > 0 for packet in islice(
                    container.demux(stream), MAX_FRAMES + 2))
        except _DAMAGE as error:
            raise self._broken(explain(error)) from error
        if not self.total_frames or min(self.size) < 1:
            raise self._broken('it has no frames')
        if self.total_frames > MAX_FRAMES:
            raise self._broken(f'it has more than {MAX_FRAMES:,} frames; cut it')

    def __len__(self) -> int:
        return self.total_frames

    def read(self, indices_N: Sequence[int]) -> np.ndarray:
        """Reads frames, (N, H, W, 3) uint8 RGB, in the order asked for.

        Raises:
            HRI30Error: the clip is damaged, or has too many pixels for :data:`MAX_BYTES`.
        """
        wanted = sorted(set(map(int, indices_N)))
        if not wanted or wanted[0] < 0 or wanted[-1] >= self.total_frames:
            raise IndexError(f'{self.filename}: frames {list(indices_N)} of '
                             f'{self.total_frames}')
        width, height = self.size
        if 3 * len(wanted) * width * height > MAX_BYTES:
            raise self._broken(
                f'{len(wanted)} frames of {width} x {height} pixels take more than '
                f'{MAX_BYTES / 2**30:.3g} GiB; cut it, or make it smaller')
        frames_THWC = np.empty((len(wanted), height, width, 3), np.uint8)
        found = 0
        for position, frame in enumerate(self.decode()):
            if position != wanted[found]:
                continue
            frames_THWC[found] = self._to_rgb(frame)
            found += 1
            if found == len(wanted):
                break
        else:
            # Where decoding ends is known only by going there.
            self._check_complete(position + 1)
            frames_THWC[found:] = self._to_rgb(frame)
        return frames_THWC[np.searchsorted(wanted, indices_N)]

    def read_all(self) -> np.ndarray:
        """Reads every frame, (T, H, W, 3) uint8 RGB; raises what :meth:`read` does."""
        return self.read(range(self.total_frames))

    def decode(self, deinterlace: bool = True) -> Iterator[av.VideoFrame]:
        """Yields frames, at least one, to the end or to what cannot be decoded.

        Raises:
            HRI30Error: there is none.
        """
        try:
            with av.open(self.filename, options=OPTIONS) as container:
                stream = self._stream(container)
                # A stream may grow in its midst, which FFmpeg itself then refuses.
                stream.codec_context.options = {'max_pixels': str(MAX_PIXELS)}
                stream.thread_type = 'AUTO' if self.threads > 1 else 'SLICE'
                stream.thread_count = self.threads
                frames = self._until_damage(container.decode(stream))
                first = next(frames, None)
                if first is None:
                    raise self._broken(self._damage or 'no frame of it can be decoded')
                frames = _chain(first, frames)
                if deinterlace and first.interlaced_frame:
                    frames = _deinterlace(frames, stream)
                yield from frames
        except _DAMAGE as error:
            raise self._broken(explain(error)) from error

    def _until_damage(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        self._damage = ''
        try:
            yield from frames
        except _DAMAGE as error:
            self._damage = explain(error)

    def _stream(self, container) -> av.VideoStream:
        if not container.streams.video:
            raise self._broken('it has no pictures')
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise self._broken('its codec is not known')
        return stream

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise self._broken(f'frames of {width} x {height} pixels: expected at most '
                               f'{MAX_PIXELS:,} pixels')

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self.size
        return frame.to_ndarray(format='rgb24', width=width, height=height,
                                interpolation='BILINEAR')

    def _check_complete(self, found: int) -> None:
        if found < (1 - _MISSING_ALLOWED) * self.total_frames:
            raise self._broken(f'{found} of its {self.total_frames} frames can be decoded'
                               f'{self._damage and ": " + self._damage}')

    def _broken(self, reason: str) -> HRI30Error:
        return broken(self.filename, reason)


def _chain(first, rest) -> Iterator:
    yield first
    yield from rest


def _deinterlace(frames: Iterator[av.VideoFrame], stream) -> Iterator[av.VideoFrame]:
    """Rebuilds each frame from one of its fields and its neighbours, by FFmpeg's yadif.

    Of an interlaced frame every other line was taken a sixtieth of a second later, so that
    what moves has combs at its edges, the more the faster it is. As many frames come out.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(template=stream, time_base=stream.time_base)
    yadif = graph.add('yadif', 'mode=send_frame:deint=interlaced')
    sink = graph.add('buffersink')
    source.link_to(yadif)
    yadif.link_to(sink)
    graph.configure()
    for frame in frames:
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _pulled(graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def explain(error: Exception) -> str:
    """Returns the one line of an error that says what is wrong."""
    if isinstance(error, IndexError):
        return 'a stream begins in its midst'
    text = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return text.strip().splitlines()[-1][:160]


# ---- What is called from another process -------------------------------------------------


def open_clip(filename: str, short_side: int | None, threads: int) -> dict:
    """Opens a clip; returns ``total_frames``, ``fps`` and ``size`` of its decoder."""
    decoder = _opened(filename, short_side, threads, _identity(filename))
    return dict(total_frames=decoder.total_frames, fps=decoder.fps, size=decoder.size)


def read_frames(filename: str, short_side: int | None, threads: int,
                indices_N: Sequence[int]) -> tuple[None, list[np.ndarray]]:
    """Reads frames of a clip, as :meth:`Decoder.read` does."""
    decoder = _opened(filename, short_side, threads, _identity(filename))
    return None, [decoder.read(indices_N)]


def read_gray(filename: str, side: int) -> tuple[None, list[np.ndarray]]:
    """Reads every frame that can be decoded, as :meth:`.video.Video.read_gray` says."""
    decoder = _opened(filename, None, 1, _identity(filename))
    return None, [np.stack([
        frame.reformat(side, side, 'gray', interpolation='AREA').to_ndarray()
        for frame in islice(decoder.decode(deinterlace=False), MAX_FRAMES)])]


def _identity(filename: str) -> tuple | None:
    try:
        stat = os.stat(filename)
    except OSError:  # the decoder says what is wrong
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=1)  # a clip is read right after it was opened
def _opened(filename: str, short_side: int | None, threads: int, identity) -> Decoder:
    return Decoder(filename, short_side, threads)
