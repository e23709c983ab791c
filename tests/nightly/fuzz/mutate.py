"""Small videos of the kinds that HRI30 and its users have, and damage to them.

Some damage uses the structure of the container: an edited size or a swapped chunk gets
further into a demuxer than noise does. The same generator gives the same damage.
"""

import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from clip_files import write

from hri30_ext.synthetic.render import render_clip
from hri30_ext.synthetic.video import write_video

_SIZE, _FRAMES = (96, 64), 24
_DV_FRAMES = 3  # of 120 kB each

#: Values for a size, a count or a dimension: limits of types, and wrong ones.
_NUMBERS = (0, 1, 2, 7, 8, 255, 256, 8191, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def seed_videos(folder: str | Path) -> list[Path]:
    """Renders the clips to damage.

    Args:
        folder (str | Path): Their folder; created if missing.

    Returns:
        list[Path]: MPEG-4 and motion JPEG in AVI, H.264 and MPEG-4 in MP4, of 24 frames;
        DV as a bare stream and in AVI, of 3.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frames = render_clip(1, 0, 0, size=_SIZE)[:_FRAMES]
    wide = render_clip(2, 0, 0)[:_DV_FRAMES]
    paths = [folder / name for name in ('dv.avi', 'h264.mp4', 'mjpeg.avi', 'mpeg4.avi',
                                        'mpeg4.mp4', 'stream.dv')]
    dv_avi, h264_mp4, mjpeg_avi, mpeg4_avi, mpeg4_mp4, dv = paths
    write_video(wide, dv_avi, 'dv')
    write(h264_mp4, frames, 'libx264')
    write_video(frames, mjpeg_avi, 'mjpeg')
    write_video(frames, mpeg4_avi, 'mpeg4')
    write(mpeg4_mp4, frames)
    _write_dv(wide, dv)
    return paths


def _write_dv(frames: np.ndarray, path: Path) -> None:
    """Writes a bare DV stream, which is just a sequence of frames."""
    codec = av.CodecContext.create('dvvideo', 'w')
    codec.width, codec.height, codec.pix_fmt = 720, 480, 'yuv411p'
    codec.time_base = Fraction(1001, 30000)
    with open(path, 'wb') as file:
        for position, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame), format='rgb24').reformat(format='yuv411p')
            picture.pts = position
            for packet in codec.encode(picture):
                file.write(bytes(packet))


# ---- Damage -----------------------------------------------------------------------------


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damages a file in one to four ways.

    Args:
        data (bytes): An intact file.
        rng (random.Random): Chooses kind, place and amount.

    Returns:
        bytes: The damaged file, which by chance may be the same.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = bytes(rng.choice(_DAMAGES)(bytearray(data), rng))
    return data


def _flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _run(data, rng)
    fill = rng.choice((b'\0', b'\xff', None))
    data[start:end] = rng.randbytes(end - start) if fill is None else fill * (end - start)
    return data


def _truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[:rng.randrange(len(data) + 1)]


def _remove(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _run(data, rng)
    del data[start:end]
    return data


def _repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _run(data, rng)
    data[end:end] = data[start:end] * rng.choice((1, 1, 3, 40))
    return data


def _insert(data: bytearray, rng: random.Random) -> bytearray:
    place = _place(data, rng)
    data[place:place] = rng.randbytes(rng.choice((1, 3, 4, 100, 5000)))
    return data


def _concatenate(data: bytearray, rng: random.Random) -> bytearray:
    return data + data[rng.choice((0, 0, rng.randrange(len(data) + 1))):]


def _set_number(data: bytearray, rng: random.Random) -> bytearray:
    """Sets four bytes anywhere to a number that may break a parser."""
    if len(data) >= 4:
        place = min(_place(data, rng), len(data) - 4)
        struct.pack_into(rng.choice('<>') + 'I', data, place, rng.choice(_NUMBERS))
    return data


def _set_size(data: bytearray, rng: random.Random) -> bytearray:
    """Gives a chunk a wrong size."""
    chunks = find_chunks(data)
    if not chunks:
        return _set_number(data, rng)
    start, end, field, order = rng.choice(chunks)
    size = (end - start + rng.choice((-9, -8, -1, 1, 8)) if rng.random() < 0.5
            else rng.choice(_NUMBERS))
    struct.pack_into(order + 'I', data, field, size % 2**32)
    return data


def _swap_chunks(data: bytearray, rng: random.Random) -> bytearray:
    chunks = find_chunks(data)
    if len(chunks) < 2:
        return _remove(data, rng)
    (start, end, *_), (next_start, next_end, *_) = sorted(rng.sample(chunks, 2))
    if next_start < end:  # the inner chunk replaces the outer one
        return data[:start] + data[next_start:next_end] + data[end:]
    return (data[:start] + data[next_start:next_end] + data[end:next_start]
            + data[start:end] + data[next_end:])


def _rename_chunk(data: bytearray, rng: random.Random) -> bytearray:
    chunks = find_chunks(data)
    if len(chunks) < 2:
        return _flip_bits(data, rng)
    names = [field - 4 if order == '<' else field + 4 for _, _, field, order in chunks]
    source, target = rng.sample(names, 2)
    data[target:target + 4] = data[source:source + 4]
    return data


_DAMAGES = (_flip_bits, _overwrite, _truncate, _remove, _repeat, _insert, _concatenate,
            _set_number, _set_size, _set_size, _swap_chunks, _rename_chunk)


def _place(data: bytearray, rng: random.Random) -> int:
    """Chooses a position: as often in the headers at both ends as in the content."""
    near = rng.choice((len(data), min(len(data), 2048)))
    offset = rng.randrange(max(1, near))
    return offset if rng.random() < 0.8 else max(0, len(data) - 1 - offset)


def _run(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 256, 4096, 65536)))


def find_chunks(data: bytes) -> list[tuple[int, int, int, str]]:
    """Finds the chunks of an AVI or the boxes of an MP4, nested ones included.

    Args:
        data (bytes): A file, possibly damaged.

    Returns:
        list[tuple[int, int, int, str]]: Start, end, position of the four bytes of the size,
        and their byte order as in :mod:`struct`, of each. Empty for other files.
    """
    chunks: list[tuple[int, int, int, str]] = []
    if data[:4] == b'RIFF':
        _walk(data, 0, len(data), chunks, '<')
    elif data[4:8] in (b'ftyp', b'moov', b'mdat', b'free'):
        _walk(data, 0, len(data), chunks, '>')
    return chunks


_PARENTS = {b'RIFF': 12, b'LIST': 12, b'moov': 8, b'trak': 8, b'mdia': 8, b'minf': 8,
            b'stbl': 8, b'dinf': 8, b'edts': 8, b'udta': 8, b'stsd': 16}


def _walk(data: bytes, place: int, end: int, chunks: list, order: str) -> None:
    while place + 8 <= end and len(chunks) < 10_000:
        name, field = ((data[place:place + 4], place + 4) if order == '<'
                       else (data[place + 4:place + 8], place))
        size, = struct.unpack_from(order + 'I', data, field)
        if order == '<':
            size += 8 + size % 2
        if size < 8 or place + size > end:
            return
        chunks.append((place, place + size, field, order))
        if bytes(name) in _PARENTS:
            _walk(data, place + _PARENTS[bytes(name)], place + size, chunks, order)
        place += size
