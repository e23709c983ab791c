"""Decoded clips on disk, so that no clip is decoded twice.

Reading 8 frames of 384 x 256 pixels takes about a memory copy from the raw form, ``memmap``
(0.3 MB a frame), and a JPEG decode from the small one, ``jpeg``.

A clip is one file, ``KEY-STAMP.npy`` or ``KEY-STAMP.jpegs``. The key is a hash of the path
of its source and of the short side; the stamp, one of what may change under them: size and
time of the source, and the version of this cache. A file with another stamp is deleted when
its clip is written again. The whole folder may be deleted at any time. Contents::

    .npy      uint8 RGB, (T, H, W, 3): np.load(path, mmap_mode='r') reads it
    .jpegs    int64: T, H, W, and T sizes in bytes; then one JPEG after another

Shapes: T frames of a clip, H height, W width.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from ..errors import HRI30Error
from ..names import split_part
from ..utils.fileio import DiskFull, atomic_path, check_writable
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from .decode import Clip, ClipError, Video
from .jpeg import decode_jpeg, encode_jpeg

#: Endings of the files, by form.
FORMS = {'memmap': '.npy', 'jpeg': '.jpegs'}

#: Raised whenever clips are written in another way, or Video decodes other pixels: what is
#: interlaced, how it is de-interlaced, how frames are scaled.
_VERSION = 3

_ADVICE = ('Free some space, choose another folder (cache_dir), use the small jpeg form '
           '(clip_cache=jpeg), or no cache (clip_cache=None).')

_SAMPLED_CLIPS = 8

# Of JPEGs: with colours at half the width, errors of 1.3 grey levels on average on rendered
# clips, and of more than 10 for one pixel in a hundred; 95 with colours at half width and
# height is no better, and larger.
_QUALITY = 90


class CachedClip(Clip):
    """A clip in the cache.

    Args:
        path (str | Path): Its file.

    Attributes:
        array (np.ndarray, optional): In the raw form, all frames, memory-mapped and read
            only, (T, H, W, 3) uint8 RGB: only pages that are used are read. Otherwise
            None.
    """

    def __init__(self, path: str | Path) -> None:
        self.filename, self.array = str(path), None
        if self.filename.endswith('.npy'):
            self.array = np.asarray(npy.open_memmap(path, 'r'))
            self.total_frames, height, width, _ = self.array.shape
        else:
            self._bytes = np.asarray(np.memmap(path, np.uint8, 'r'))
            self.total_frames, height, width = self._bytes[:24].view(np.int64).tolist()
            begin = 8 * (3 + self.total_frames)
            self._ends = begin + np.cumsum([0, *self._bytes[24:begin].view(np.int64)])
        self.size = width, height

    def _read(self, positions: list[int]) -> np.ndarray:
        if self.array is not None:
            return self.array.take(positions, axis=0)
        try:
            return np.stack([decode_jpeg(self._bytes[self._ends[i]:self._ends[i + 1]])
                             for i in positions])
        except ClipError as error:
            raise HRI30Error(f'{self.filename}: is damaged ({error.reason}).\nRemove this '
                             'file; the clip is then decoded again.') from error


class ClipCache:
    """Decoded clips in a folder.

    Several processes may read and write it at once: a file appears whole, and a clip that
    is being read stays the same while its file is replaced.

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
                             f'expected a folder, {" or ".join(FORMS)}, pixels or None.')
        self.folder = Path(folder).expanduser().absolute()
        self.short_side, self.form = short_side, form

    def path(self, filename: str | Path) -> Path:
        """Returns the path of a clip's file, which may not exist yet."""
        source, stamp = os.path.abspath(filename), [_VERSION, _QUALITY]
        with contextlib.suppress(OSError):  # an absent clip has no file
            stat = os.stat(split_part(source)[0])
            stamp += [stat.st_size, stat.st_mtime_ns]
        key = _hash(os.fsencode(source) + f'\n{self.short_side}'.encode())
        return self.folder / f'{key}-{_hash(repr(stamp).encode())}{FORMS[self.form]}'

    def open(self, filename: str | Path) -> CachedClip | None:
        """Opens a clip's file; None where it is absent or stale."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: cut short by a disk
            return CachedClip(self.path(filename))

    def add(self, filename: str | Path, threads: int = 1) -> CachedClip:
        """Decodes a clip and writes its file, instead of an older one.

        Raises:
            ClipError: the clip cannot be decoded.
            HRI30Error: its file cannot be written.
        """
        path = self.path(filename)  # before it is read: it may change meanwhile
        frames_THWC = Video(filename, self.short_side, threads).read_all()
        try:
            with atomic_path(path) as temporary:
                with open(temporary, 'wb') as file:
                    parts = self.encode(frames_THWC)
                    if self.form == 'memmap':
                        npy.write_array_header_1_0(
                            file, npy.header_data_from_array_1_0(frames_THWC))
                    else:
                        file.write(np.array([*frames_THWC.shape[:3], *map(len, parts)],
                                            np.int64))
                    file.writelines(parts)
                # Before it has its name, when another process may delete it.
                clip = CachedClip(temporary)
            clip.filename = str(path)
            key, _ = path.name.split('-')
            for sibling in self.folder.glob(f'{key}-*{path.suffix}'):
                if sibling != path:
                    sibling.unlink(missing_ok=True)
            return clip
        except DiskFull as error:
            raise DiskFull(f'{error}\n{_ADVICE}') from error

    def encode(self, frames_THWC: np.ndarray) -> list:
        """Returns the parts of a file: all frames, or a JPEG each."""
        if self.form == 'memmap':  # one write, which gives larger pages to map
            return [frames_THWC.data]
        return [encode_jpeg(frame, _QUALITY) for frame in frames_THWC]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def folder_size(folder: str | Path) -> tuple[int, int]:
    """Returns how many clips of any form are in a folder, and their size in bytes."""
    sizes = [path.stat().st_size for form in FORMS.values()
             for path in Path(folder).glob(f'*-*{form}')]
    return len(sizes), sum(sizes)


# ---- All clips of a data folder ---------------------------------------------------------


def estimate_size(cache: ClipCache, filenames: Sequence[str]) -> int:
    """Estimates how many bytes the files of clips will take, from a few of them."""
    count, sizes = len(filenames), []
    for i in np.linspace(0, count - 1, min(_SAMPLED_CLIPS, count), dtype=int):
        with contextlib.suppress(ClipError):  # reported when it is cached
            parts = cache.encode(Video(filenames[i], cache.short_side).read_all())
            sizes.append(sum(memoryview(part).nbytes for part in parts))
    return round(np.mean(sizes) * count) if sizes else 0


def cache_clips(cache: ClipCache, filenames: Sequence[str], workers: int | None = None,
                report: Callable[[str], None] = print) -> list[str]:
    """Makes the missing files, in parallel; says their approximate size first.

    After an interruption, another call continues.

    Args:
        workers (int, optional): Clips at a time; by default one a core.
        report (Callable): Gets a line with the size before anything is written.

    Returns:
        list[str]: A line for each clip that cannot be decoded; the others are cached.

    Raises:
        HRI30Error: the disk has less room than the files take.
    """
    missing = [name for name in filenames if cache.open(name) is None]
    needed = estimate_size(cache, missing)
    free = shutil.disk_usage(check_writable(cache.folder)).free
    report(f'{len(filenames)} clips: {len(filenames) - len(missing)} are in the cache, '
           f'{len(missing)} to do, which take about {needed / 1e9:.3f} GB of '
           f'{free / 1e9:.1f} GB free')
    if needed > free:
        raise HRI30Error(f'{cache.folder}: {needed / 1e9:.3f} GB are needed and '
                         f'{free / 1e9:.3f} GB are free.\n{_ADVICE}')
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
        # Files that are being written are finished; no other is begun.
        pool.shutdown(wait=True, cancel_futures=True)
    return broken
