"""Decoded clips on disk, so that no clip is decoded twice.

Reading 8 frames of 384 x 256 pixels takes about a memory copy from the raw form, ``memmap``
(0.3 MB a frame), and a JPEG decode from the small one, ``jpeg``.

An entry is one file, named by a hash of its source's path and of what decides its pixels::

    header    a multiple of 4096 bytes: magic, CRC-32 and length of the JSON text that
              follows (see Header), zeros
    frames    memmap: uint8 RGB, (T, H, W, 3); jpeg: one JPEG after another

Anything can read the raw form:
``np.memmap(entry, np.uint8, 'r', offset=header size, shape=(T, H, W, 3))``.

Shapes: T frames of a clip, H height, W width.
"""

import contextlib
import hashlib
import math
import mmap
import os
import re
import shutil
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from tqdm import tqdm

from ..errors import HRI30Error
from ..names import split_part
from ..utils.fileio import DiskFull, atomic_path, check_writable
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from .decode import Clip, ClipError, Video
from .jpeg import decode_jpeg, encode_jpeg

FORMS = ('memmap', 'jpeg')

#: Raised whenever entries are written in another way, or Video decodes other pixels: what
#: is interlaced, how it is de-interlaced, how frames are scaled.
_VERSION = 3

_PREFIX = struct.Struct('<8sII')  # magic; CRC-32 of the rest of the header; JSON bytes
_MAGIC = b'HRI30cl2'
_PAGE = 4096
_MAX_HEADER = 2**20  # bytes; a clip of 20,000 JPEGs has a seventh of it
_ENTRY_NAME = re.compile(r'[0-9a-f]{32}\.clip')
# atomic_path's temporary files. One that is older than writing a clip takes was left by a
# process that was killed.
_LEFTOVER_NAME = re.compile(r'\.[0-9a-f]{32}-.*\.clip')
_LEFTOVER_SECONDS = 3600

_ADVICE = ('Free some space, choose another folder (cache_dir), use the small jpeg form '
           '(clip_cache=jpeg), or no cache (clip_cache=None).')

_SAMPLED_CLIPS, _SAMPLED_FRAMES = 8, 3

# Of JPEGs: with colours at half the width, errors of 1.3 grey levels on average on rendered
# clips, and of more than 10 for one pixel in a hundred; 95 with colours at half width and
# height is no better, and larger.
_QUALITY = 90

