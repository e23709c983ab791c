"""Writing files whole or not at all."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import HRI30Error

#: What the system says where a disk, a quota or the size allowed for a file is used up.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What it says where folders cannot be waited for.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


class DiskFull(HRI30Error):
    """There is no room to write a file in."""


def ran_out_of_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full.

    Writers wrap what the system said: torch.save's says that a position is unexpected, and
    a loading process hands on a text.
    """
    while error is not None:
        if isinstance(error, OSError) and (
                error.errno in _FULL
                or any(os.strerror(number) in str(error) for number in _FULL)):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(path: str | Path, needed: int | None = None) -> DiskFull:
    """Says that a file cannot be written for want of room.

    Args:
        path (str | Path): The file, or the folder of files.
        needed (int, optional): Its size in bytes.
    """
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**20
    wanted = '' if needed is None else f', {needed / 2**20:,.1f} MiB are needed'
    return DiskFull(f'{path}: cannot be written: the disk is full, or a quota is used up '
                    f'({free:,.1f} MiB are free{wanted}).')


@contextlib.contextmanager
def atomic_path(path: str | Path, durable: bool = False,
                needed: int | None = None) -> Iterator[Path]:
    """Yields a temporary path that becomes ``path`` if nothing is raised.

    Its folder is created. The temporary file lies beside the target, with its
    suffix, so that writers that look at the ending work.

    Args:
        path (str | Path): What to write.
        durable (bool): Whether it is on the disk when this ends, so that not even a power
            cut leaves less than the old file or the new one.
        needed (int, optional): Its size in bytes, for the message where there is no room.

    Raises:
        HRI30Error: the folder cannot be written, or the disk is full; the file is then as
            it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f'.{path.stem}-', suffix=path.suffix)
        os.close(handle)
        # mkstemp makes files private; results are as public as the umask says.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
    except OSError as error:
        if ran_out_of_disk(error):
            raise disk_full(path, needed) from error
        raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                         'Choose another folder or free the place.') from error
    try:
        yield Path(name)
        if durable:
            _sync(name)
        os.replace(name, path)
        if durable:
            _sync(path.parent, is_folder=True)
    except Exception as error:
        if ran_out_of_disk(error) and not isinstance(error, DiskFull):
            raise disk_full(path, needed) from error
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync(path: str | Path, is_folder: bool = False) -> None:
    """Waits until a file, or the names in a folder, are on the disk.

    Some network file systems cannot do that for a folder, and say so.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not is_folder or error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def atomic_write_text(path: str | Path, text: str, durable: bool = False) -> None:
    """Writes UTF-8 text with LF line ends, whole or not at all."""
    with atomic_path(path, durable) as temporary:
        # A file name that is not UTF-8 is written as the bytes that it is.
        temporary.write_text(text, encoding='utf-8', errors='surrogateescape',
                             newline='\n')


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
    """Creates a folder for results, and fails early where that is impossible.

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
                         'Choose another folder with --work-dir or --out.') from error
    return folder
