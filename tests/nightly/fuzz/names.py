"""Names of clips: parsed, printed, put into tables and submissions."""

import csv
import io

from hri30_ext.datasets.annotation import Annotation, format_annotations
from hri30_ext.errors import HRI30Error
from hri30_ext.names import HRI30_CLASSES, parse_clip_name
from hri30_ext.utils.text import escape_cell, format_csv, printable, unescape_cell


def one_input(data: bytes) -> None:
    """Gives a name to all that takes names.

    Args:
        data (bytes): The number of classes, and a name.
    """
    num_classes, name = data[0] if data else 0, data[1:].decode('utf-8', 'surrogateescape')
    try:
        parsed = parse_clip_name(name, HRI30_CLASSES[:num_classes])
    except HRI30Error:
        pass
    else:
        assert 1 <= parsed.class_id <= num_classes and min(parsed.group, parsed.clip) >= 0
        again = parsed.format(HRI30_CLASSES)
        assert parse_clip_name(again, HRI30_CLASSES[:num_classes]) == parsed
        assert name.isascii() and name.isprintable()
    _print(name)
    _tabulate(name)
    _submit(name)


def _print(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable() and printable(shown) == shown
    shown.encode('utf-8')


def _tabulate(name: str) -> None:
    assert unescape_cell(escape_cell(name)) == name
    assert escape_cell(name).lstrip()[:1] not in tuple('=@')
    text = format_csv(('a', 'b'), [(name, 'end')])
    header, row = csv.reader(io.StringIO(text, newline=''))
    assert [unescape_cell(cell) for cell in row] == [name, 'end'] and header == ['a', 'b']


def _submit(name: str) -> None:
    try:
        text = format_annotations([Annotation(name, 'Walking', 27)])
    except HRI30Error as error:
        assert len(str(error)) < 400 + 10 * len(name)
        return
    assert text.splitlines() == [f'{name},Walking,27']
    assert next(csv.reader([text])) == [name, 'Walking', '27']
    text.encode('utf-8')