_Count = Annotated[int, msgspec.Meta(ge=1)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first pages of an entry."""
    parameters: str  # version, form, short side and quality of the cache
    source: str  # path of the clip; its bytes as Latin-1, as it may not be text
    source_size: int  # bytes
    source_time: int  # when it was changed, nanoseconds
    shape: tuple[_Count, _Count, _Count]  # T, H, W
    jpeg_sizes: list[_Count] | None  # bytes of each frame; None in the raw form

    def pack(self) -> bytes:
        """Returns what :meth:`read` reads."""
        text = msgspec.json.encode(self)
        size = _round_up(len(text))
        rest = text.ljust(size - _PREFIX.size, b'\0')
        return _PREFIX.pack(_MAGIC, zlib.crc32(rest, len(text)), len(text)) + rest

    @classmethod
    def read(cls, file) -> tuple['Header | None', int]:
        """Reads the header of an open, unbuffered file, and its size in bytes; None where
        the file is not a whole entry.
        """
        content = file.read(_PAGE).ljust(_PAGE, b'\0')
        magic, crc, length = _PREFIX.unpack_from(content)
        if magic == _MAGIC and length <= _MAX_HEADER:
            size = _round_up(length)
            rest = content[_PREFIX.size:] + file.read(size - _PAGE)
            if zlib.crc32(rest, length) == crc:
                with contextlib.suppress(msgspec.DecodeError):
                    header = msgspec.json.decode(rest[:length], type=cls)
                    if size + header._frame_bytes() == os.fstat(file.fileno()).st_size:
                        return header, size
        return None, 0

    def _frame_bytes(self) -> int:
        if self.jpeg_sizes is None:
            return 3 * math.prod(self.shape)
        return sum(self.jpeg_sizes) if len(self.jpeg_sizes) == self.shape[0] else -1

    @property
    def stamp(self) -> tuple[str, str, int, int]:
        """What the entry was made from; where a clip's differs, it is not served."""
        return msgspec.structs.astuple(self)[:4]


def _round_up(length: int) -> int:
    """Returns the size of a header with a text of this length, in bytes."""
    return -(-(_PREFIX.size + length) // _PAGE) * _PAGE


def _stamp(parameters: str, filename: str | Path) -> tuple[str, str, int, int]:
    """Returns :attr:`Header.stamp` for a clip; raises OSError where it is absent."""
    path = os.path.abspath(filename)
    recording, part = split_part(path)
    stat = os.stat(recording)
    # Parts could begin at a wrong frame before 0.8.0: a nanosecond tells their entries.
    return (parameters, os.fsencode(path).decode('latin-1'), stat.st_size,
            stat.st_mtime_ns + (part is not None))


class CachedClip(Clip):
    """A clip in the cache.

    Attributes:
        array (np.ndarray, optional): In the raw form, all frames, memory-mapped and read
            only, (T, H, W, 3) uint8 RGB: only pages that are used are read. Otherwise
            None.
    """

    def __init__(self, filename: str, mapped: mmap.mmap, header: Header, begin: int
                 ) -> None:
        self.filename = filename
        self.total_frames, height, width = header.shape
        self.size = width, height
        self.array = None
        if header.jpeg_sizes is None:
            self.array = np.ndarray((*header.shape, 3), np.uint8, mapped, begin)
        else:
            self._bytes = np.frombuffer(mapped, np.uint8)
            self._ends = begin + np.cumsum([0, *header.jpeg_sizes])

    def _read(self, positions: list[int]) -> np.ndarray:
        if self.array is not None:
            return self.array.take(positions, axis=0)
        return np.stack([self._decode(position) for position in positions])

    def _decode(self, position: int) -> np.ndarray:
        encoded = self._bytes[self._ends[position]:self._ends[position + 1]]
        with contextlib.suppress(ClipError):
            frame_HWC = decode_jpeg(encoded)
            if frame_HWC.shape[1::-1] == self.size:
                return frame_HWC
        raise HRI30Error(f'{self.filename}: frame {position} is damaged.\nRemove this '
                         'file; the clip is then decoded again.')


class ClipCache:
    """Decoded clips in a folder.

    Several processes may read and write it at once: an entry appears whole, and a clip that
    is being read stays the same while its entry is replaced.

    Args:
        folder (str | Path): Made when the first clip is written.
        short_side (int, optional): Larger frames are scaled down to this height or width in
            pixels, whichever is less. None: no scaling.
        form (str): ``memmap``, which has the pixels of
            :class:`~hri30_ext.video.decode.Video` and is fast; or ``jpeg``, which takes
            about a twentieth of the disk and a third of a millisecond a frame, and changes
            pixels by less than 2 grey levels on average.

    Raises:
        HRI30Error: no folder, an unknown form, or a number out of its range.
    """

    def __init__(self, folder: str | Path, short_side: int | None = 256,
                 form: str = 'memmap') -> None:
        if not folder or form not in FORMS or short_side is not None and short_side < 1:
            raise HRI30Error(f'clip cache: cache_dir={folder!r}, {form=}, {short_side=}: '
                             f'expected a folder, one of {", ".join(FORMS)}, and pixels or '
                             'None.')
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.short_side, self.form = short_side, form
        self.parameters = f'{_VERSION} {form} {short_side or "as-is"}'
        if form == 'jpeg':
            self.parameters += f' q{_QUALITY}'

    def entry(self, filename: str | Path) -> str:
        """Returns the path of a clip's entry, which may not exist yet."""
        named = f'{self.parameters}\n'.encode() + os.fsencode(os.path.abspath(filename))
        return f'{self.folder}/{hashlib.sha256(named).hexdigest()[:32]}.clip'

    def open(self, filename: str | Path) -> CachedClip | None:
        """Opens a clip's entry; None where it is absent, stale, truncated or foreign."""
        path = self.entry(filename)
        with contextlib.suppress(OSError):
            return _open(path, path, _stamp(self.parameters, filename))

    def add(self, filename: str | Path, threads: int = 1) -> CachedClip:
        """Decodes a clip and writes its entry, replacing an existing one.

        Raises:
            ClipError: the clip cannot be decoded.
            HRI30Error: its entry cannot be written.
        """
        path, stamp = self.entry(filename), ('', '', 0, 0)
        with contextlib.suppress(OSError):  # Video says what is wrong
            stamp = _stamp(self.parameters, filename)
        frames_THWC = Video(filename, self.short_side, threads).read_all()
        frames = self.encode(frames_THWC)
        sizes = [*map(len, frames)] if self.form == 'jpeg' else None
        try:
            with atomic_path(path) as temporary:
                with open(temporary, 'wb') as file:
                    file.write(Header(*stamp, frames_THWC.shape[:3], sizes).pack())
                    file.writelines(frames)
                # Opened before it has its name, when another process may replace it.
                return _open(temporary, path, stamp)
        except DiskFull as error:
            raise DiskFull(f'{error}\n{_ADVICE}') from error
        except OSError as error:
            raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                             f'{_ADVICE}') from error

    def encode(self, frames_THWC: np.ndarray) -> list:
        """Returns the parts of an entry: all frames, or a JPEG each."""
        if self.form == 'memmap':  # one write, which gives larger pages to map
            return [frames_THWC.data]
        return [encode_jpeg(frame, _QUALITY) for frame in frames_THWC]


def _open(file: str | Path, path: str, stamp: tuple) -> CachedClip | None:
    """Opens an entry if it was made from what this says; ``path`` is its name."""
    with open(file, 'rb', buffering=0) as opened:
        header, begin = Header.read(opened)
        if header is not None and header.stamp == stamp:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            return CachedClip(path, mapped, header, begin)


# ---- All clips of a data folder ---------------------------------------------------------


def estimate_size(cache: ClipCache, filenames: Sequence[str]) -> int:
    """Estimates how many bytes the entries of clips will take, from a few of them."""
    count, sizes = len(filenames), []
    for i in np.linspace(0, count - 1, min(_SAMPLED_CLIPS, count), dtype=int):
        with contextlib.suppress(ClipError):  # reported when it is cached
            video = Video(filenames[i], cache.short_side)
            positions = np.linspace(0, len(video) - 1, _SAMPLED_FRAMES, dtype=int)
            parts = cache.encode(video.read(positions))
            nbytes = sum(memoryview(part).nbytes for part in parts)
            sizes.append(_PAGE + len(video) * nbytes / _SAMPLED_FRAMES)
    return round(np.mean(sizes) * count) if sizes else 0


def cache_clips(cache: ClipCache, filenames: Sequence[str], workers: int | None = None,
                report: Callable[[str], None] = print) -> list[str]:
    """Makes the missing entries, in parallel; says their approximate size first.

    After an interruption, another call continues.

    Args:
        workers (int, optional): Clips at a time; by default one a core.
        report (Callable): Gets a line with the size before anything is written.

    Returns:
        list[str]: A line for each clip that cannot be decoded; the others are cached.

    Raises:
        HRI30Error: the disk has less room than the entries take.
    """
    missing = [name for name in filenames if cache.open(name) is None]
    text = (f'{len(filenames)} clips: {len(filenames) - len(missing)} are in the cache, '
            f'{len(missing)} to do')
    if not missing:
        report(text)
        return []
    needed = estimate_size(cache, missing)
    free = shutil.disk_usage(check_writable(cache.folder)).free
    report(f'{text}, which take about {needed / 1e9:.3f} GB of {free / 1e9:.1f} GB free')
    if needed > free:
        raise HRI30Error(
            f'{cache.folder}: {needed / 1e9:.3f} GB are needed and {free / 1e9:.3f} GB are '
            'free.\nFree some space, choose another folder, or cache less: --form jpeg, or '
            'a smaller --short-side.')
    # Threads: each decodes in a process of its own.
    pool, broken = ThreadPoolExecutor(workers or available_cores()), []
    try:
        pending = [pool.submit(cache.add, name) for name in missing]
        for done in tqdm(as_completed(pending), 'Caching', len(missing), unit='clip',
                         mininterval=refresh_seconds()):
            try:
                done.result()
            except ClipError as error:  # what else fails, fails for all
                broken.append(str(error).splitlines()[0])
    finally:
        # Entries that are being written are finished; no other is begun.
        pool.shutdown(wait=True, cancel_futures=True)
    return broken


# ---- What a folder holds ----------------------------------------------------------------


class Entry(NamedTuple):
    """A file of the cache."""
    path: Path
    nbytes: int
    parameters: str = ''  # empty where the file is not a whole entry
    current: bool = False  # whether the source exists and is unchanged


def list_entries(folder: str | Path) -> Iterator[Entry]:
    """Yields the entries of a folder, of any parameters; none where it is absent."""
    for path in sorted(Path(folder).glob('*.clip')):
        if _ENTRY_NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):  # removed meanwhile, or somebody else's
                yield _describe(path)


