"""Short digests of what clips contain, by which clips of any name are compared."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import HRI30Error
from ..names import PROJECT_ROOT, split_part
from ..utils.fileio import atomic_write_json, sha256_of
from ..utils.reading import read_json

#: Where digests are stored unless a config has a ``cache_dir``.
CACHE_DIR = PROJECT_ROOT / 'work_dirs' / 'cache'
_STORE = 'digests.json'


def digest_clips(files: Iterable[str], cache_dir: str | Path | None) -> dict[str, str]:
    """Computes a digest of the content of each clip.

    Digests are stored, and computed again only for files whose size or time has changed.

    Args:
        files (Iterable[str]): The ``filename`` of samples, which may mean a part of a
            recording; see :func:`hri30_ext.names.split_part`.
        cache_dir (str | Path, optional): The folder of the store; by default
            :data:`CACHE_DIR`. If it cannot be written, nothing is stored.

    Returns:
        dict[str, str]: 16 hexadecimal digits by file: the first 64 bits of the file's
        SHA-256; for a part, of the SHA-256 of that, its start and its end. Files that are
        empty or cannot be read are left out.
    """
    parts = {file: split_part(file) for file in files}
    store, stored = Path(cache_dir or CACHE_DIR) / _STORE, {}
    with contextlib.suppress(HRI30Error):  # there is none yet, or it is damaged
        stored = read_json(store, 'digests of clips', 256 << 20,
                           dict[str, tuple[int, int, str]])

    def read(path: str) -> tuple[int, int, str] | None:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            key = status.st_size, status.st_mtime_ns
            known = stored.get(path)
            if not status.st_size:  # empty files are not one clip
                return None
            return known if known and known[:2] == key else (*key, sha256_of(path)[:16])

    recordings = {file: os.path.realpath(file) for file, _ in parts.values()}
    paths = sorted(set(recordings.values()))
    with ThreadPoolExecutor(8) as pool:  # SHA-256 runs outside Python's lock
        now = {path: entry for path, entry in zip(paths, pool.map(read, paths), strict=True)
               if entry}
    if not now.items() <= stored.items():
        kept = {path: entry for path, entry in stored.items() if os.path.exists(path)}
        with contextlib.suppress(HRI30Error):
            atomic_write_json(store, {**kept, **now}, None)
    digests = {}
    for file, (recording, part) in parts.items():
        if entry := now.get(recordings[recording]):
            digests[file] = entry[2] if part is None else hashlib.sha256(
                f'{entry[2]} {part[0]} {part[1]}'.encode()).hexdigest()[:16]
    return digests
