"""Makes names that others chose safe for terminals and tables, and readable in pictures."""

import contextlib
import functools
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Spreadsheets take these beginnings for a formula, also in full width, and also after
# spaces and invisible characters.
_FORMULA = re.compile(r'[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f'
                      r'\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]'
                      r'|[\t\r\n]')
_NUMBER = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?', re.ASCII)
# With another list separator, a cell may begin in the middle.
_QUOTED = re.compile(r'[,"\r\n]|[;\t|]\s*[=+\-@\uff1d\uff0b\uff0d\uff20]')


def printable(text: str, keep: str = '') -> str:
    r"""Escapes characters that control a terminal, are invisible, or reorder others.

    These are all control, format, separator and unassigned characters of Unicode except
    the space.

    Args:
        text (str): Such as a file name; bytes that are not UTF-8, which are lone
            surrogates, are escaped as bytes.
        keep (str): Characters to keep, such as the line ends of a message.

    >>> printable('a\x1b[2Jb\n\u202egva')
    'a\\x1b[2Jb\\n\\u202egva'
    """
    if text.isprintable():
        return text
    return ''.join(character if character.isprintable() or character in keep
                   else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xdc80 <= code <= 0xdcff:  # a byte that is not UTF-8
        return f'\\x{code - 0xdc00:02x}'
    return character.encode('unicode_escape').decode('ascii')


def escape_cell(text: str) -> str:
    """Prepends an apostrophe to a text that a spreadsheet would run as a formula.

    Numbers are unchanged, also negative ones. :func:`unescape_cell` removes it.

    >>> escape_cell('=1+1'), escape_cell('-0.5'), escape_cell('Walking')
    ("'=1+1", '-0.5', 'Walking')
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape_cell(text: str) -> str:
    """Undoes :func:`escape_cell`."""
    marked = text.startswith("'") and _is_formula(text.lstrip("'"))
    return text[1:] if marked else text


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None


def format_csv(header: Sequence, rows: Iterable[Sequence]) -> str:
    """Formats a table with a header, commas and LF line ends; texts are escaped, see
    :func:`escape_cell`.

    >>> format_csv(('Video', 'Confidence'), [('@a', .5)])
    "Video,Confidence\\n'@a,0.5\\n"
    """
    return ''.join(','.join(map(_cell, row)) + '\n' for row in (header, *rows))


def _cell(value) -> str:
    text = '' if value is None else str(value)
    if isinstance(value, str):
        text = escape_cell(text)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def format_table(table: Sequence[Sequence[str]]) -> str:
    """Aligns the columns of a table."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width
                               in zip(line, widths, strict=True)).rstrip()
                     for line in table)


@functools.lru_cache(maxsize=64)
def font(size: int):
    """Returns a font of Pillow: DejaVu Sans, from matplotlib or the system, or Pillow's
    own, which has ASCII alone.
    """
    from PIL import ImageFont
    name, size = 'DejaVuSans.ttf', max(1, size)
    if found := importlib.util.find_spec('matplotlib'):
        name = str(Path(found.origin).parent / 'mpl-data/fonts/ttf' / name)
    with contextlib.suppress(OSError):
        return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
