"""Getting HRI30: the files of its record at Zenodo, unpacked into a layout that is read.

pooch checks MD5 sums, tries again and keeps what is complete. What is unpacked is placed by
its name alone, whatever folders an archive has.
"""

import logging
import os
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import msgspec
import pooch
import requests
from msgspec import Meta
from tqdm import tqdm

from ..datasets.hri30 import TEST_FOLDERS, TRAIN_FOLDERS, class_folders
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, parse_clip_name, released_name
from ..utils.fileio import check_writable, disk_full, ran_out_of_disk

#: Zenodo's description of HRI30.
RECORD = 'https://zenodo.org/api/records/5833411'
#: Where archives are kept, in the data folder.
ARCHIVES = '.archives'

_TRIES = 6  # of a file
_SECONDS = 60  # to wait for a server
_ARCHIVE = ('.zip', '.tar', '.tgz', '.gz', '.bz2', '.xz')


class _File(msgspec.Struct):
    key: Annotated[str, Meta(pattern=r'^[^./\\][^/\\]*$')]  # a plain name
    size: int
    checksum: Annotated[str, Meta(pattern='^md5:[0-9a-f]{32}$')]
    links: dict[str, str]


class _Record(msgspec.Struct):
    files: list[_File]


def download(root: str | Path, record: str = RECORD) -> Counter:
    """Downloads the files of a record, unpacks them and lays the clips out.

    A later call gets the files that an interrupted one did not complete. Nothing is laid
    out unless everything is there.

    Args:
        root (str | Path): The data folder; it must not hold clips yet.
        record (str): Address of the record's description, in the form of Zenodo's API.

    Returns:
        Counter: Number of files laid out, by folder, and under ``ignored`` the others.

    Raises:
        HRI30Error: clips in the folder; a server that refuses; a wrong checksum; a full
            disk; an archive that is damaged.
    """
    root = check_writable(root)
    found = [root / name for name in TRAIN_FOLDERS + TEST_FOLDERS if (root / name).exists()]
    if found := found or class_folders(root):
        raise HRI30Error(f'{found[0]}: exists already.\nExpected '
                         'a folder without clips; check this one with hri30 check '
                         f'{root}, or choose another --root.')
    staging, counts = root / '.unpacking', Counter()
    try:
        archives = _fetch(record, root / ARCHIVES)
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


def _fetch(record: str, folder: Path) -> list[Path]:
    """Downloads the files of a record, and returns their paths."""
    folder.mkdir(exist_ok=True)
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        response = requests.get(record, timeout=_SECONDS)
        response.raise_for_status()
        files = msgspec.json.decode(response.content, type=_Record).files
        missing = sum(file.size for file in files if not (folder / file.key).is_file())
        # The clips are as large as their archives.
        needed = missing + sum(file.size for file in files)
        if needed > shutil.disk_usage(folder).free:
            raise disk_full(folder, needed)
        pup = pooch.create(folder, base_url='', retry_if_failed=_TRIES - 1,
                           registry={file.key: file.checksum for file in files},
                           urls={file.key: file.links.get('self', '') for file in files})
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=_SECONDS)
        return [Path(pup.fetch(file.key, downloader=downloader)) for file in files]
    except (requests.RequestException, msgspec.MsgspecError, ValueError) as error:
        raise HRI30Error(f'{record}: cannot be downloaded ({error}).\nWhat is complete is '
                         'kept; run the same command again later, or get the files with a '
                         'browser, see data/README.md.') from error


def _unpack(path: Path, staging: Path, counts: Counter) -> None:
    """Places the clips and lists of an archive, or a file that is one itself."""
    try:
        for name, file in _members(path):
            with file:
                target = _place(PurePosixPath(name.replace('\\', '/')))
                counts[target.split('/')[0] if target else 'ignored'] += 1
                if target:
                    (staging / target).parent.mkdir(parents=True, exist_ok=True)
                    with open(staging / target, 'xb') as out:  # no name stands there twice
                        shutil.copyfileobj(file, out)
    except Exception as error:  # decompressors raise many kinds
        if ran_out_of_disk(error):
            raise
        raise HRI30Error(f'{path}: cannot be unpacked ({error}).\nExpected an archive of '
                         'clips, without a password. Nothing was laid out.') from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields name and content of each regular file in an archive."""
    if not path.name.lower().endswith(_ARCHIVE):
        yield path.name, path.open('rb')
    elif path.suffix.lower() == '.zip':
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, archive.open(info)
    else:
        with tarfile.open(path) as archive:
            for info in archive:
                if info.isreg():
                    yield info.name, archive.extractfile(info)


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
