"""Decoding clips: one pass, only the needed frames, de-interlaced and upright.

For untrusted files this runs in a process of its own, behind
:class:`~hri30_ext.video.decode.Video`, which survives a file that crashes or hangs a
decoder.

The clips of HRI30 take a second or two. A decoder that seeks, as decord does for
mmaction2's ``DecordDecode``, decodes parts of them more than once. Here a clip is decoded
from its first frame to the last one needed, and only needed frames become RGB, at once in
the size that is read.

Shapes: N frames read, V views of a clip, T frames of a view, H height, W width.
"""

import contextlib
import math
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, islice
from pathlib import Path

import av
import msgspec
import numpy as np
from av.sidedata.sidedata import SideDataContainer

from ..names import split_part
from .decode import MAX_PIXELS, Clip, ClipError
from .jpeg import decode_jpeg
from .preprocessing import Preprocessing
from .resize import shrunk_size, to_rgb

#: Frames of a clip: more than 10 minutes.
MAX_FRAMES = 20_000

#: For opening files. A playlist named like a clip (ffconcat, HLS) would have FFmpeg open
#: other files and addresses, so only containers that hold pictures are read, from a disk.
OPTIONS = {
    'format_whitelist': 'avi,mov,matroska,mpeg,mpegts,mpegvideo,m4v,dv,h264,hevc,asf,flv,'
                        'ogg,mxf,ivf,gif,mjpeg,yuv4mpegpipe',
    'protocol_whitelist': 'file',
}

# Share of the frames announced that may be missing at the end: a clip that was cut in its
# last frames, or counts packed B-frames twice.
_MISSING_ALLOWED = 0.1

