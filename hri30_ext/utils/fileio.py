"""Writes files completely or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import HRI30Error

#: Errors of the system if a disk, a quota or the allowed size of a file is used up.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(HRI30Error):
    """A file cannot be written because the disk is full."""


def ran_out_of_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk is full.

    Writers wrap the system's error: torch.save reports an unexpected position, and a
    loading process passes on a text.
    """
    while error is not None:
        if isinstance(error, OSError) and (
                error.errno in _FULL
                or any(os.strerror(number) in str(error) for number in _FULL)):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(path: str | Path, needed: int | None = None) -> DiskFull:
    """Returns the error for a file, or a folder of files, that needs so many bytes."""
    size = f'; {needed / 2**20:,.1f} MiB are needed' if needed else ''
    return DiskFull(f'{path}: cannot be written: the disk is full, or a quota is used up'
                    f'{size}.')


def refuse_no_file(path: str | Path) -> None:
    """Raises an HRI30Error if a folder or a device is where a file is to be written."""
    # Also devices that stand for another file: root would replace /dev/stdout.
    path = Path(path)
    if path.parent == Path('/dev') or path.exists() and not path.is_file():
        raise HRI30Error(f'{path}: cannot be written: not a file.\nName another one.')


@contextlib.contextmanager
def atomic_path(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path that becomes ``path`` if nothing is raised.

    Its folder is created. The temporary file is in the same folder and has the same
    extension, which some writers look at. A file that is replaced keeps its permissions.

    Args:
        path (str | Path): The file to write.
        durable (bool): Whether to wait for the disk, so that even after a power failure
            either the old file or the new one is complete.

    Raises:
        HRI30Error: the folder cannot be written, or the disk is full; the file is then
            unchanged.
    """
    path = Path(path)
    try:
        refuse_no_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.stem}-{secrets.token_hex(4)}{path.suffix}')
        temporary.touch(exist_ok=False)
        if path.exists():
            shutil.copymode(path, temporary)
    except OSError as error:
        if ran_out_of_disk(error):
            raise disk_full(path) from error
        raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                         'Choose another folder, or remove what is in the way.') from error
    try:
        yield temporary
        if durable:
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        if ran_out_of_disk(error) and not isinstance(error, DiskFull):
            raise disk_full(path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str, durable: bool = False) -> None:
    """Writes UTF-8 text with LF line ends, completely or not at all."""
    with atomic_path(path, durable) as temporary:
        # The name of a file may have bytes that are not UTF-8.
        temporary.write_text(text, encoding='utf-8', errors='surrogateescape',
                             newline='\n')


def atomic_write_json(path: str | Path, content: object, indent: int | None = 2) -> None:
    """Writes a JSON document as ASCII, so that names of any bytes can be read back.

    Raises:
        HRI30Error: as for :func:`atomic_path`.
        ValueError: a number that is not finite.
    """
    atomic_write_text(path, json.dumps(content, indent=indent, allow_nan=False) + '\n')


def sha256_of(path: str | Path) -> str:
    """Returns the SHA-256 of a file of any size, as hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def check_writable(folder: str | Path) -> Path:
    """Creates a folder for results, and fails early if that is impossible.

    Returns:
        Path: The folder, absolute.

    Raises:
        HRI30Error: it cannot be created or written.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HRI30Error(f'{folder}: cannot be written ({error.strerror or error}).\n'
                         'Choose another folder.') from error
    return folder
