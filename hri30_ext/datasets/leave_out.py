"""The list of clips that training and validation leave out.

``DATA_ROOT/annotations/leave_out.csv`` has a header and one row a clip, which
``hri30 check --fix`` writes and anyone may edit::

    clip,reason
    train_set/CID01_SID01_VID01.avi,damaged: 14 of 30 frames are intact

Paths are relative to the data folder, with ``/`` between folders. A listed training clip is
not loaded, and a row of the annotation that has no other clip is ignored. Test clips keep
their prediction, so a listed one only excuses a row of ``test_set_labels.csv`` without a
clip.
"""

import csv
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from ..utils.reading import open_text
from ..utils.text import format_csv, unescape_cell
from .annotation import MAX_ROWS

#: The list, relative to the data folder.
LEAVE_OUT = 'annotations/leave_out.csv'
_COLUMNS = ['clip', 'reason']


def read_leave_out(root: str | Path) -> dict[str, str]:
    """Reads the list of a data folder: reasons by path; empty where there is no list.

    Raises:
        HRI30Error: the list cannot be read, or is not a table of these columns.
    """
    path = Path(root).expanduser() / LEAVE_OUT
    if not path.exists():
        return {}
    expected = 'a header "clip,reason" and one row a clip'
    with open_text(path, expected, errors='surrogateescape') as file:
        rows = [row for row in islice(csv.reader(file), MAX_ROWS + 1) if row]
    wrong = [number for number, row in enumerate(rows, 1)
             if len(row) != len(_COLUMNS) or not row[0]]
    if rows[:1] != [_COLUMNS] or len(rows) > MAX_ROWS or wrong:
        raise HRI30Error(f'{path}: row {wrong[0] if wrong else 1} is wrong, or there are '
                         f'more than {MAX_ROWS:,}.\nExpected {expected}; correct the list '
                         'or delete it.')
    return {unescape_cell(clip): unescape_cell(reason) for clip, reason in rows[1:]}


def write_leave_out(root: str | Path, clips: Mapping[str, str]) -> Path:
    """Writes the list, reasons by path, whole or not at all; returns its path."""
    path = Path(root).expanduser() / LEAVE_OUT
    atomic_write_text(path, format_csv(_COLUMNS, sorted(clips.items())), durable=True)
    return path