# IndexError: PyAV knows no stream that begins in the middle of a file, as the sound of a
# damaged DV file may (InputContainer.demux, seen in av 18.1).
DAMAGE = (av.FFmpegError, OSError, ValueError, IndexError)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip may have at most."""
    max_pixels: int = MAX_PIXELS  # of a frame
    max_frames: int = MAX_FRAMES
    max_seconds: float = math.inf
    max_bytes: int = 2**30  # of the frames read at once


class Decoder(Clip):
    """Decodes a clip on disk, in this process.

    Args:
        filename (str | Path): A video in any format that FFmpeg reads, or a part of it,
            see :func:`hri30_ext.names.name_part`: frames from its start to before its end.

    Attributes:
        total_frames (int): Counted from the packets.
        seconds (float): Time of the last frame after the first.
        fps (float): Frames a second; 0 where unknown.
        size (tuple[int, int]): Width and height in pixels of the frames that are read: of
            the upright first frame, until another size is set.

    Raises:
        ClipError: the file is not a video, has no frame that can be decoded, or exceeds a
            limit; the number of frames and their bytes are checked when they are needed.
    """

    def __init__(self, filename: str | Path, limits: Limits | None = None,
                 threads: int = 1) -> None:
        self.filename, self.threads = str(filename), threads
        self._path, self._part = split_part(self.filename)
        self.limits = limits or Limits()
        self.fps, self._damage, self._matrix = 0., '', None
        frames = self._decode()
        first = next(frames)
        self.size = self._turned(first.width, first.height)
        # The first reading goes on from here.
        self._opened: Iterator[av.VideoFrame] | None = chain([first], frames)

    total_frames = property(lambda self: self._length[0])
    seconds = property(lambda self: self._length[1])

    @cached_property
    def _length(self) -> tuple[int, float]:
        # Counting packets decodes nothing: a third of a millisecond for a clip.
        most, times, count = self.limits.max_frames, [], 0
        with self._open() as (container, stream):
            for packet in islice(container.demux(stream), 2 * most + 2):
                if self._compare(packet.dts, stream) > 0:
                    break
                if packet.size and not packet.is_discard and not self._compare(
                        packet.pts, stream):
                    count += 1
                    if packet.pts is not None:
                        times.append(packet.pts)
            seconds = float((max(times) - min(times)) * stream.time_base) if times else 0.
        seconds = max(seconds, (count - 1) / self.fps if self.fps else 0)
        if not count:
            raise self._error('it has no frames', 'not_a_video')
        if count > most:
            raise self._error(f'it has more than {most:,} frames', 'too_long')
        if seconds > self.limits.max_seconds:
            raise self._error(f'it is longer than {self.limits.max_seconds:g} seconds',
                              'too_long')
        return count, seconds

    def _read(self, positions: list[int]) -> np.ndarray:
        (width, height), done = self.size, 0
        if 3 * width * height * len(positions) > self.limits.max_bytes:
            most = f'{self.limits.max_bytes / 2**30:.3g} GiB'
            raise self._error(f'{len(positions)} frames of {width} x {height} pixels take '
                              f'more than {most}', 'too_long')
        frames_NHWC = np.empty((len(positions), height, width, 3), np.uint8)
        for position, frame in self._numbered():
            if position < positions[done]:
                continue
            # The last frame may stand for several positions.
            end = bisect_right(positions, position)
            frames_NHWC[done:end], done = self._to_rgb(frame), end
            if done == len(positions):
                break
        return frames_NHWC

    def frames(self) -> Iterator[tuple[np.ndarray, float | None]]:
        """Yields every frame, (H, W, 3) uint8 RGB, and its time in the file in seconds."""
        for frame in self._from_start():
            yield self._to_rgb(frame), frame.time

    def _numbered(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yields positions and frames, at the end the last one for all that are missing."""
        for position, frame in enumerate(self._from_start()):
            yield position, frame
        if position + 1 < (1 - _MISSING_ALLOWED) * self.total_frames:
            raise self._error(f'{position + 1} of its {self.total_frames} frames can be '
                              f'decoded{self._damage and ": " + self._damage}')
        yield self.total_frames, frame

    def _from_start(self) -> Iterator[av.VideoFrame]:
        frames, self._opened = self._opened or self._decode(), None
        return frames

    def _container(self):
        # Absolute: what stands before a colon would name a protocol.
        return av.open(os.path.abspath(self._path), options=OPTIONS)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple]:
        """Opens the file; yields the container and its stream of video."""
        with contextlib.ExitStack() as stack:
            try:
                container = stack.enter_context(self._container())
                stream = video_stream(container)
            except DAMAGE as error:
                raise self._error(explain(error), 'not_a_video') from error
            self._check_pixels(stream)
            try:
                if self._part:
                    self._seek(container, stream)
                yield container, stream
            except DAMAGE as error:
                raise self._error(explain(error)) from error

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yields frames, at least one, to the end or to what cannot be decoded."""
        with self._open() as (container, stream):
            self.fps = frame_rate(stream)
            # FFmpeg counts some padding.
            stream.codec_context.options = {
                'max_pixels': str(2 * self.limits.max_pixels + 2**16)}
            stream.thread_type = 'AUTO' if self.threads > 1 else 'SLICE'
            stream.thread_count = self.threads
            decode = _decode_with_times if has_guessed_times(container, stream) else (
                av.container.InputContainer.decode)
            frames = self._until_damage(decode(container, stream))
            first = next(frames, None)
            if first is None:
                raise self._error(self._damage or 'no frame of it can be decoded',
                                  'not_a_video')
            # Not first.side_data, which refers to the frame and the frame to it: both stay
            # until Python collects garbage, which takes a hundred clips.
            self._matrix = SideDataContainer(first).get('DISPLAYMATRIX')
            frames = chain([first], frames)
            yield from (_deinterlace(frames, stream) if first.interlaced_frame else frames)

    def _until_damage(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        self._damage = ''
        try:
            for frame in frames:
                self._check_pixels(frame)  # a stream may grow on the way
                where = self._compare(frame.pts, frame)
                if where > 0:
                    return
                if where == 0:
                    yield frame
        except DAMAGE as error:
            self._damage = explain(error)

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        return upright(to_rgb(frame, *self._turned(*self.size)), self._matrix)

    def _turned(self, width: int, height: int) -> tuple[int, int]:
        """Returns the size of upright frames for that of stored ones, and the reverse."""
        shape = upright(np.empty((height, width, 0)), self._matrix).shape
        return shape[1], shape[0]

    def _seek(self, container, stream) -> None:
        """Goes to a keyframe before the part."""
        rate = frame_rate(stream) or 10
        # AVI files announce 0, where reordered frames begin later.
        first = next(container.demux(stream)).pts
        self._begin = max(first or 0, stream.start_time or 0) * stream.time_base
        length = float(stream.duration * stream.time_base if stream.duration
                       else (container.duration or math.inf) / av.time_base)
        start, end = self._part
        # MPEG has neither an exact length nor an index of keyframes.
        is_vague = container.format.name in ('mpeg', 'mpegts')
        if not start < end <= length + (1 if is_vague else 1 / rate):
            raise self._error(f'the part from {start:g} to {end:g} s is not within the '
                              f'{length:.2f} s of the recording', 'outside')
        # The index may have times of decoding, up to 16 frames before a keyframe is shown.
        may_reorder = stream.codec_context.has_b_frames or container.format.name == 'avi'
        start += self._begin - (10 if is_vague else 16 / rate if may_reorder else 0)
        container.seek(max(0, int(start / stream.time_base)), stream=stream)

    def _compare(self, time: int | None, of) -> int:
        """Returns -1, 0 or 1 for a time before, within or after the part."""
        if self._part is None or time is None:
            return 0
        # Half a millisecond: times in tables are rounded.
        seconds = float(time * of.time_base - self._begin) + .0005
        return (seconds >= self._part[1]) - (seconds < self._part[0])

    def _check_pixels(self, picture) -> None:
        width, height, most = picture.width, picture.height, self.limits.max_pixels
        if width * height > most:
            raise self._error(f'frames of {width} x {height} pixels: expected at most '
                              f'{most:,} pixels', 'frame_too_large')

    def _error(self, reason: str, code: str = 'damaged') -> ClipError:
        return ClipError(self.filename, reason, code)


class CameraDecoder(Decoder):
    """Decodes a camera of this machine, ``/dev/video0``, or a stream such as ``rtsp://...``.

    Its frames are those of :meth:`frames`; they end where nothing more comes.
    """

    def _container(self):
        # Seconds until a silent server is given up.
        return av.open(self.filename, timeout=10, options={'rtsp_transport': 'tcp'},
                       format='v4l2' if self.filename.startswith('/dev/') else None)


def _deinterlace(frames: Iterator[av.VideoFrame], stream) -> Iterator[av.VideoFrame]:
    """Rebuilds each frame from one of its fields and its neighbours, by FFmpeg's yadif.

    Every other line of an interlaced frame was taken a sixtieth of a second later, so that
    edges of what moves are combs, the more the faster it is. As many frames come out.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(template=stream, time_base=stream.time_base)
    yadif = graph.add('yadif', 'mode=send_frame:deint=interlaced')
    sink = graph.add('buffersink')
    source.link_to(yadif)
    yadif.link_to(sink)
    graph.configure()
    for frame in chain(frames, [None]):
        graph.push(frame)
        while True:
            try:
                yield graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break


