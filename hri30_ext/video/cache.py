"""Decoded clips on disk, so that no clip is decoded twice.

Reading 8 frames of 384 x 256 pixels takes about a memory copy from the raw form, ``memmap``
(0.3 MB a frame), and a JPEG decode from the small one, ``jpeg``.

An entry is one file, named by a hash of its source's path and of what decides its pixels::

    header    a multiple of 4096 bytes: magic, CRC-32 and length of the JSON text that
              follows (see Header), zeros
    frames    memmap: uint8 RGB, (T, H, W, 3); jpeg: one JPEG after another

Anything can read the raw form:
``np.memmap(entry, np.uint8, 'r', offset=header size, shape=(T, H, W, 3))``.

Shapes: T frames of a clip, N frames read, H height, W width.
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
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from tqdm import tqdm

from ..errors import HRI30Error
from ..names import split_part
from ..utils.fileio import DiskFull, atomic_path
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from .decode import ClipError, Video
from .jpeg import decode_jpeg, encode_jpeg

FORMS = ('memmap', 'jpeg')

#: Raised whenever entries are written in another way, or Video decodes other pixels: what
#: is interlaced, how it is de-interlaced, how frames are scaled.
_VERSION = 2

_PREFIX = struct.Struct('<8sII')  # magic; CRC-32 of the rest of the header; JSON bytes
_MAGIC = b'HRI30cl2'
_PAGE = 4096
_MAX_HEADER = 2**20  # bytes; a clip of 20,000 JPEGs has a seventh of it
_ENTRIES = '*.clip'
_ENTRY_NAME = re.compile(r'[0-9a-f]{32}\.clip')
# atomic_path's temporary files. One that is older than writing a clip takes was left by a
# process that was killed.
_LEFTOVER_NAME = re.compile(r'\.[0-9a-f]{32}-.*\.clip')
_LEFTOVER_SECONDS = 3600

_ADVICE = ('Free some space, choose another folder (cache_dir), use the small jpeg form '
           '(clip_cache=jpeg), or no cache (clip_cache=None).')

_SAMPLED_CLIPS, _SAMPLED_FRAMES = 8, 3

_Count = Annotated[int, msgspec.Meta(ge=1)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first pages of an entry.

    Attributes:
        parameters (str): Version, form, short side and quality of the cache.
        source (str): Path of the clip, its bytes as Latin-1: it may not be text.
        source_size (int): Of the clip in bytes.
        source_time (int): When it was changed, in nanoseconds.
        shape (tuple[int, int, int]): T, H, W.
        jpeg_sizes (list[int], optional): Bytes of each frame; None in the raw form.
    """
    parameters: str
    source: str
    source_size: int
    source_time: int
    shape: tuple[_Count, _Count, _Count]
    jpeg_sizes: list[_Count] | None

    def pack(self) -> bytes:
        """Returns what :meth:`read` reads."""
        text = msgspec.json.encode(self)
        size = -(-(_PREFIX.size + len(text)) // _PAGE) * _PAGE
        rest = text.ljust(size - _PREFIX.size, b'\0')
        return _PREFIX.pack(_MAGIC, zlib.crc32(rest, len(text)), len(text)) + rest

    @classmethod
    def read(cls, file) -> tuple['Header', int] | None:
        """Reads and validates a header.

        Args:
            file: Open for reading bytes, unbuffered.

        Returns:
            tuple[Header, int] | None: The header and its size in bytes; None where the file
            is not a whole entry.
        """
        content = file.read(_PAGE)
        if len(content) < _PAGE:
            return None
        magic, crc, length = _PREFIX.unpack_from(content)
        if magic != _MAGIC or length > _MAX_HEADER:
            return None
        size = -(-(_PREFIX.size + length) // _PAGE) * _PAGE
        content += file.read(size - _PAGE)
        rest = content[_PREFIX.size:]
        if len(content) != size or zlib.crc32(rest, length) != crc:
            return None
        try:
            header = msgspec.json.decode(rest[:length], type=cls)
        except msgspec.DecodeError:
            return None
        frames = (3 * math.prod(header.shape) if header.jpeg_sizes is None
                  else sum(header.jpeg_sizes))
        whole = size + frames == os.fstat(file.fileno()).st_size and (
            header.jpeg_sizes is None or len(header.jpeg_sizes) == header.shape[0])
        return (header, size) if whole else None


class CachedClip:
    """A clip in the cache; reads as :class:`~hri30_ext.video.decode.Video` does.

    Attributes:
        total_frames (int): T.
        size (tuple[int, int]): Width and height in pixels.
        nbytes (int): Size of the entry.
        array (np.ndarray, optional): In the raw form, all frames, memory-mapped and read
            only, (T, H, W, 3) uint8 RGB: only pages that are used are read. Otherwise
            None.
    """

    def __init__(self, path: str, mapped: mmap.mmap, header: Header, begin: int) -> None:
        self.path, self.nbytes = path, len(mapped)
        self.total_frames, height, width = header.shape
        self.size = width, height
        self.array = None
        if header.jpeg_sizes is None:
            self.array = np.ndarray((*header.shape, 3), np.uint8, mapped, begin)
        else:
            self._bytes = np.frombuffer(mapped, np.uint8)
            self._ends = begin + np.cumsum([0, *header.jpeg_sizes])

    def __len__(self) -> int:
        return self.total_frames

    def read(self, indices_N: Sequence[int]) -> np.ndarray:
        """Reads frames in the given order.

        Args:
            indices_N (Sequence[int]): Positions from 0; a position may be repeated.

        Returns:
            np.ndarray: (N, H, W, 3) uint8 RGB.

        Raises:
            HRI30Error: a JPEG of the entry is damaged.
            IndexError: a position outside the clip.
        """
        indices_N = np.asarray(indices_N, np.int64)
        if (not indices_N.size or indices_N.min() < 0
                or indices_N.max() >= self.total_frames):
            raise IndexError(f'{self.path}: frames {indices_N.tolist()} of '
                             f'{self.total_frames}')
        if self.array is not None:
            return self.array.take(indices_N, axis=0)
        different, places = np.unique(indices_N, return_inverse=True)
        return np.stack([self._decode(position) for position in different])[places]

    def read_all(self) -> np.ndarray:
        """Reads every frame, (T, H, W, 3) uint8 RGB; raises what :meth:`read` does."""
        return self.read(range(self.total_frames))

    def _decode(self, position: int) -> np.ndarray:
        encoded = self._bytes[self._ends[position]:self._ends[position + 1]]
        with contextlib.suppress(ClipError):
            frame_HWC = decode_jpeg(encoded)
            if frame_HWC.shape[1::-1] == self.size:
                return frame_HWC
        raise HRI30Error(f'{self.path}: frame {position} is damaged.\nRemove this file; '
                         'the clip is then decoded again.')


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
        quality (int): Of JPEGs, 1 to 100. At 90, with colours at half the width, the
            change is 1.3 grey levels on average on rendered clips, more than 10 for one
            pixel in a hundred; 95 with colours at half width and height has the same
            average, more large changes and a third more bytes.

    Raises:
        HRI30Error: an unknown form, or a number out of its range.
    """

    def __init__(self, folder: str | Path, short_side: int | None = 256,
                 form: str = 'memmap', quality: int = 90) -> None:
        if form not in FORMS:
            raise HRI30Error(f'clip cache: form={form!r}, expected one of '
                             f'{", ".join(FORMS)}.')
        if short_side is not None and not (isinstance(short_side, int) and short_side > 0):
            raise HRI30Error(f'clip cache: short_side={short_side!r}, expected a number of '
                             'pixels or None.')
        if not (isinstance(quality, int) and 1 <= quality <= 100):
            raise HRI30Error(f'clip cache: quality={quality!r}, expected 1 to 100.')
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.short_side, self.form, self.quality = short_side, form, quality
        self.parameters = f'{_VERSION} {form} {short_side or "as-is"}'
        if form == 'jpeg':
            self.parameters += f' q{quality}'

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.folder!r}, short_side={self.short_side}, '
                f'form={self.form!r}, quality={self.quality})')

    def entry(self, filename: str | Path) -> str:
        """Returns the path of a clip's entry, which may not exist yet."""
        named = f'{self.parameters}\n'.encode() + os.fsencode(os.path.abspath(filename))
        return f'{self.folder}/{hashlib.sha256(named).hexdigest()[:32]}.clip'

    def open(self, filename: str | Path) -> CachedClip | None:
        """Opens a clip's entry; None where it is absent, stale, truncated or foreign."""
        try:
            key = self._key(filename)
            path = self.entry(filename)
            with open(path, 'rb', buffering=0) as file:
                return _open_entry(file, path, key)
        except OSError:
            return None

    def add(self, filename: str | Path, threads: int = 1) -> CachedClip:
        """Decodes a clip and writes its entry, replacing an existing one.

        Args:
            filename (str | Path): The clip.
            threads (int): Threads of the decoder.

        Raises:
            HRI30Error: the clip cannot be decoded, or its entry cannot be written.
        """
        return self._write(filename, *self._decode(filename, threads))

    def get(self, filename: str | Path) -> CachedClip:
        """Opens a clip's entry, or makes it; raises what :meth:`add` does."""
        return self.open(filename) or self.add(filename)

    def _key(self, filename: str | Path) -> tuple:
        return _key(self.parameters, os.path.abspath(filename))

    def _decode(self, filename: str | Path, threads: int = 1) -> tuple[tuple, np.ndarray]:
        """Returns the key of the file before it is read, and its frames."""
        key = ('', '', 0, 0)
        with contextlib.suppress(OSError):  # Video says what is wrong
            key = self._key(filename)
        return key, Video(filename, self.short_side, threads).read_all()

    def _write(self, filename: str | Path, key: tuple, frames_THWC: np.ndarray
               ) -> CachedClip:
        path = self.entry(filename)
        frames, sizes = [frames_THWC.data], None
        if self.form == 'jpeg':
            frames = [encode_jpeg(frame, self.quality) for frame in frames_THWC]
            sizes = [*map(len, frames)]
        try:
            with atomic_path(path) as temporary, open(temporary, 'w+b') as file:
                file.write(Header(*key, frames_THWC.shape[:3], sizes).pack())
                file.writelines(frames)
                file.flush()
                # Opened before it has its name, when another process may replace it.
                with open(temporary, 'rb', buffering=0) as written:
                    return _open_entry(written, path, key)
        except DiskFull as error:
            raise DiskFull(f'{error}\n{_ADVICE}') from error
        except OSError as error:
            raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                             f'{_ADVICE}') from error


def _key(parameters: str, source: str) -> tuple[str, str, int, int]:
    """Returns the first fields of the header of a clip that is up to date."""
    stat = os.stat(split_part(source)[0])
    return (parameters, os.fsencode(source).decode('latin-1'), stat.st_size,
            stat.st_mtime_ns)


def _open_entry(file, path: str, key: tuple) -> CachedClip | None:
    header, begin = Header.read(file) or (None, 0)
    if header is None or msgspec.structs.astuple(header)[:len(key)] != key:
        return None
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return CachedClip(path, mapped, header, begin)


# ---- All clips of a data folder ---------------------------------------------------------


@dataclass
class CachingResult:
    """What :func:`cache_clips` did."""
    kept: int = 0  # entries that were up to date
    added: int = 0
    broken: list[str] = field(default_factory=list)  # a line a clip: why it has none


def estimate_size(cache: ClipCache, filenames: Sequence[str]) -> int:
    """Estimates how many bytes the entries of clips will take, from a few of them."""
    chosen = np.linspace(0, len(filenames) - 1, min(_SAMPLED_CLIPS, len(filenames)))
    sizes = []
    for i in np.unique(chosen.astype(int)):
        # A clip that cannot be decoded is reported when it is cached.
        with contextlib.suppress(HRI30Error):
            video = Video(filenames[i], cache.short_side)
            frame_size = 3 * math.prod(video.size)
            if cache.form == 'jpeg':
                positions = np.linspace(0, len(video) - 1, _SAMPLED_FRAMES, dtype=int)
                frame_size = np.mean([len(encode_jpeg(frame, cache.quality))
                                      for frame in video.read(positions)])
            sizes.append(_PAGE + len(video) * frame_size)
    return round(np.mean(sizes) * len(filenames)) if sizes else 0


def cache_clips(cache: ClipCache, filenames: Sequence[str], workers: int | None = None,
                report: Callable[[str], None] = print) -> CachingResult:
    """Makes the missing entries, in parallel; says their approximate size first.

    After an interruption, another call continues.

    Args:
        cache (ClipCache): Where to.
        filenames (Sequence[str]): Clips.
        workers (int, optional): Clips at a time; by default one a core.
        report (Callable): Gets a line with the size before anything is written.

    Returns:
        CachingResult: Clips that cannot be decoded are listed in it; the others are cached.

    Raises:
        HRI30Error: the disk has less room than the entries take.
    """
    missing = [name for name in filenames if cache.open(name) is None]
    result = CachingResult(kept=len(filenames) - len(missing))
    needed, free = estimate_size(cache, missing), _free_bytes(cache.folder)
    size = (f', which take about {needed / 1e9:.3f} GB of {free / 1e9:.1f} GB free'
            if missing else '')
    report(f'{len(filenames)} clips: {result.kept} are in the cache, {len(missing)} to do'
           f'{size}')
    if needed > free:
        raise HRI30Error(
            f'{cache.folder}: {needed / 1e9:.3f} GB are needed and {free / 1e9:.3f} GB are '
            'free.\nFree some space, choose another folder, or cache less: --form jpeg, or '
            'a smaller --short-side.')
    # Threads: each decodes in a process of its own.
    pool = ThreadPoolExecutor(workers or available_cores())
    try:
        pending = [pool.submit(_cache_one, cache, name) for name in missing]
        for done in tqdm(as_completed(pending), 'Caching', len(missing), unit='clip',
                         disable=not missing, mininterval=refresh_seconds()):
            if done.result():
                result.broken.append(done.result())
            else:
                result.added += 1
    finally:
        # Entries that are being written are finished; no other is begun.
        pool.shutdown(wait=True, cancel_futures=True)
    return result


def _cache_one(cache: ClipCache, filename: str) -> str:
    """Makes an entry; returns an empty text, or why the clip cannot be decoded."""
    try:
        key, frames_THWC = cache._decode(filename)
    except HRI30Error as error:
        return str(error).splitlines()[0]
    cache._write(filename, key, frames_THWC)  # what fails here fails for all
    return ''


def _free_bytes(folder: str) -> int:
    try:
        os.makedirs(folder, exist_ok=True)
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise HRI30Error(f'{folder}: cannot be written ({error.strerror or error}).\n'
                         'Choose another folder.') from error


# ---- What a folder holds ----------------------------------------------------------------


class Entry(NamedTuple):
    """A file of the cache."""
    path: Path
    nbytes: int
    parameters: str  # empty where the file is not a whole entry
    source: str
    current: bool  # whether the source exists and is unchanged


def list_entries(folder: str | Path) -> Iterator[Entry]:
    """Yields the entries of a folder, of any parameters; none where it is absent."""
    for path in sorted(Path(folder).glob(_ENTRIES)):
        if _ENTRY_NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield _describe(path)


def _describe(path: Path) -> Entry:
    nbytes = path.stat().st_size
    with open(path, 'rb', buffering=0) as file:
        header, _ = Header.read(file) or (None, 0)
    if header is None:
        return Entry(path, nbytes, '', '', False)
    key = msgspec.structs.astuple(header)[:4]
    source = os.fsdecode(header.source.encode('latin-1'))
    try:
        current = _key(header.parameters, source) == key
    except OSError:
        current = False
    return Entry(path, nbytes, header.parameters, source, current)


def describe_folder(folder: str | Path) -> str:
    """Returns a line for each set of parameters: how many entries, how large."""
    totals = defaultdict(lambda: [0, 0])
    for entry in list_entries(folder):
        total = totals[entry.parameters]
        total[0] += 1
        total[1] += entry.nbytes
    return '\n'.join([f'{folder}:', *(
        f'  {_explain(parameters)}: {count} clips, {nbytes / 1e9:.3f} GB'
        for parameters, (count, nbytes) in sorted(totals.items()))]
        if totals else [f'{folder}: no clips'])


def _explain(parameters: str) -> str:
    if not parameters:
        return 'damaged, or of an earlier version'
    _, form, short_side, *quality = parameters.split(' ')
    return ', '.join([form, f'short side {short_side}', *quality])


def prune(cache: ClipCache, all_parameters: bool = False) -> tuple[int, int]:
    """Removes entries that nothing will read.

    Args:
        cache (ClipCache): The folder, and the parameters that are in use.
        all_parameters (bool): Whether to remove entries of other parameters as well.

    Returns:
        tuple[int, int]: How many files were removed, and their size in bytes: entries that
        are damaged or of an earlier version, whose source is gone or changed, and what
        killed processes left.
    """
    removed = nbytes = 0
    for entry in list_entries(cache.folder):
        if not entry.current or (all_parameters and entry.parameters != cache.parameters):
            removed, nbytes = removed + 1, nbytes + entry.nbytes
            entry.path.unlink(missing_ok=True)
    for path in Path(cache.folder).glob(f'.{_ENTRIES}'):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if (_LEFTOVER_NAME.fullmatch(path.name)
                    and time.time() - stat.st_mtime > _LEFTOVER_SECONDS):
                removed, nbytes = removed + 1, nbytes + stat.st_size
                path.unlink()
    return removed, nbytes
