"""Decoded clips on disk, so that no clip is decoded twice.

Reading 8 frames of 384 x 256 pixels takes about a memory copy from the raw form, ``memmap``
(0.3 MB a frame), and a JPEG decode from the small one, ``jpeg``.

An entry is one file, named by a hash of its source's path and of what decides its pixels::

    header    a multiple of 4096 bytes
      fixed   magic, CRC-32 of the rest of the header, sizes (see _FIXED)
      key     parameters; the source's size and time; the source's path
      index   jpeg only: where each frame begins, and where the last one ends, uint64
      zeros
    frames    memmap: uint8 RGB, (T, H, W, 3); jpeg: one JPEG after another

The raw form can be read by anything:
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
import signal
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..config import PROJECT_ROOT
from ..datasets.hri30 import find_test_folder, find_videos, subfolder
from ..errors import HRI30Error
from ..utils.fileio import DiskFull, atomic_path
from ..utils.parallel import FEW, available_cores, process_pool
from ..utils.progress import refresh_seconds
from .decode import Video

FORMS = ('memmap', 'jpeg')
#: Where configs keep what they decoded.
DEFAULT_FOLDER = PROJECT_ROOT / 'work_dirs' / 'cache'

#: Raised whenever entries are written in another way, or Video decodes other pixels: what
#: is interlaced, how it is de-interlaced, how frames are scaled.
_VERSION = 1

_MAGIC = b'HRI30clp'
# Little-endian: magic; CRC-32 of what follows it in the header; bytes of the header, of the
# key and of the file; T, H, W.
_FIXED = struct.Struct('<8sIIIQIII')
_AFTER_CRC = 12
_PAGE = 4096
_SUFFIX = '.clip'
_ENTRY_NAME = re.compile(r'[0-9a-f]{32}\.clip')
# atomic_path's temporary files; one that is older than a clip takes to write was left by a
# process that was killed.
_LEFTOVER_NAME = re.compile(r'\.[0-9a-f]{32}-.*\.clip')
_LEFTOVER_SECONDS = 3600

_ADVICE = ('Free the place, choose another folder (cache_dir), take the jpeg form, which '
           'is small (clip_cache=jpeg), or read clips without a cache (clip_cache=None).')

_SAMPLED_CLIPS, _SAMPLED_FRAMES = 5, 3


class CachedClip:
    """A clip in the cache; reads as :class:`~hri30_ext.video.decode.Video` does.

    Attributes:
        total_frames (int): T.
        size (tuple[int, int]): Width and height in pixels.
        nbytes (int): Size of the entry.
        array (np.ndarray, optional): In the raw form, all frames, memory-mapped and read
            only, (T, H, W, 3) uint8 RGB: what is cut out of it is all that is read. None
            in the other form.
    """

    def __init__(self, path: str, mapped: mmap.mmap, header: '_Header') -> None:
        self.path, self.nbytes = path, header.file_size
        self.total_frames, height, width = header.shape
        self.size = width, height
        self.array = self._index = None
        if header.form == 'memmap':
            self.array = np.ndarray((*header.shape, 3), np.uint8, mapped, header.size)
        else:
            self._index = header.index
            self._bytes = np.frombuffer(mapped, np.uint8)

    def __len__(self) -> int:
        return self.total_frames

    def read(self, indices_N: Sequence[int]) -> np.ndarray:
        """Reads frames, in the order asked for.

        Args:
            indices_N (Sequence[int]): Positions from 0; a position may be repeated.

        Returns:
            np.ndarray: (N, H, W, 3) uint8 RGB.

        Raises:
            HRI30Error: a JPEG of the entry is damaged.
        """
        indices_N = np.asarray(indices_N, np.int64)
        if (not indices_N.size or indices_N.min() < 0
                or indices_N.max() >= self.total_frames):
            raise IndexError(f'{self.path}: frames {indices_N.tolist()} of '
                             f'{self.total_frames}')
        if self.array is not None:
            return self.array.take(indices_N, axis=0)
        width, height = self.size
        frames_NHWC = np.empty((len(indices_N), height, width, 3), np.uint8)
        first = {}  # where a position was decoded to
        for i, position in enumerate(indices_N.tolist()):
            before = first.setdefault(position, i)
            frames_NHWC[i] = self._decode(position) if before == i else frames_NHWC[before]
        return frames_NHWC

    def read_all(self) -> np.ndarray:
        """Reads every frame, (T, H, W, 3) uint8 RGB; raises what :meth:`read` does."""
        return self.read(range(self.total_frames))

    def _decode(self, position: int) -> np.ndarray:
        encoded = self._bytes[self._index[position]:self._index[position + 1]]
        frame_HWC = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        if frame_HWC is None or frame_HWC.shape[1::-1] != self.size:
            raise HRI30Error(f'{self.path}: frame {position} is damaged.\nRemove this '
                             'file; the clip is then decoded again.')
        return frame_HWC


class _Header(NamedTuple):
    """What the first pages of an entry say."""
    size: int  # of the header, in bytes
    file_size: int
    shape: tuple[int, int, int]  # T, H, W
    key: bytes
    index: np.ndarray | None  # (T + 1, ) uint64 in the JPEG form

    @property
    def form(self) -> str:
        return 'memmap' if self.index is None else 'jpeg'


def _make_key(parameters: str, stat: os.stat_result, source: str) -> bytes:
    # The path is last, as it alone may hold line ends.
    return b'%s\n%d %d\n%s' % (parameters.encode(), stat.st_size, stat.st_mtime_ns,
                               os.fsencode(source))


def _pack_header(key: bytes, shape: tuple[int, int, int], frame_sizes: list[int] | None
                 ) -> bytes:
    """Returns a header; ``frame_sizes`` are bytes of each JPEG, None in the raw form."""
    index_size = 0 if frame_sizes is None else 8 * (shape[0] + 1)
    size = -(-(_FIXED.size + len(key) + index_size) // _PAGE) * _PAGE
    if frame_sizes is None:
        index, file_size = b'', size + 3 * math.prod(shape)
    else:
        ends = size + np.cumsum([0, *frame_sizes], dtype='<u8')
        index, file_size = ends.tobytes(), int(ends[-1])
    content = (_FIXED.pack(_MAGIC, 0, size, len(key), file_size, *shape) + key + index
               ).ljust(size, b'\0')
    return (_MAGIC + struct.pack('<I', zlib.crc32(content[_AFTER_CRC:]))
            + content[_AFTER_CRC:])


def _read_header(file) -> _Header | None:
    """Reads and checks a header; None where this is no whole entry.

    Args:
        file: Open for reading bytes, unbuffered.
    """
    content = file.read(_PAGE)
    if len(content) < _PAGE or not content.startswith(_MAGIC):
        return None
    _, crc, size, key_size, file_size, *shape = _FIXED.unpack_from(content)
    if file_size != os.fstat(file.fileno()).st_size or not _PAGE <= size <= file_size:
        return None
    if size > _PAGE:
        content += file.read(size - _PAGE)
    if len(content) != size or zlib.crc32(memoryview(content)[_AFTER_CRC:]) != crc:
        return None
    key = content[_FIXED.size:_FIXED.size + key_size]
    index, end = None, size + 3 * math.prod(shape)
    if key.split(b' ', 2)[1:2] == [b'jpeg']:
        index = np.frombuffer(content, '<u8', shape[0] + 1, _FIXED.size + key_size)
        end = index[-1]
    return _Header(size, file_size, tuple(shape), key, index) if end == file_size else None


class ClipCache:
    """Decoded clips in a folder.

    Several processes may read and write it at once: an entry appears whole, and what is
    being read stays as it is when the entry is replaced.

    Args:
        folder (str | Path): Made when the first clip is written.
        short_side (int, optional): Larger frames are kept at this height or width in
            pixels, whichever is less, and smaller ones as they are. None: all as they are.
        form (str): ``memmap``, the pixels of
            :class:`~hri30_ext.video.decode.Video` and fast, or
            ``jpeg``, which takes about a twentieth of the disk and a third of a
            millisecond a frame, and changes pixels by less than 2 grey levels on average.
        quality (int): Of JPEGs, 1 to 100. At 90, with colours at half the width, the
            change is 1.3 grey levels on average on rendered clips, more than 10 for one
            pixel in a hundred; 95 with colours at half width and height has the same
            average, more large changes and a third more bytes.

    Raises:
        HRI30Error: another form, or a number out of its range.
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
        """Returns the path of a clip's entry, whether or not there is one."""
        named = f'{self.parameters}\n'.encode() + os.fsencode(os.path.abspath(filename))
        return f'{self.folder}/{hashlib.sha256(named).hexdigest()[:32]}{_SUFFIX}'

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
        """Decodes a clip and writes its entry, whatever was there.

        Args:
            filename (str | Path): The clip.
            threads (int): For decoding.

        Raises:
            HRI30Error: the clip cannot be decoded, or its entry not be written.
        """
        return self._write(filename, *self._decode(filename, threads))

    def get(self, filename: str | Path) -> CachedClip:
        """Opens a clip's entry, or makes it; raises what :meth:`add` does."""
        return self.open(filename) or self.add(filename)

    def _key(self, filename: str | Path) -> bytes:
        return _make_key(self.parameters, os.stat(filename), os.path.abspath(filename))

    def _decode(self, filename: str | Path, threads: int = 1) -> tuple[bytes, np.ndarray]:
        """Returns the key of the file as it was before it was read, and its frames."""
        key = b''
        with contextlib.suppress(OSError):  # Video says what is wrong
            key = self._key(filename)
        return key, Video(filename, self.short_side, threads).read_all()

    def _write(self, filename: str | Path, key: bytes, frames_THWC: np.ndarray
               ) -> CachedClip:
        path = self.entry(filename)
        try:
            with atomic_path(path) as temporary, open(temporary, 'w+b') as file:
                if self.form == 'memmap':
                    file.write(_pack_header(key, frames_THWC.shape[:3], None))
                    file.write(frames_THWC.data)
                else:
                    encoded = [encode_jpeg(frame, self.quality) for frame in frames_THWC]
                    file.write(_pack_header(key, frames_THWC.shape[:3],
                                            [len(image) for image in encoded]))
                    file.writelines(encoded)
                file.flush()
                # Opened before it has its name, when another process may replace it.
                with open(temporary, 'rb', buffering=0) as written:
                    return _open_entry(written, path, key)
        except DiskFull as error:
            raise DiskFull(f'{error}\n{_ADVICE}') from error
        except OSError as error:
            raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                             f'{_ADVICE}') from error


