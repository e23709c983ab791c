"""Names that others chose, printed and in tables."""

import csv
import io

import pytest

from hri30_ext.errors import first_cases
from hri30_ext.utils.text import escape_cell, format_csv, printable, unescape_cell


@pytest.mark.parametrize('text', [
    '=1+1', '+1+1', '-1+1', '@SUM(1)', '\t=1', '\r=1', '\n', '  =1', '\u00a0=1', '\u200b=1',
    '\ufeff@a', '\uff1d1', '\uff0b1', '\uff0d1', '\uff20a', '-rf', "'=1", "''=1",
    '=HYPERLINK("http://x","y")', '+cmd|/C calc!A0'])
def test_formulas_are_marked_and_come_back(text):
    escaped = escape_cell(text)
    assert escaped == f"'{text}" and unescape_cell(escaped) == text


@pytest.mark.parametrize('text', [
    '', 'CID01_SID01_VID01', '-0.5', '+1', '1e-05', '-3.2E+7', '.5', 'a=b', "'", "'quoted'",
    "'a=1", 'ü', 'Walking(0.9); PickUp(0.1)', '日本'])
def test_other_texts_and_numbers_stay(text):
    assert escape_cell(text) == text and unescape_cell(text) == text


def test_table_is_read_back_as_it_was():
    rows = [['=a,"b"', 'x\ny', '; =c', 0.25, -3, None], ['\u202ea', "'", '', 1, 2, 'end']]
    text = format_csv(('@one', 'two', 'three', 'four', 'five', 'six'), rows)
    header, *found = csv.reader(io.StringIO(text))
    assert header[0] == "'@one"
    assert [[unescape_cell(cell) for cell in row] for row in found] == [
        ['' if cell is None else str(cell) for cell in row] for row in rows]
    # Where a semicolon parts the cells, none of them begins in the middle of a text.
    assert ',"; =c",' in text


@pytest.mark.parametrize('text, shown', [
    ('plain name_1.avi', 'plain name_1.avi'), ('drück 日本', 'drück 日本'),
    ('\x1b[2J\x07', '\\x1b[2J\\x07'), ('a\nb\tc', 'a\\nb\\tc'), ('\x9b31m', '\\x9b31m'),
    ('\u202egnp.exe', '\\u202egnp.exe'), ('a\u2028b', 'a\\u2028b'),
    ('\udcff\udc80', '\\xff\\x80'), ('\ud800', '\\ud800')])
def test_what_drives_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    shown.encode('utf-8')


def test_line_ends_of_a_message_may_stay():
    assert printable('a:\n\x1b[1mb', keep='\n') == 'a:\n\\x1b[1mb'


def test_a_case_stays_on_its_line():
    assert first_cases(['a\nerror: b\x1b[2J']) == '  a\\nerror: b\\x1b[2J'
