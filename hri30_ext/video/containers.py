"""The size that a video file declares, to detect files that were cut short.

FFmpeg reads an AVI, MP4 or DV file that was cut short up to its end and reports a shorter
clip. Their outermost chunks still declare the original size. For Matroska, FFmpeg reports
the cut itself.
"""

import os
from pathlib import Path
from typing import BinaryIO

#: Bytes of a frame of raw DV: of 525/60 (NTSC) and of 625/50 (PAL).
_DV_FRAME_BYTES = (120_000, 144_000)
_UNFINISHED = (0, 0xFFFFFFFF)  # RIFF sizes of a recording that was never finished
_BOXES = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip')


def declared_size(path: str | Path) -> int | None:
    """Returns the size in bytes that a video file had when it was written.

    Args:
        path (str | Path): AVI, MP4, MOV or raw DV.

    Returns:
        int | None: None for other files, and where the file does not tell.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, 'rb') as file:
        num_bytes = os.fstat(file.fileno()).st_size
        start = file.read(12)
        if start[:4] == b'RIFF' and start[8:] == b'AVI ':
            return _end_of_riff(file)
        if start[4:8] in _BOXES:
            return _end_of_boxes(file, num_bytes)
    if start[:3] == b'\x1f\x07\x00' and len(start) > 3:
        frame_bytes = _DV_FRAME_BYTES[start[3] >> 7]
        return -(-num_bytes // frame_bytes) * frame_bytes
    return None


def _end_of_riff(file: BinaryIO) -> int | None:
    """Returns the end of the last RIFF chunk; AVI files over 1 GB have several."""
    end = position = 0
    while (header := _read_at(file, position, 8))[:4] == b'RIFF' and len(header) == 8:
        size = int.from_bytes(header[4:], 'little')
        if size in _UNFINISHED:
            return None
        end = position + 8 + size
        position = end + size % 2
    return end


def _end_of_boxes(file: BinaryIO, num_bytes: int) -> int | None:
    """Returns the end of the last box of an MP4 or MOV file."""
    position = 0
    while position + 8 <= num_bytes:
        header = _read_at(file, position, 16)
        size = int.from_bytes(header[:4], 'big')
        if size == 1:  # a 64-bit size follows the name
            size = int.from_bytes(header[8:], 'big')
        if size == 0:  # the box lasts until the end of the file
            return None
        if size < 8:  # not a box
            return position or None
        position += size
    # Fewer than 8 bytes more are the start of another box.
    return position if position >= num_bytes else position + 8


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