def _open_entry(file, path: str, key: bytes) -> CachedClip | None:
    header = _read_header(file)
    if header is None or header.key != key:
        return None
    return CachedClip(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), header)


def encode_jpeg(frame_HWC: np.ndarray, quality: int) -> bytes:
    """Encodes an RGB frame, (H, W, 3) uint8; colours at half the width."""
    frame_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode('.jpg', frame_HWC, [
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422])
    return encoded.tobytes()


# ---- All clips of a data folder ---------------------------------------------------------


@dataclass
class Built:
    """What :func:`cache_clips` did."""
    kept: int = 0  # entries that were there
    added: int = 0
    broken: list[str] = field(default_factory=list)  # a line a clip: why it has none


def find_clips(root: str | Path) -> list[str]:
    """Lists every video of the training and test folders, whatever its name.

    Returns:
        list[str]: Paths as :class:`~hri30_ext.datasets.HRI30Dataset` has them where
        ``root`` is absolute.

    Raises:
        HRI30Error: there are none.
    """
    root = Path(root)
    test = find_test_folder(root)  # checks the root
    train = subfolder(root, ('train_set', 'train'))
    files = find_videos(train or root, recursive=train is not None)
    files += find_videos(test) if test else []
    if not files:
        raise HRI30Error(f'{root}: no videos.\nExpected them in train_set/ and test_set/ '
                         '(see data/README.md).')
    return list(map(str, files))


