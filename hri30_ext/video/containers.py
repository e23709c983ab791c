"""What a video file promises of itself: how many bytes, and how many frames by its index.

A decoder reads a file that was cut short to its end and says nothing: a shorter clip comes
out. The container says how long it was meant to be. Only its outermost structure is read,
by the sizes in it, which are believed no further than the file is long.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: Bytes of a frame of raw DV: of 525/60 (NTSC) and of 625/50 (PAL).
_DV_FRAME_BYTES = (120_000, 144_000)
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of a RIFF file whose recording was never finished
_MAX_INDEX_BYTES = 2**26


class Promise(NamedTuple):
    """What :func:`read_promise` found; None where the file does not say."""
    num_bytes: int | None = None
    index_frames: int | None = None


def read_promise(path: str | Path) -> Promise:
    """Reads how long a video file was meant to be.

    Args:
        path (str | Path): AVI, MP4 and MOV, Matroska, or raw DV; others promise nothing.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, 'rb') as file:
        num_bytes = os.fstat(file.fileno()).st_size
        start = file.read(12)
        if start[:4] == b'RIFF' and start[8:] == b'AVI ':
            return _read_avi(file, num_bytes)
        if start[4:8] in (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip'):
            return Promise(_end_of_boxes(file, num_bytes))
        if start[:4] == b'\x1a\x45\xdf\xa3':
            return Promise(_end_of_segment(file))
        if start[:3] == b'\x1f\x07\x00' and len(start) > 3:
            frame = _DV_FRAME_BYTES[start[3] >> 7]
            return Promise(-(-num_bytes // frame) * frame)
    return Promise()


# ---- AVI --------------------------------------------------------------------------------


def _read_avi(file: BinaryIO, num_bytes: int) -> Promise:
    """Follows RIFF chunks, of which a file of more than a gigabyte has several."""
    end, position, index_frames, stream = 0, 0, None, None
    while (chunk := _chunk(file, position)) and chunk[0] == b'RIFF':
        size = chunk[1]
        if size in _UNKNOWN_SIZES:
            return Promise(None, None)
        end = position + 8 + size
        for name, start, length in _chunks(file, position + 12, min(end, num_bytes)):
            if name == b'LIST' and _bytes(file, start, 4) == b'hdrl' and stream is None:
                stream = _video_stream(file, start + 4, min(start + length, num_bytes))
            elif name == b'idx1' and stream is not None and index_frames is None:
                index_frames = _count_index(
                    _bytes(file, start, min(length, _MAX_INDEX_BYTES)), stream)
        position = end + size % 2
    return Promise(end or None, index_frames)


def _video_stream(file: BinaryIO, start: int, end: int) -> int | None:
    """Returns the number of the first video stream in a list of headers."""
    number = -1
    for name, inner, length in _chunks(file, start, end):
        if name == b'LIST' and _bytes(file, inner, 4) == b'strl':
            number += 1
            for header, place, _ in _chunks(file, inner + 4, inner + length):
                if header == b'strh' and _bytes(file, place, 4) == b'vids':
                    return number
    return None


def _count_index(index: bytes, stream: int) -> int:
    """Counts the frames of a stream in ``idx1``; those that were dropped have no bytes."""
    prefix = b'%02d' % stream
    return sum(name[:2] == prefix and size > 0
               for name, _, _, size in struct.iter_unpack(
                   '<4s3I', index[:len(index) // 16 * 16]))


def _chunks(file: BinaryIO, position: int, end: int):
    """Yields name, start and size of the chunks between two places."""
    while position + 8 <= end and (chunk := _chunk(file, position)):
        name, size = chunk
        yield name, position + 8, size
        position += 8 + size + size % 2


def _chunk(file: BinaryIO, position: int) -> tuple[bytes, int] | None:
    header = _bytes(file, position, 8)
    return struct.unpack('<4sI', header) if len(header) == 8 else None


def _bytes(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


# ---- Others -----------------------------------------------------------------------------


def _end_of_boxes(file: BinaryIO, num_bytes: int) -> int | None:
    """Returns where the last box of an MP4 or MOV file ends."""
    position = 0
    while position + 8 <= num_bytes:
        header = _bytes(file, position, 16)
        size = int.from_bytes(header[:4], 'big')
        if size == 1:  # the size stands in 64 bits behind the name
            size = int.from_bytes(header[8:], 'big')
        if size == 0:  # to the end, wherever that is
            return None
        if size < 8:  # no box
            return position or None
        position += size
    # A few bytes more are what is left of the next box.
    return position if position >= num_bytes else position + 8


def _end_of_segment(file: BinaryIO) -> int | None:
    """Returns where the segment of a Matroska file ends."""
    length, width = _variable(_bytes(file, 4, 8))
    if length is None:
        return None
    position = 4 + width + length
    if _bytes(file, position, 4) != b'\x18\x53\x80\x67':
        return None
    length, width = _variable(_bytes(file, position + 4, 8))
    return None if length is None else position + 4 + width + length


def _variable(content: bytes) -> tuple[int | None, int]:
    """Reads a number of Matroska and its width in bytes; None stands for unknown."""
    if not content or not content[0]:
        return None, 0
    width = 9 - content[0].bit_length()
    number = int.from_bytes(content[:width], 'big') & ((1 << 7 * width) - 1)
    return (None if number == (1 << 7 * width) - 1 else number), width
