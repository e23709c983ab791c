"""Reading texts that others wrote: whole files of a size that fits, or a message."""

import contextlib
import csv
import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from ..errors import HRI30Error

#: Of a list or table; one of 10^6 clips has 60 MB.
MAX_TEXT_BYTES = 256 << 20
#: Of a JSON file, whose values take ten times as much in memory.
MAX_JSON_BYTES = 64 << 20
#: Of arrays; the scores of 10^6 clips with their names have a third of it.
MAX_ARRAY_BYTES = 2 << 30


@contextlib.contextmanager
def open_text(path: str | Path, expected: str, most: int = MAX_TEXT_BYTES,
              errors: str = 'strict') -> Iterator[TextIO]:
    """Opens a text in UTF-8, with or without a byte order mark; line ends stay.

    Args:
        path (str | Path): The file.
        expected (str): What it should be, for messages, such as ``'a list of clips'``.
        most (int): Its size in bytes, at most.
        errors (str): How bytes that are not UTF-8 are read, as for :func:`open`.

    Raises:
        HRI30Error: it cannot be read, is no file, is too large, or is no text or table;
            also where this is found out while it is read.
    """
    path = Path(path)
    try:
        # A pipe would be waited for before it can be looked at.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, encoding='utf-8-sig', errors=errors, newline='') as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise HRI30Error(f'{path}: not a file.\nExpected {expected}.')
            if found.st_size > most:
                raise HRI30Error(f'{path}: {found.st_size:,} bytes, more than '
                                 f'{most:,}.\nExpected {expected}.')
            yield file
    except OSError as error:
        raise HRI30Error(f'{path}: cannot be read ({error.strerror or error}).\n'
                         f'Expected {expected}.') from error
    except UnicodeDecodeError as error:
        raise HRI30Error(f'{path}: not a text in UTF-8 (byte 0x'
                         f'{error.object[error.start]:02x}).\nExpected {expected}; save it '
                         'as UTF-8.') from error
    except csv.Error as error:
        raise HRI30Error(f'{path}: not a table ({error}).\nExpected {expected}.'
                         ) from error


def read_text(path: str | Path, expected: str, most: int = MAX_TEXT_BYTES) -> str:
    """Reads a text; arguments and errors are those of :func:`open_text`."""
    with open_text(path, expected, most) as file:
        return file.read()


def read_json(path: str | Path, expected: str, most: int = MAX_JSON_BYTES) -> dict:
    """Reads a JSON object.

    Args:
        path (str | Path): The file.
        expected (str): What it should be, for messages.
        most (int): Its size in bytes, at most.

    Raises:
        HRI30Error: see :func:`open_text`; or it is not JSON, or another value than an
            object.
    """
    text = read_text(path, expected, most)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = 'nested too deep' if isinstance(error, RecursionError) else error
        raise HRI30Error(f'{path}: not readable JSON ({reason}).\nExpected {expected}.'
                         ) from error
    if not isinstance(found, dict):
        raise HRI30Error(f'{path}: a JSON {type(found).__name__}, expected an object.\n'
                         f'Expected {expected}.')
    return found


def read_arrays(path: str | Path, expected: str,
                most: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """Reads a ``.npz`` file of plain arrays.

    What it unfolds to is known from its headers, before anything is unfolded.

    Args:
        path (str | Path): The file.
        expected (str): What it should be, for messages.
        most (int): Bytes of all arrays, at most.

    Raises:
        HRI30Error: it cannot be read, or is larger, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                most -= record.file_size
                if most < 0:
                    raise ValueError('it unfolds to more than anything that is written')
                with archive.open(record) as stream:
                    _check_header(stream, record)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, RuntimeError, MemoryError) as error:
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise HRI30Error(f'{path}: not readable ({reason[:200]}).\nExpected {expected}.'
                         ) from error


def _check_header(stream: BinaryIO, record: zipfile.ZipInfo) -> None:
    """Raises ValueError where an array is of objects, or not as large as its record."""
    version = np.lib.format.read_magic(stream)
    read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
            else np.lib.format.read_array_header_2_0)
    shape, _, dtype = read(stream)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or stream.tell() + size != record.file_size:
        raise ValueError(f'{record.filename[:60]}: an array of {shape} {dtype}, in '
                         f'{record.file_size:,} bytes')
