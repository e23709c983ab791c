"""Getting HRI30: the files of its record at Zenodo, unpacked into the layout that is read.

pooch checks MD5 sums, retries a file whose sum is wrong, and keeps what is complete. It
does not resume: the downloader here continues a file where it ended and waits as long as
the server asks. What is unpacked is placed by its name, whatever folders an archive has.
"""

import logging
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec
import pooch
import requests
from tqdm import tqdm

from ..datasets.hri30 import TEST_FOLDERS, TRAIN_FOLDERS, class_folders
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, parse_clip_name, released_name
from ..utils.fileio import atomic_path, check_writable, disk_full, ran_out_of_disk

#: Zenodo's description of HRI30.
RECORD = 'https://zenodo.org/api/records/5833411'
#: Where archives are kept, in the data folder.
ARCHIVES = '.archives'
_STAGING = '.unpacking'

_TRIES = 6  # without a byte of progress
_PAUSE = 1.  # seconds before the second try; doubled with each one
_LONGEST = 600  # seconds that a server may ask to wait
_BLOCK = 1 << 16  # bytes; what a cut costs at most
_ARCHIVE = ('.zip', '.tar', '.tgz', '.gz', '.bz2', '.xz', '.rar', '.7z')
#: Unpacked bytes for each byte of an archive, and more: clips hardly compress.
_MOST_TIMES, _MOST_MORE = 10, 1 << 26


class _Links(msgspec.Struct):
    address: str = msgspec.field(name='self')


class _File(msgspec.Struct):
    key: str
    size: int
    checksum: str
    links: _Links


class _Record(msgspec.Struct):
    files: list[_File]


def download(root: str | Path, record: str = RECORD) -> Counter:
    """Downloads the files of a record, unpacks them and lays the clips out.

    An interrupted call continues. Nothing is laid out unless everything is there.

    Args:
        root (str | Path): The data folder; it must not hold clips yet.
        record (str): Address of the record's description, in the form of Zenodo's API.

    Returns:
        Counter: Number of files laid out, by folder, and under ``ignored`` the others.

    Raises:
        HRI30Error: clips in the folder; a server that refuses, or does not answer; a wrong
            checksum; a full disk; an archive that is damaged, too large, or holds links or
            paths that lead outside.
    """
    root = check_writable(root)
    found = [root / name for name in TRAIN_FOLDERS + TEST_FOLDERS if (root / name).exists()]
    found += class_folders(root)
    if found:
        raise HRI30Error(f'{found[0]}: exists already.\nExpected a folder without clips; '
                         f'check this one with tools/data/check.py {root}, or choose '
                         'another --root.')
    files = _read_record(record)
    archives = _fetch(files, root / ARCHIVES)
    staging = root / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    counts: Counter = Counter()
    try:
        for archive in tqdm(archives, desc='unpacking', unit='file'):
            _unpack(archive, staging, counts)
        for folder in sorted(staging.iterdir()) if staging.is_dir() else ():
            (root / folder.name).mkdir(exist_ok=True)
            for path in folder.iterdir():
                os.replace(path, root / folder.name / path.name)
    except OSError as error:
        if ran_out_of_disk(error):
            raise disk_full(staging) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not counts.keys() & {*TRAIN_FOLDERS, *TEST_FOLDERS}:
        raise HRI30Error(f'{root / ARCHIVES}: no clips in the files of {record}.\nExpected '
                         'archives with .avi files.')
    return counts


# ---- Downloading ------------------------------------------------------------------------


def _read_record(address: str) -> list[_File]:
    with _open(address) as response:
        try:
            files = msgspec.json.decode(response.content, type=_Record).files
        except (msgspec.DecodeError, requests.RequestException) as error:
            raise HRI30Error(f'{address}: not the description of a record ({error}).\n'
                             "Expected the JSON of Zenodo's API.") from error
    for file in files:
        if (Path(file.key).name != file.key or file.key.startswith('.') or file.size < 0
                or not re.fullmatch('md5:[0-9a-f]{32}', file.checksum)):
            raise HRI30Error(f'{address}: found the file {file.key!r} with checksum '
                             f'{file.checksum!r}, expected a plain name and md5:...')
    return files