def _describe(path: Path) -> Entry:
    with open(path, 'rb', buffering=0) as file:
        nbytes, (header, _) = os.fstat(file.fileno()).st_size, Header.read(file)
    if header is None:
        return Entry(path, nbytes)
    source, current = os.fsdecode(header.source.encode('latin-1')), False
    with contextlib.suppress(OSError):
        current = _stamp(header.parameters, source) == header.stamp
    return Entry(path, nbytes, header.parameters, current)


def describe_folder(folder: str | Path) -> str:
    """Returns a line for each set of parameters: how many entries, how large."""
    counts, sizes = Counter(), Counter()
    for entry in list_entries(folder):
        counts[entry.parameters] += 1
        sizes[entry.parameters] += entry.nbytes
    return '\n'.join([f'{folder}:' if counts else f'{folder}: no clips', *(
        f'  {_explain(parameters)}: {count} clips, {sizes[parameters] / 1e9:.3f} GB'
        for parameters, count in sorted(counts.items()))])


def _explain(parameters: str) -> str:
    if not parameters:
        return 'damaged, or of an earlier version'
    _, form, short_side, *quality = parameters.split(' ')
    return ', '.join([form, f'short side {short_side}', *quality])


def prune(cache: ClipCache, all_parameters: bool = False) -> tuple[int, int]:
    """Removes entries that nothing will read: those that are damaged or of an earlier
    version, whose source is gone or changed, and what killed processes left.

    Args:
        cache (ClipCache): The folder, and the parameters that are in use.
        all_parameters (bool): Whether to remove entries of other parameters as well.

    Returns:
        tuple[int, int]: How many files were removed, and their size in bytes.
    """
    unused = [(entry.path, entry.nbytes) for entry in list_entries(cache.folder)
              if not entry.current
              or all_parameters and entry.parameters != cache.parameters]
    for path in Path(cache.folder).glob('.*.clip'):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if (_LEFTOVER_NAME.fullmatch(path.name)
                    and time.time() - stat.st_mtime > _LEFTOVER_SECONDS):
                unused.append((path, stat.st_size))
    if unused:
        check_writable(cache.folder)
    for path, _ in unused:
        path.unlink(missing_ok=True)
    return len(unused), sum(nbytes for _, nbytes in unused)
