"""One clip, read whole: what it holds, what is damaged, and what its frames look like.

Training decodes a clip only as far as it needs, and a decoder hides damage where it can.
Here every packet is decoded, also behind one that is broken, and what FFmpeg conceals is
counted. This runs in a process of its own (:mod:`hri30_ext.video.sandbox`).

Shapes: T frames, H height, W width.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..utils.fileio import sha256_of
from .containers import read_promise
from .decoding import MAX_FRAMES, MAX_PIXELS, OPTIONS, explain

#: Height and width of the small pictures that frames are judged by.
SIDE = 64

# What follows was measured on such pictures of 90 rendered clips of 720 x 480, 90 of
# 96 x 64, 30 as MJPEG, 12 as interlaced DV, and on 27 real clips of another kind.

#: A frame repeats the one before it if no value differs by more. A still worker before a
#: still background, with the noise of a camera: 3 and more. Copies, encoded: 1 at most.
STILL_LEVELS = 2
#: Frames, two thirds of a second. A still stretch is found by most of them, not all: where
#: an encoder begins anew, every twelfth frame or so, the picture changes a little.
STILL_WINDOW = 20
#: A frame is black if 99 % of its values are lower. Clean clips: 224 and more.
BLACK_LEVEL = 20
#: A frame is blank if its values spread less, as a standard deviation of each colour; clean
#: clips: 34 and more.
BLANK_SPREAD = 2
#: YUV zeros, which a decoder leaves where it has nothing, are this green in RGB. Cameras
#: see none of it: clean clips have no row of it.
GREEN_RGB = (0, 135, 0)
_GREEN_TOLERANCE = 30
#: Share of a frame's rows that make it a green one.
GREEN_ROWS = .1

_TOGETHER = 32  # frames that are judged at once


@dataclass
class Facts:
    """What is known of a clip that was read whole. Counts are of frames."""
    sha256: str = ''
    num_bytes: int = 0
    promised_bytes: int | None = None
    problem: str = ''  # why it cannot be opened, or cannot be decoded at all
    container: str = ''
    codec: str = ''
    pixel_format: str = ''
    width: int = 0
    height: int = 0
    fps: float = 0
    announced: int = 0  # by the header; 0 where it says nothing
    index_frames: int | None = None
    packets: int = 0  # that hold something, and are meant to be shown
    frames: int = 0  # decoded
    before_damage: int = 0  # frames decoded before the first packet that fails
    damaged: int = 0  # packets that fail, or whose damage is concealed
    first_damage: str = ''
    cut_off: bool = False  # it is longer than is ever read
    interlaced: int = 0
    black: int = 0
    green: int = 0
    blank: int = 0  # of one colour, neither of these
    still: int = 0  # like the one before
    most_still: int = 0  # the most of them among STILL_WINDOW frames in a row

    @property
    def seconds(self) -> float:
        """Length; 0 where the rate is unknown."""
        return self.frames / self.fps if self.fps else 0


def inspect_clip(filename: str) -> tuple[dict, list[np.ndarray]]:
    """Reads a clip to its end.

    Returns:
        tuple[dict, list[np.ndarray]]: :class:`Facts`, and (T, 64, 64) uint8 luma of the
        frames, as :meth:`.video.Video.read_gray` has it, to compare clips by.
    """
    facts, looks = Facts(), _Looks()
    try:
        facts.num_bytes = os.path.getsize(filename)
        facts.sha256 = sha256_of(filename)
        facts.promised_bytes, facts.index_frames = read_promise(filename)
        with av.open(filename, options=OPTIONS) as container:
            _read_stream(container, facts, looks)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        facts.problem = explain(error)
    if not facts.frames and not facts.problem:
        facts.problem = facts.first_damage or 'it has no frames'
    looks.tell(facts)
    return asdict(facts), [looks.gray()]


def _read_stream(container, facts: Facts, looks: '_Looks') -> None:
    if not container.streams.video:
        raise ValueError('it has no video')
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f'frames of {stream.width} x {stream.height} pixels')
    context = stream.codec_context
    context.options = {'max_pixels': str(MAX_PIXELS)}
    # In this thread alone: messages are taken for those of the packet at hand.
    stream.thread_count, stream.thread_type = 1, 'SLICE'
    facts.container = container.format.name
    facts.codec, facts.pixel_format = context.name, context.pix_fmt or ''
    facts.width, facts.height = stream.width, stream.height
    facts.fps = float(stream.average_rate or 0)
    facts.announced = stream.frames
    for frames in _decode_packets(container, stream, facts):
        for frame in frames:
            facts.frames += 1
            facts.interlaced += bool(frame.interlaced_frame)
            looks.see(frame)
        if facts.packets > MAX_FRAMES or facts.frames > MAX_FRAMES:
            facts.cut_off = True
            break


def _decode_packets(container, stream, facts: Facts) -> Iterator[list[av.VideoFrame]]:
    """Yields the frames of each packet, and counts those that are damaged."""
    level = av.logging.get_level()
    repeated = av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the first of this clip may repeat another's last
    failed = False
    try:
        with av.logging.Capture() as messages:
            for packet in container.demux(stream):
                messages.clear()  # a broken frame has one for each of its blocks
                facts.packets += packet.size > 0 and not packet.is_discard
                damage, frames = '', []
                try:
                    frames = packet.decode()
                except (av.FFmpegError, OSError, ValueError) as error:
                    damage, failed = explain(error), True
                if messages:
                    damage = str(messages[0][2]).strip() or damage
                elif not damage and any(frame.is_corrupt for frame in frames):
                    damage = 'a frame is marked as corrupt'
                facts.damaged += bool(damage)
                facts.first_damage = facts.first_damage or damage[:120]
                facts.before_damage += 0 if failed else len(frames)
                yield frames
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)


class _Looks:
    """Judges frames as they come, by small pictures of them."""

    def __init__(self) -> None:
        # A reformatter of its own for each form: setting one up takes longer than its use.
        self._to_gray, self._to_rgb = VideoReformatter(), VideoReformatter()
        self._gray: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []
        self._last: np.ndarray | None = None
        self._recent: deque[bool] = deque(maxlen=STILL_WINDOW)
        self._counts = dict(black=0, green=0, blank=0, still=0, most_still=0)

    def see(self, frame: av.VideoFrame) -> None:
        """Takes the next frame."""
        form = dict(width=SIDE, height=SIDE, interpolation='AREA')
        self._gray.append(
            self._to_gray.reformat(frame, format='gray', **form).to_ndarray())
        self._waiting.append(
            self._to_rgb.reformat(frame, format='rgb24', **form).to_ndarray())
        if len(self._waiting) == _TOGETHER:
            self._judge()

    def _judge(self) -> None:
        frames_THWC = np.stack(self._waiting).astype(np.int16)
        self._waiting.clear()
        for kind in judge_frames(frames_THWC):
            if kind:
                self._counts[kind] += 1
        before = frames_THWC[:1] + 255 if self._last is None else self._last
        for still in still_frames(np.concatenate([before, frames_THWC])):
            self._recent.append(bool(still))
            self._counts['still'] += int(still)
            self._counts['most_still'] = max(self._counts['most_still'], sum(self._recent))
        self._last = frames_THWC[-1:]

    def tell(self, facts: Facts) -> None:
        """Writes what was seen."""
        if self._waiting:
            self._judge()
        for name, count in self._counts.items():
            setattr(facts, name, count)

    def gray(self) -> np.ndarray:
        """Returns the frames, (T, 64, 64) uint8."""
        return np.stack(self._gray) if self._gray else np.zeros((0, SIDE, SIDE), np.uint8)


def judge_frames(frames_THWC: np.ndarray) -> list[str]:
    """Says what each frame is: ``black``, ``green``, ``blank``, or, as most, nothing.

    >>> judge_frames(np.full((2, 64, 64, 3), [[[[0]]], [[[128]]]], np.int16))
    ['black', 'blank']

    Args:
        frames_THWC (np.ndarray): Small pictures of them, int16 RGB.
    """
    # Colour by colour: numpy is slow along an axis of three.
    colours = [np.ascontiguousarray(frames_THWC[..., c]) for c in range(3)]
    green_THW, lightest_THW = np.True_, np.int16(0)
    for values_THW, expected in zip(colours, GREEN_RGB):
        green_THW = green_THW & (np.abs(values_THW - expected) <= _GREEN_TOLERANCE)
        lightest_THW = np.maximum(lightest_THW, values_THW)
    green_T = (green_THW.mean(axis=2) > .95).mean(axis=1) >= GREEN_ROWS
    black_T = (lightest_THW < BLACK_LEVEL).mean(axis=(1, 2)) > .99
    blank_T = np.all([values_THW.std(axis=(1, 2)) < BLANK_SPREAD
                      for values_THW in colours], axis=0)
    return ['green' if green else 'black' if black else 'blank' if blank else ''
            for green, black, blank in zip(green_T, black_T, blank_T)]


def still_frames(frames_THWC: np.ndarray) -> np.ndarray:
    """Says of each frame but the first whether it repeats the one before, (T - 1, ) bool.

    Args:
        frames_THWC (np.ndarray): Small pictures of them, int16 RGB.
    """
    return np.abs(np.diff(frames_THWC, axis=0)).max(axis=(1, 2, 3)) <= STILL_LEVELS
