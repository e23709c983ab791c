"""Reads files that others wrote, up to a size, or raises a clear message."""

import contextlib
import csv
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec
import numpy as np

from ..errors import HRI30Error
from .text import printable

T = TypeVar('T')

#: Limit for a list or table; one of 10^6 clips has 60 MB.
MAX_TEXT_BYTES = 256 << 20
#: Limit for a JSON file, whose values take ten times as much memory.
MAX_JSON_BYTES = 64 << 20
#: Limit for arrays; the scores of 10^6 clips with their names have a third of it.
MAX_ARRAY_BYTES = 2 << 30


@contextlib.contextmanager
def open_text(path: str | Path, expected: str, most: int = MAX_TEXT_BYTES,
              errors: str = 'strict') -> Iterator[TextIO]:
    """Opens a UTF-8 text, with or without a byte order mark; line ends are unchanged.

    Args:
        expected (str): What it should be, for messages, such as ``'a list of clips'``.
        most (int): Its size in bytes, at most.
        errors (str): How bytes that are not UTF-8 are read, as for :func:`open`.

    Raises:
        HRI30Error: it cannot be read, is not a file, is too large, or is not a text or
            table, even if this is detected only while it is read.
    """
    path = Path(path)
    try:
        # Non-blocking: opening a pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, encoding='utf-8-sig', errors=errors, newline='') as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise HRI30Error(f'{path}: not a file.\nExpected {expected}.')
            if status.st_size > most:
                raise HRI30Error(f'{path}: {status.st_size:,} bytes, more than '
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


def read_json(path: str | Path, expected: str, most: int = MAX_JSON_BYTES,
              schema: type[T] = dict) -> T:
    """Reads a JSON document.

    Args:
        expected (str): What it should be, for messages.
        most (int): Its size in bytes, at most.
        schema (type): What to convert it to, such as a :class:`msgspec.Struct`.

    Raises:
        HRI30Error: see :func:`open_text`; or it is not JSON, or does not fit the schema.
    """
    text = read_text(path, expected, most)
    try:
        return msgspec.convert(json.loads(text), schema)
    except (ValueError, RecursionError) as error:
        reason = 'nested too deep' if isinstance(error, RecursionError) else error
        raise HRI30Error(f'{path}: not readable ({printable(str(reason)[:1000])}).\n'
                         f'Expected {expected}.') from error


def read_classes(path: str | Path) -> list[str]:
    """Reads class names: one a line, with an id before it or not.

    Raises:
        HRI30Error: it cannot be read, or has no names.
    """
    expected = 'class names, one a line in the order of the ids'
    lines = map(str.strip, read_text(path, expected).splitlines())
    names = [line for line in lines if line]
    numbered = [re.fullmatch(r'(\d+)[\s,]+(\S.*)', name) for name in names]
    if all(numbered):
        numbered.sort(key=lambda match: int(match[1]))
        names = [match[2] for match in numbered]
    if not names:
        raise HRI30Error(f'{path}: empty.\nExpected {expected}.')
    return names


def read_arrays(path: str | Path, expected: str,
                most: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """Reads a ``.npz`` file of plain arrays.

    Sizes are checked by the directory, before anything is decompressed.

    Args:
        expected (str): What it should be, for messages.
        most (int): Bytes of all arrays, at most.

    Raises:
        HRI30Error: it cannot be read, is larger, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(record.file_size for record in archive.infolist()) > most:
                raise ValueError(f'the arrays have more than {most:,} bytes')
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, RuntimeError, MemoryError) as error:
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise HRI30Error(f'{path}: not readable ({printable(reason[:200])}).\n'
                         f'Expected {expected}.') from error