def has_guessed_times(container, stream) -> bool:
    """Whether frames have the times at which they are decoded. AVI files have no times, and
    FFmpeg computes those of H.264 and HEVC as if they were stored in order.
    """
    codec = stream.codec_context
    return (container.format.name == 'avi' and codec.name in ('h264', 'hevc')
            and codec.has_b_frames)


def _decode_with_times(container, stream) -> Iterator[av.VideoFrame]:
    """Yields frames with the times at which they are shown, where times are guessed.

    Guessed times ascend in the order of the file, so that the nth frame that is shown has
    the nth of them.
    """
    times: deque[int | None] = deque()

    def decode() -> Iterator[av.VideoFrame]:
        for packet in container.demux(stream):
            if packet.size:
                times.append(packet.pts)
            yield from packet.decode()

    frames, head, damage = decode(), [], None
    try:
        for frame in islice(frames, 18):  # more than codecs reorder by
            head.append(frame)
    except DAMAGE as error:
        damage = error
    later = min((frame.pts for frame in head[1:] if frame.pts is not None), default=0)
    # After seeking, frames that need those before the keyframe are not decoded.
    while len(times) > 1 and (times[1] or later) < later:
        times.popleft()
    for frame in chain(head, frames):
        frame.pts = times.popleft() if times else None
        yield frame
    if damage:
        raise damage


