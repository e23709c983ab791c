"""Reads one clip to its end: its properties, its damage and what its frames show.

Training decodes only the frames that it needs, and decoders conceal damage where they can.
Here every packet is decoded, also those after a damaged one, and the errors that FFmpeg
conceals are counted. Runs in an isolated process (:mod:`hri30_ext.video.sandbox`).

Shapes: T frames, H height, W width, C colors, K hash side.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..utils.fileio import sha256_of
from .decode import MAX_PIXELS
from .decoding import DAMAGE, MAX_FRAMES, OPTIONS, explain, frame_rate, video_stream
from .resize import ACCURATE

#: Height and width in pixels of the thumbnails that frames are judged by.
SIDE = 64
#: Height and width in bits of the perceptual hash of a frame.
HASH_SIDE = 16

# The following limits were measured on thumbnails of 90 rendered clips of 720 x 480, 90 of
# 96 x 64, 30 as MJPEG, 12 as interlaced DV, and on 27 real clips of another kind.

#: A frame repeats the previous one if no value differs by more. A still worker in front
#: of a still background, with camera noise, differs by 3 and more; encoded copies by 1.
STILL_LEVELS = 2
#: A frame is black if 99 % of its values are lower. Clean clips reach 224 and more.
BLACK_LEVEL = 20
#: A frame has one color if the standard deviation of each is lower; clean clips have 34
#: and more.
BLANK_SPREAD = 2

_CHUNK = 32  # frames that are judged at once

# Parts of FFmpeg's messages about a Matroska and an MP4 file that was cut short.
_CUT = ('ended prematurely', 'partial file')

# The first message of a clip may repeat the last one of another clip.
av.logging.set_skip_repeated(False)


@dataclass
class Facts:
    """What is known of a clip after reading it to its end. Counts are of frames."""
    sha256: str = ''
    num_bytes: int = 0
    ends_early: bool = False  # the file was cut short
    problem: str = ''  # why it cannot be opened or decoded at all
    width: int = 0
    height: int = 0
    fps: float = 0
    announced: int = 0  # in the header; 0 where it has no number
    packets: int = 0  # that hold data and are meant to be shown
    frames: int = 0  # decoded
    before_damage: int = 0  # frames decoded before the first packet that fails
    damaged: int = 0  # packets that fail, or whose damage is concealed
    first_damage: str = ''
    cut_off: bool = False  # it is longer than MAX_FRAMES and was not read to its end
    blank: int = 0  # black, or of one color
    still: int = 0  # that repeat the previous one

    @property
    def seconds(self) -> float:
        """Length; 0 where the rate is unknown."""
        return self.frames / self.fps if self.fps else 0


def inspect_clip(filename: str) -> tuple[dict, list[np.ndarray]]:
    """Reads a clip to its end.

    Returns:
        tuple[dict, list[np.ndarray]]: The fields of :class:`Facts`, and one array, the
        (T, 32) uint8 hashes of the frames as :func:`hash_frames` returns them.
    """
    facts, grays, colors = Facts(), [], []
    # One reformatter for each format: setting one up takes longer than using it.
    to_gray, to_rgb = VideoReformatter(), VideoReformatter()
    small = dict(width=SIDE, height=SIDE, interpolation=Interpolation.AREA | ACCURATE)
    try:
        facts.num_bytes = os.path.getsize(filename)
        facts.sha256 = sha256_of(filename)
        av.logging.set_level(av.logging.ERROR)
        with av.logging.Capture() as messages, av.open(
                filename, options=OPTIONS) as container:
            for frame in _decode(container, facts, messages):
                grays.append(to_gray.reformat(frame, format='gray', **small).to_ndarray())
                colors.append(to_rgb.reformat(frame, format='rgb24', **small).to_ndarray())
    except DAMAGE as error:
        facts.problem = explain(error)
    finally:
        av.logging.set_level(None)  # as :mod:`.resize` sets it
    if not facts.frames and not facts.problem:
        facts.problem = facts.first_damage or 'it has no frames'
    _judge(facts, colors)
    return asdict(facts), [hash_frames(np.array(grays, np.uint8).reshape(-1, SIDE, SIDE))]


def _decode(container, facts: Facts, messages: list) -> Iterator[av.VideoFrame]:
    """Yields all frames of a clip, and fills in what is known of it."""
    stream = video_stream(container)
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f'frames of {stream.width} x {stream.height} pixels')
    context = stream.codec_context
    context.options = {'max_pixels': str(MAX_PIXELS)}
    # One thread: messages are attributed to the packet that is being decoded.
    stream.thread_count, stream.thread_type = 1, 'SLICE'
    kind = container.format.name
    facts.width, facts.height = stream.width, stream.height
    facts.fps = frame_rate(stream)
    facts.announced = stream.frames
    has_index = len(stream.index_entries) > 1
    if kind.startswith('matroska') and container.duration:
        facts.announced = round(container.duration / av.time_base * facts.fps)
    failed = False
    for packet in container.demux(stream):
        if facts.packets > MAX_FRAMES or facts.frames > MAX_FRAMES:
            facts.cut_off = True
            break
        facts.ends_early |= any(cut in text for _, _, text in messages for cut in _CUT)
        messages.clear()
        facts.packets += packet.size > 0 and not packet.is_discard
        damage, frames = '', []
        try:
            frames = packet.decode()
        except DAMAGE as error:
            damage, failed = explain(error), True
        if messages:  # a broken frame has one for each of its blocks
            damage = str(messages[0][2]).strip() or damage
        elif not damage and any(frame.is_corrupt for frame in frames):
            damage = 'a frame is marked as corrupt'
        facts.damaged += bool(damage)
        facts.first_damage = facts.first_damage or damage[:120]
        facts.before_damage += 0 if failed else len(frames)
        facts.frames += len(frames)
        yield from frames
    # The index of an AVI stands at its end.
    facts.ends_early |= kind == 'avi' and not has_index and facts.packets < facts.announced


def _judge(facts: Facts, thumbnails: list[np.ndarray]) -> None:
    """Counts frames that show nothing or repeat the previous one."""
    for start in range(0, len(thumbnails), _CHUNK):
        # One frame more than are judged, to compare it with the first of the next chunk.
        frames_THWC = np.array(thumbnails[start:start + _CHUNK + 1], np.int16)
        facts.blank += int(blank_frames(frames_THWC[:_CHUNK]).sum())
        facts.still += int(still_frames(frames_THWC).sum())


def blank_frames(frames_THWC: np.ndarray) -> np.ndarray:
    """Returns whether RGB thumbnails, int16, are black or of one color, (T, ) bool.

    >>> blank_frames(np.full((2, 64, 64, 3), [[[[0]]], [[[128]]]], np.int16)).tolist()
    [True, True]
    """
    # Color by color: numpy is slow along an axis of three.
    colors = [np.ascontiguousarray(frames_THWC[..., c]) for c in range(3)]
    black_T = (np.max(colors, axis=0) < BLACK_LEVEL).mean(axis=(1, 2)) > .99
    plain_T = np.all([values_THW.std(axis=(1, 2)) < BLANK_SPREAD for values_THW in colors],
                     axis=0)
    return black_T | plain_T


def still_frames(frames_THWC: np.ndarray) -> np.ndarray:
    """Returns whether each RGB thumbnail, int16, but the first repeats the previous one,
    (T - 1, ) bool.
    """
    return np.abs(np.diff(frames_THWC, axis=0)).max(axis=(1, 2, 3)) <= STILL_LEVELS


def hash_frames(grays_THW: np.ndarray) -> np.ndarray:
    """Computes the perceptual hash (pHash) of luma thumbnails, (T, 64, 64) uint8.

    A bit tells whether one of the 16 x 16 lowest frequencies of the discrete cosine
    transform exceeds their median.

    Returns:
        np.ndarray: (T, 32) uint8, 8 bits a byte.
    """
    frequency_K1, pixel_W = np.arange(HASH_SIDE)[:, None], np.arange(SIDE)
    basis_KW = np.cos(np.pi * frequency_K1 * (2 * pixel_W + 1) / (2 * SIDE))
    bits = np.zeros((len(grays_THW), HASH_SIDE**2), bool)
    for start in range(0, len(grays_THW), _CHUNK):
        low_TKK = basis_KW @ grays_THW[start:start + _CHUNK] @ basis_KW.T
        # Rounded, as a blank frame has rounding errors where the transform is zero.
        low = low_TKK.round(3).reshape(-1, HASH_SIDE**2)
        bits[start:start + _CHUNK] = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1)