def estimate_size(cache: ClipCache, clips: Sequence[tuple[str, int, tuple[int, int]]]
                  ) -> int:
    """Says how many bytes entries will take.

    Args:
        cache (ClipCache): Where they will be.
        clips (Sequence[tuple]): File name, number of frames, width and height.

    Returns:
        int: Exact to a page a clip in the raw form; else from frames of a few clips.
    """
    pixels = sum(frames * width * height for _, frames, (width, height) in clips)
    if cache.form == 'memmap' or not clips:
        return 3 * pixels + _PAGE * len(clips)
    sample = [clips[i] for i in sorted({*np.linspace(0, len(clips) - 1, _SAMPLED_CLIPS,
                                                     dtype=int).tolist()})]
    encoded = sampled = 0
    for filename, frames, (width, height) in sample:
        positions = np.linspace(0, frames - 1, _SAMPLED_FRAMES, dtype=int)
        # One that cannot be decoded is reported when it is its turn.
        with contextlib.suppress(HRI30Error):
            for frame in Video(filename, cache.short_side).read(positions):
                encoded += len(encode_jpeg(frame, cache.quality))
                sampled += width * height
    return (round(pixels * encoded / sampled) if sampled else 0) + _PAGE * len(clips)


def cache_clips(cache: ClipCache, filenames: Sequence[str], workers: int | None = None,
                say: Callable[[str], None] = print) -> Built:
    """Makes the entries that are not there, in parallel; says their size first.

    Cut short and called again, it goes on where it was.

    Args:
        cache (ClipCache): Where to.
        filenames (Sequence[str]): Clips.
        workers (int, optional): Processes; by default one a core.
        say (Callable): Gets a line with the size before anything is written.

    Returns:
        Built: Clips that cannot be decoded are listed in it; the others are cached.

    Raises:
        HRI30Error: the disk has less room than the entries take.
    """
    missing = [name for name in _bar(filenames, 'Looking') if cache.open(name) is None]
    built = Built(kept=len(filenames) - len(missing))
    clips = []
    for name in _bar(missing, 'Counting frames'):
        try:
            video = Video(name, cache.short_side)
            clips.append((name, video.total_frames, video.size))
        except HRI30Error as error:
            built.broken.append(_first_line(error))
    needed, free = estimate_size(cache, clips), _free_bytes(cache.folder)
    about = '' if cache.form == 'memmap' else 'about '
    size = (f', which take {about}{needed / 1e9:.3f} GB of {free / 1e9:.1f} GB free'
            if clips else '')
    say(f'{len(filenames)} clips: {built.kept} are in the cache, {len(clips)} to do{size}')
    if needed > free:
        raise HRI30Error(
            f'{cache.folder}: {needed / 1e9:.3f} GB are needed and {free / 1e9:.3f} GB are '
            'free.\nFree the place, name another folder, or keep less: --form jpeg, or a '
            'smaller --short-side.')
    for problem in _cache_all(cache, [name for name, *_ in clips], workers):
        if problem:
            built.broken.append(problem)
        else:
            built.added += 1
    return built