def upright(image_HWC: np.ndarray, matrix: bytes | None) -> np.ndarray:
    """Returns a view of a frame, turned to the nearest right angle.

    Phones store frames as the sensor sees them, and beside them how to turn them: nine
    int32 of FFmpeg, by which a stored point (x, y) is shown at (a x + c y, b x + d y).
    """
    if matrix is None or len(bytes(matrix)) != 36:
        return image_HWC
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image_HWC, a, d = image_HWC.swapaxes(0, 1), c, b
    return image_HWC[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]


def video_stream(container):
    """Returns the stream of video of a container; ValueError if there is none to decode."""
    if not container.streams.video:
        raise ValueError('it has no pictures')
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ValueError('its codec is not known')
    return stream


def frame_rate(stream) -> float:
    """Returns frames a second; 0 where unknown. Of raw DV the average is no rate."""
    return float(next((rate for rate in (stream.average_rate, stream.guessed_rate)
                       if rate and rate <= 1000), 0))


def explain(error: Exception) -> str:
    """Returns the one line of an error that says what is wrong."""
    if isinstance(error, IndexError):
        return 'a stream begins in its middle'
    text = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return text.strip().splitlines()[-1][:160]


# ---- What is called from another process -------------------------------------------------


def open_clip(filename: str, short_side: int | None, threads: int) -> dict:
    """Opens a clip; returns ``total_frames``, ``fps`` and ``size`` as Video has them."""
    decoder = _opened(filename, short_side, threads, _identity(filename))
    return dict(total_frames=decoder.total_frames, fps=decoder.fps, size=decoder.size)


def read_frames(filename: str, short_side: int | None, threads: int,
                positions: Sequence[int]) -> tuple[None, list[np.ndarray]]:
    """Reads frames of a clip, as :meth:`.decode.Video.read` does."""
    decoder = _opened(filename, short_side, threads, _identity(filename))
    return None, [decoder.read(positions)]


def read_views(filename: str, limits: Mapping, preprocessing: Mapping
               ) -> tuple[dict, list[np.ndarray]]:
    """Reads what a model takes of a clip; limits and preprocessing are in JSON.

    Returns:
        tuple[dict, list[np.ndarray]]: ``frames``, ``width``, ``height``, ``fps`` and
        ``seconds`` of the clip; and the views, (V, T, H, W, 3) uint8 RGB.
    """
    decoder = Decoder(filename, Limits(**limits))
    steps = msgspec.convert(preprocessing, Preprocessing)
    width, height = decoder.size
    facts = dict(frames=decoder.total_frames, width=width, height=height,
                 fps=round(decoder.fps, 3), seconds=round(decoder.seconds, 3))
    decoder.size = shrunk_size(width, height, steps.short_side)
    return facts, [steps.views(decoder.read(steps.indices(decoder.total_frames)))]


def read_seconds(filename: str) -> float:
    """Returns the length of a clip by its header, or of a part by its name."""
    path, part = split_part(filename)
    if part:
        return part[1] - part[0]
    with av.open(path, options=OPTIONS) as container:
        stream = container.streams.video[0]
        if stream.frames and stream.average_rate:
            return float(stream.frames / stream.average_rate)
        return float(stream.duration * stream.time_base)


def read_jpeg(max_pixels: int, data: bytes) -> tuple[None, list[np.ndarray]]:
    """Decodes a JPEG, as :func:`.jpeg.decode_jpeg` does."""
    return None, [decode_jpeg(data, max_pixels)]


def _identity(filename: str) -> tuple | None:
    with contextlib.suppress(OSError):  # the decoder says what is wrong
        stat = os.stat(split_part(filename)[0])
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=1)  # a clip is read right after it was opened
def _opened(filename: str, short_side: int | None, threads: int, identity) -> Decoder:
    decoder = Decoder(filename, threads=threads)
    decoder.size = shrunk_size(*decoder.size, short_side)
    return decoder