def _fetch(files: Sequence[_File], folder: Path) -> list[Path]:
    """Downloads files, and returns their paths."""
    folder.mkdir(exist_ok=True)
    there = sum(min(path.stat().st_size, file.size) for file in files
                for path in (folder / file.key, folder / f'{file.key}.part')
                if path.is_file())
    total = sum(file.size for file in files)
    needed = 2 * total - there  # the clips are as large as their archives
    if needed > shutil.disk_usage(folder).free:
        raise disk_full(folder, needed)
    pooch.get_logger().setLevel(logging.WARNING)
    pup = pooch.create(folder, base_url='', retry_if_failed=1,
                       registry={file.key: file.checksum for file in files},
                       urls={file.key: file.links.address for file in files})
    paths = []
    for file in files:
        try:
            paths.append(Path(pup.fetch(file.key, downloader=partial(_resume, file))))
        except ValueError as error:
            raise HRI30Error(f'{file.links.address}: the file is not the one that the '
                             f'record describes ({str(error).splitlines()[0]}).\nExpected '
                             f'{file.checksum}; try again later.') from error
        except OSError as error:
            if ran_out_of_disk(error):
                raise disk_full(folder / file.key, file.size) from error
            raise
    return paths


def _resume(file: _File, address: str, output: str, pup: pooch.Pooch) -> None:
    """Downloads a file for pooch, and continues one that has begun."""
    part = Path(pup.path) / f'{file.key}.part'
    size, failures = part.stat().st_size if part.is_file() else 0, 0
    with tqdm(total=file.size, initial=size, unit='B', unit_scale=True,
              desc=file.key) as bar:
        while size < file.size:
            with _open(address, size) as response:
                if response.status_code != 206:  # the server sends all of it
                    size = bar.n = 0
                before = size
                with open(part, 'ab' if size else 'wb') as out:
                    try:
                        for block in response.iter_content(_BLOCK):
                            size += out.write(block)
                            bar.update(len(block))
                    except requests.RequestException:
                        pass  # cut: continue, unless it is cut over and over
            failures = 0 if size > before else failures + 1
            if failures == _TRIES:
                raise HRI30Error(f'{address}: the connection was cut {_TRIES} times after '
                                 f'{size:,} of {file.size:,} bytes.\nRun the same command '
                                 'again to continue.')
    os.replace(part, output)


