"""Getting HRI30: the files of its record at Zenodo, unpacked into a layout that is read.

pooch checks MD5 sums and keeps what is complete; urllib3 waits as long as a server asks.
Neither resumes: the downloader here continues a file where it ended. What is unpacked is
placed by its name, whatever folders an archive has.
"""

import contextlib
import logging
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pooch
import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from ..datasets.hri30 import TEST_FOLDERS, TRAIN_FOLDERS, class_folders
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, parse_clip_name, released_name
from ..utils.fileio import atomic_path, check_writable, disk_full, ran_out_of_disk

#: Zenodo's description of HRI30.
RECORD = 'https://zenodo.org/api/records/5833411'
#: Where archives are kept, in the data folder.
ARCHIVES = '.archives'

_TRIES = 6  # without a byte of progress
_PAUSE = 1.  # seconds before the second try; doubled with each one
_BLOCK = 1 << 16  # bytes; what a cut costs at most
_ARCHIVE = ('.zip', '.tar', '.tgz', '.gz', '.bz2', '.xz', '.rar', '.7z')
#: Unpacked bytes for each byte of an archive, and more: clips hardly compress.
_MOST_TIMES, _MOST_MORE = 10, 1 << 26


class _File(NamedTuple):
    name: str
    size: int
    checksum: str
    address: str


def download(root: str | Path, record: str = RECORD) -> Counter:
    """Downloads the files of a record, unpacks them and lays the clips out.

    An interrupted call continues. Nothing is laid out unless everything is there.

    Args:
        root (str | Path): The data folder; it must not hold clips yet.
        record (str): Address of the record's description, in the form of Zenodo's API.

    Returns:
        Counter: Number of files laid out, by folder, and under ``ignored`` the others.

    Raises:
        HRI30Error: clips in the folder; a server that refuses; a wrong checksum; a full
            disk; an archive that is damaged, too large, or leads outside.
    """
    root = check_writable(root)
    found = [root / name for name in TRAIN_FOLDERS + TEST_FOLDERS if (root / name).exists()]
    if found := found or class_folders(root):
        raise HRI30Error(f'{found[0]}: exists already.\nExpected '
                         'a folder without clips; check this one with hri30 check '
                         f'{root}, or choose another --root.')
    staging, counts = root / '.unpacking', Counter()
    try:
        archives = _fetch(_read_record(record), root / ARCHIVES)
        shutil.rmtree(staging, ignore_errors=True)
        for archive in tqdm(archives, desc='unpacking', unit='file'):
            _unpack(archive, staging, counts)
        if not counts.keys() & {*TRAIN_FOLDERS, *TEST_FOLDERS}:
            raise HRI30Error(f'{root / ARCHIVES}: no clips in the files of {record}.\n'
                             'Expected archives with .avi files.')
        for folder in staging.iterdir():
            (root / folder.name).mkdir(exist_ok=True)
            for path in folder.iterdir():
                os.replace(path, root / folder.name / path.name)
    except OSError as error:
        if ran_out_of_disk(error):
            raise disk_full(root) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return counts


# ---- Downloading ------------------------------------------------------------------------


def _read_record(address: str) -> list[_File]:
    with _open(address) as response:
        try:
            files = [_File(file['key'], int(file['size']), file['checksum'],
                           file['links']['self']) for file in response.json()['files']]
            for file in files:
                if not (re.fullmatch(r'[^./\\][^/\\]*', file.name)
                        and re.fullmatch('md5:[0-9a-f]{32}', file.checksum)):
                    raise ValueError(f'the file {file.name!r}, {file.checksum!r}')
        except (ValueError, KeyError, TypeError, requests.RequestException) as error:
            raise HRI30Error(f'{address}: not the description of a record ({error}).\n'
                             "Expected the JSON of Zenodo's API, with plain names and md5 "
                             'sums.') from error
    return files


def _fetch(files: list[_File], folder: Path) -> list[Path]:
    """Downloads files, and returns their paths."""
    folder.mkdir(exist_ok=True)
    there = sum(path.stat().st_size for file in files for path in (
        folder / file.name, folder / f'{file.name}.part') if path.is_file())
    # The clips are as large as their archives.
    needed = 2 * sum(file.size for file in files) - there
    if needed > shutil.disk_usage(folder).free:
        raise disk_full(folder, needed)
    pooch.get_logger().setLevel(logging.WARNING)
    pup = pooch.create(folder, base_url='', retry_if_failed=1,
                       registry={file.name: file.checksum for file in files},
                       urls={file.name: file.address for file in files})
    paths = []
    for file in files:
        try:
            paths.append(Path(pup.fetch(file.name, downloader=partial(_resume, file))))
        except ValueError as error:
            raise HRI30Error(f'{file.address}: not the file that the record describes '
                             f'({str(error).splitlines()[0]}).\nExpected {file.checksum}; '
                             'try again later.') from error
    return paths


