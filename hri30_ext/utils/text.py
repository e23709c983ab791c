"""Names that others chose, made safe to print and to put into tables."""

import re
from collections.abc import Iterable, Sequence

# Beginnings that a spreadsheet takes for a formula, their full-width forms included, also
# behind spaces and what is not seen.
_FORMULA = re.compile(r'[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f'
                      r'\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]'
                      r'|[\t\r\n]')
_NUMBER = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?', re.ASCII)
# Where the list separator is another, a cell may begin in the middle.
_QUOTED = re.compile(r'[,"\r\n]|[;\t|]\s*[=+\-@\uff1d\uff0b\uff0d\uff20]')


def printable(text: str, keep: str = '') -> str:
    r"""Escapes characters that drive a terminal, hide, or turn the order of others around.

    That is, all that Unicode knows as control, format, separator or unassigned, but for the
    space.

    Args:
        text (str): Such as the name of a file; bytes that are no UTF-8 stand in it as lone
            surrogates, and are escaped as bytes.
        keep (str): Characters to leave, such as the line ends of a message.

    >>> printable('a\x1b[2Jb\n\u202egva')
    'a\\x1b[2Jb\\n\\u202egva'
    """
    if text.isprintable():
        return text
    return ''.join(character if character.isprintable() or character in keep
                   else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xdc80 <= code <= 0xdcff:  # a byte of a name that is no UTF-8
        return f'\\x{code - 0xdc00:02x}'
    return character.encode('unicode_escape').decode('ascii')


def escape_cell(text: str) -> str:
    """Marks a text that a spreadsheet would run as a formula, by an apostrophe before it.

    Numbers stay as they are, negative ones too. :func:`unescape_cell` takes the mark off.

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
    """Formats a table: a header, commas, LF at the end of a line, no formulas.

    Args:
        header (Sequence): Names of the columns.
        rows (Iterable[Sequence]): Cells; texts are escaped, see :func:`escape_cell`.

    >>> format_csv(('Video', 'Confidence'), [('@a', .5)])
    "Video,Confidence\\n'@a,0.5\\n"
    """
    return ''.join(format_row(row) for row in (header, *rows))


def format_row(row: Sequence) -> str:
    """Formats one line of :func:`format_csv`."""
    return ','.join(map(_cell, row)) + '\n'


def _cell(value) -> str:
    text = '' if value is None else str(value)
    if isinstance(value, str):
        text = escape_cell(text)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