def _open(address: str, start: int = 0) -> requests.Response:
    """Requests a file from a byte on; waits where the server asks for it."""
    headers = {'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    for attempt in range(_TRIES):
        wait, reason = _PAUSE * 2 ** attempt, ''
        try:
            response = requests.get(address, headers=headers, stream=True, timeout=60)
        except requests.ConnectionError as error:
            reason = f'no connection ({error})'
        except requests.Timeout:
            reason = 'no answer in 60 seconds'
        except (requests.RequestException, ValueError) as error:
            raise HRI30Error(f'{address}: {error}.\nExpected an address of a web server.'
                             ) from error
        else:
            if response.ok:
                return response
            reason = f'HTTP {response.status_code} ({response.reason})'
            asked = response.headers.get('Retry-After', '')
            response.close()
            if response.status_code not in (429, 500, 502, 503, 504):
                break
            if asked.isascii() and asked.isdigit():
                wait = int(asked[:9])
            if wait > _LONGEST:
                reason += f', try again in {wait} seconds'
                break
        if attempt + 1 < _TRIES:
            time.sleep(wait)
    raise HRI30Error(f'{address}: {reason}.\nWhat is complete is kept; run the same '
                     'command again to continue, or get the files with a browser, see '
                     'data/README.md.')


# ---- Unpacking --------------------------------------------------------------------------


def _unpack(path: Path, staging: Path, counts: Counter) -> None:
    """Places the clips and lists of an archive, or a file that is one itself."""
    if not path.name.lower().endswith(_ARCHIVE):
        with open(path, 'rb') as file:
            _place(path.name, _blocks(file), staging, counts)
        return
    left = _MOST_TIMES * path.stat().st_size + _MOST_MORE

    def bounded(blocks):
        nonlocal left
        for block in blocks:
            left -= len(block)
            if left < 0:
                raise HRI30Error(f'{path}: unpacks to more than {_MOST_TIMES} times its '
                                 'size.\nExpected clips; nothing was laid out.')
            yield block

    try:
        for name, is_folder, is_file, blocks in _members(path):
            parts = PurePosixPath(name.replace('\\', '/')).parts
            if '..' in parts or parts[:1] == ('/', ) or ':' in ''.join(parts[:1]):
                raise HRI30Error(f'{path}: its member {name!r} leads outside.\nExpected '
                                 'relative paths; nothing was laid out.')
            if is_file:
                _place('/'.join(parts), bounded(blocks()), staging, counts)
            elif not is_folder:
                raise HRI30Error(f'{path}: its member {name!r} is a link or a device.\n'
                                 'Expected files and folders; nothing was laid out.')
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError,
            NotImplementedError) as error:
        raise HRI30Error(f'{path}: cannot be unpacked ({error}).\nExpected an archive '
                         'without a password. Delete it and try again.') from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.read, _BLOCK), b'')


def _members(path: Path) -> Iterator[tuple[str, bool, bool, Callable]]:
    """Yields name, whether it is a folder or a file, and what reads it, of each member."""
    if path.suffix.lower() == '.zip':
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                yield (info.filename, info.is_dir(),
                       not info.is_dir() and kind in (0, stat.S_IFREG),
                       lambda info=info: _blocks(archive.open(info)))
    elif path.suffix.lower() not in ('.rar', '.7z'):
        with tarfile.open(path) as archive:
            for info in archive:
                yield (info.name, info.isdir(), info.isreg(),
                       lambda info=info: _blocks(archive.extractfile(info)))
    else:
        try:
            import libarchive
        except (ImportError, OSError, AttributeError) as error:
            raise HRI30Error(f'{path}: rar and 7z need libarchive ({error}).\nInstall it '
                             '(Debian, Ubuntu: apt install libarchive13) and run '
                             'tools/setup.sh, or unpack the file yourself.') from error
        try:
            with libarchive.file_reader(str(path)) as archive:
                for entry in archive:
                    yield entry.pathname, entry.isdir, entry.isreg, entry.get_blocks
        except libarchive.ArchiveError as error:
            raise RuntimeError(error) from error


def _place(name: str, blocks: Iterator[bytes], staging: Path, counts: Counter) -> None:
    """Writes a clip or a list to where it belongs, by its name alone."""
    file = PurePosixPath(name)
    folder = None
    if not any(part.startswith(('.', '__MACOSX')) for part in file.parts):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            folder = 'test_set'
            try:
                clip = parse_clip_name(file.stem, HRI30_CLASSES)
            except HRI30Error:
                pass
            else:
                of_class = released_name(HRI30_CLASSES[clip.class_id - 1])
                folder = f'videos/{of_class}' if clip.ucf else 'train_set'
        elif re.search(r'(label|list\d|classind).*\.(csv|txt)$', file.name, re.IGNORECASE):
            folder = 'annotations'
    if folder is None:
        counts['ignored'] += 1
        return
    target = staging / folder / file.name
    if target.exists():
        raise HRI30Error(f'{name}: stands in the archives twice.\nExpected each clip once; '
                         'nothing was laid out.')
    with atomic_path(target) as temporary, open(temporary, 'wb') as out:
        for block in blocks:
            out.write(block)
    counts[folder.split('/')[0]] += 1