def _resume(file: _File, address: str, output: str, pup: pooch.Pooch) -> None:
    """Downloads a file for pooch, and continues one that has begun."""
    part = Path(pup.path) / f'{file.name}.part'
    size, failures = part.stat().st_size if part.is_file() else 0, 0
    with tqdm(total=file.size, initial=size, unit='B', unit_scale=True,
              desc=file.name) as bar:
        while size < file.size:
            with _open(address, size) as response:
                if response.status_code != 206:  # the server sends all of it
                    size = bar.n = 0
                before = size
                # A cut connection continues, unless it is cut over and over.
                with (open(part, 'ab' if size else 'wb') as out,
                      contextlib.suppress(requests.RequestException)):
                    for block in response.iter_content(_BLOCK):
                        size += out.write(block)
                        bar.update(len(block))
            failures = 0 if size > before else failures + 1
            if failures == _TRIES:
                raise HRI30Error(f'{address}: the connection was cut {_TRIES} times after '
                                 f'{size:,} of {file.size:,} bytes.\nRun the same command '
                                 'again to continue.')
    os.replace(part, output)


def _open(address: str, start: int = 0) -> requests.Response:
    """Requests a file from a byte on; waits where the server asks for it."""
    session = requests.Session()
    for scheme in ('http://', 'https://'):
        session.mount(scheme, HTTPAdapter(max_retries=Retry(
            _TRIES, status_forcelist=(429, 500, 502, 503, 504), backoff_factor=_PAUSE)))
    headers = {'Accept-Encoding': 'identity',
               **({'Range': f'bytes={start}-'} if start else {})}
    try:
        response = session.get(address, headers=headers, stream=True, timeout=60)
        response.raise_for_status()
    except requests.RequestException as error:
        raise HRI30Error(f'{address}: {error}.\nWhat is complete is kept; run the same '
                         'command again to continue, or get the files with a browser, see '
                         'data/README.md.') from error
    return response


# ---- Unpacking --------------------------------------------------------------------------


def _unpack(path: Path, staging: Path, counts: Counter) -> None:
    """Places the clips and lists of an archive, or a file that is one itself."""
    left = _MOST_TIMES * path.stat().st_size + _MOST_MORE
    try:
        for name, is_folder, is_file, blocks in _members(path):
            parts = PurePosixPath(name.replace('\\', '/')).parts
            if '..' in parts or parts[:1] == ('/', ) or ':' in ''.join(parts[:1]):
                raise ValueError(f'its member {name!r} leads outside')
            if not is_file and not is_folder:
                raise ValueError(f'its member {name!r} is a link or a device')
            target = _place(PurePosixPath(*parts)) if is_file else None
            if target is None:
                counts['ignored'] += is_file
                continue
            if (staging / target).exists():
                raise ValueError(f'{name} stands in the archives twice')
            with atomic_path(staging / target) as temporary, open(temporary, 'wb') as out:
                for block in blocks():
                    left -= out.write(block)
                    if left < 0:
                        raise ValueError(f'unpacks to more than {_MOST_TIMES} times its '
                                         'size')
            counts[target.split('/')[0]] += 1
    except HRI30Error:
        raise
    except Exception as error:  # decompressors raise many kinds
        if ran_out_of_disk(error):
            raise
        raise HRI30Error(f'{path}: cannot be unpacked ({error}).\nExpected an archive of '
                         'clips, without a password. Nothing was laid out.') from error


def _members(path: Path) -> Iterator[tuple[str, bool, bool, Callable]]:
    """Yields name, whether it is a folder or a file, and what reads it, of each member."""
    def read(opener, member=path):
        return lambda: iter(partial(opener(member).read, _BLOCK), b'')

    if not path.name.lower().endswith(_ARCHIVE):
        yield path.name, False, True, read(partial(open, mode='rb'))
    elif path.suffix.lower() == '.zip':
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                yield (info.filename, info.is_dir(), not info.is_dir() and regular,
                       read(archive.open, info))
    elif path.suffix.lower() not in ('.rar', '.7z'):
        with tarfile.open(path) as archive:
            for info in archive:
                yield info.name, info.isdir(), info.isreg(), read(archive.extractfile, info)
    else:
        try:
            import libarchive
        except (ImportError, OSError, AttributeError) as error:
            raise HRI30Error(f'{path}: rar and 7z need libarchive ({error}).\nInstall it '
                             '(Debian, Ubuntu: apt install libarchive13) and run '
                             'tools/setup.sh, or unpack the file yourself.') from error
        with libarchive.file_reader(str(path)) as archive:
            for entry in archive:
                yield entry.pathname, entry.isdir, entry.isreg, entry.get_blocks


def _place(file: PurePosixPath) -> str | None:
    """Returns where a clip or a list belongs, by its name; None for other files."""
    if any(part.startswith(('.', '__MACOSX')) for part in file.parts):
        return None
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        is_list = re.search(r'(label|list\d|classind).*\.(csv|txt)$', file.name, re.I)
        return f'annotations/{file.name}' if is_list else None
    try:
        clip = parse_clip_name(file.stem, HRI30_CLASSES)
    except HRI30Error:
        return f'test_set/{file.name}'
    if clip.ucf:
        return f'videos/{released_name(HRI30_CLASSES[clip.class_id - 1])}/{file.name}'
    return f'train_set/{file.name}'