def _bar(items: Sequence | None, title: str, total: int | None = None, leave: bool = False
         ) -> tqdm:
    return tqdm(items, title, total, leave, unit='clip', disable=not (items or total),
                mininterval=refresh_seconds())


def _cache_all(cache: ClipCache, filenames: list[str], workers: int | None
               ) -> Iterator[str]:
    """Yields an empty text a clip, or why it cannot be decoded."""
    few = FEW if workers is None else 2
    workers = workers or available_cores()
    with _bar(None, 'Caching', len(filenames), leave=True) as bar:
        if workers == 1 or len(filenames) < few:
            for name in filenames:
                yield _cache_one(cache, name)
                bar.update()
            return
        with process_pool(workers, initializer=_start_worker) as pool:
            pending = [pool.submit(_cache_one, cache, name) for name in filenames]
            try:
                for done in as_completed(pending):
                    yield done.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise HRI30Error(
                    'A process died: out of memory, or a clip crashed its decoder.\nTry '
                    'fewer --workers; what is cached is kept.') from error
            finally:
                # What is being written is finished; nothing else is begun.
                pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work


def _cache_one(cache: ClipCache, filename: str) -> str:
    try:
        key, frames_THWC = cache._decode(filename)
    except HRI30Error as error:
        return _first_line(error)
    cache._write(filename, key, frames_THWC)  # what fails here fails for all
    return ''


def _first_line(error: HRI30Error) -> str:
    return str(error).splitlines()[0]


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
    parameters: str  # empty where the file is no whole entry
    source: str
    current: bool  # whether the source is there, and as it was


def list_entries(folder: str | Path) -> Iterator[Entry]:
    """Yields the entries of a folder, with all parameters; none where it is absent."""
    for path in sorted(Path(folder).glob(f'*{_SUFFIX}')):
        if _ENTRY_NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield _describe(path)


def _describe(path: Path) -> Entry:
    nbytes = path.stat().st_size
    with open(path, 'rb', buffering=0) as file:
        header = _read_header(file)
    if header is None:
        return Entry(path, nbytes, '', '', False)
    parameters, _, source = header.key.split(b'\n', 2)
    source, parameters = os.fsdecode(source), parameters.decode()
    try:
        current = _make_key(parameters, os.stat(source), source) == header.key
    except OSError:
        current = False
    return Entry(path, nbytes, parameters, source, current)


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
        return 'damaged'
    version, form, short_side, *quality = parameters.split(' ')
    return ', '.join([form, f'short side {short_side}', *quality, *(
        [] if version == str(_VERSION) else [f'version {version}'])])


def prune(cache: ClipCache, all_parameters: bool = False) -> tuple[int, int]:
    """Removes entries that nothing will read.

    Args:
        cache (ClipCache): The folder, and the parameters that are in use.
        all_parameters (bool): Whether to remove entries of other parameters as well.

    Returns:
        tuple[int, int]: How many files were removed, and their size in bytes: those that
        are damaged, whose source is gone or changed, and what killed processes left.
    """
    removed = nbytes = 0
    for entry in list_entries(cache.folder):
        if not entry.current or (all_parameters and entry.parameters != cache.parameters):
            removed, nbytes = removed + 1, nbytes + entry.nbytes
            entry.path.unlink(missing_ok=True)
    for path in Path(cache.folder).glob(f'.*{_SUFFIX}'):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if (_LEFTOVER_NAME.fullmatch(path.name)
                    and time.time() - stat.st_mtime > _LEFTOVER_SECONDS):
                removed, nbytes = removed + 1, nbytes + stat.st_size
                path.unlink()
    return removed, nbytes
