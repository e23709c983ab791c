"""Writing files whole or not at all."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import HRI30Error


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path that becomes ``path`` if nothing is raised.

    Its folder is created. The temporary file lies beside the target, with its
    suffix, so that writers that look at the ending work.

    Raises:
        HRI30Error: the folder cannot be written.
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
        raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                         'Choose another folder or free the place.') from error
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text with LF line ends, whole or not at all."""
    with atomic_path(path) as temporary:
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
