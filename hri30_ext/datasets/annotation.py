"""Annotation files: ``video_id,class_name,class_id``, without a header.

The released ``train_set_labels.csv`` and a submission have the same form. Ids are 1-based
and names are spelled as released.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES, canonical_name, released_name
from ..utils.fileio import atomic_write_text
from ..utils.reading import open_text

#: Limit for an annotation file: hundreds of times as many clips as HRI30 has.
MAX_ROWS = 2_000_000


class Annotation(NamedTuple):
    """One row."""
    video_id: str
    class_name: str  # canonical spelling
    class_id: int  # 1-based


def scan_annotations(path: str | Path, classes: Sequence[str]
                     ) -> Iterator[tuple[int, Annotation | None, str]]:
    """Reads an annotation file row by row; accepts what :func:`read_annotations` does.

    Yields the number of the row, from 1; what it says, None if it has another form; and
    what is wrong with it, empty if nothing is.

    Raises:
        HRI30Error: the file cannot be read, or has too many rows.
    """
    ids = {name: i for i, name in reversed(list(enumerate(classes, 1)))}
    first: dict[str, int] = {}
    with open_text(path, 'rows of video_id,class_name,class_id') as file:
        rows = ([field.strip() for field in row] for row in csv.reader(file))
        for number, row in enumerate(filter(any, rows), 1):
            if number > MAX_ROWS:
                raise HRI30Error(f'{path}: more than {MAX_ROWS:,} rows.\nExpected one row '
                                 'a clip.')
            if number == 1 and _is_header(row, ids):
                continue
            annotation = _parse(row)
            if annotation is None:
                yield number, None, (f'{",".join(row)[:80]!r}, expected '
                                     'video_id,class_name,class_id')
                continue
            problem = _contradiction(annotation, ids)
            if annotation.video_id in first:
                problem = f'is already in row {first[annotation.video_id]}'
            first.setdefault(annotation.video_id, number)
            yield number, annotation, problem and f'{annotation.video_id[:80]}: {problem}'


def _is_header(row: list[str], ids: Mapping[str, int]) -> bool:
    return len(row) == 3 and canonical_name(row[1]) not in ids and not any(
        character.isdigit() for character in row[2])


def _parse(row: list[str]) -> Annotation | None:
    # Python refuses to read numbers of thousands of digits.
    if len(row) != 3 or not re.fullmatch('[0-9]{1,9}', row[2]):
        return None
    is_file = row[0].lower().endswith(VIDEO_SUFFIXES)
    video_id = Path(row[0]).stem if is_file else row[0]
    # A quote that is not closed makes one field of several rows.
    if not video_id or not (video_id + row[1]).isprintable():
        return None
    return Annotation(video_id, canonical_name(row[1]), int(row[2]))


def _contradiction(annotation: Annotation, ids: Mapping[str, int]) -> str:
    """Describes how a row contradicts the ids of the classes, if it does."""
    _, name, class_id = annotation
    if not 1 <= class_id <= len(ids):
        return f'class id {class_id}, expected 1 to {len(ids)}'
    if name not in ids:
        return f'unknown class {name[:80]!r}'
    if class_id != ids[name]:
        return f'{name} has id {class_id}, expected {ids[name]}'
    return ''


def read_annotations(path: str | Path, classes: Sequence[str]) -> list[Annotation]:
    """Reads and checks an annotation file; id ``i`` is ``classes[i - 1]``.

    A header, CRLF line ends, a byte order mark, blank lines and a file extension of the
    video id are accepted.

    Raises:
        HRI30Error: rows that cannot be read, that contradict the classes, or that name a
            clip twice; lists the first cases and the count.
    """
    rows = list(scan_annotations(path, classes))
    wrong = [f'row {number}: {problem}' for number, _, problem in rows if problem]
    if wrong:
        raise HRI30Error(
            f'{path}: {len(wrong)} of {len(rows)} rows are wrong:\n{first_cases(wrong)}\n'
            'Correct the file, or set classes to the names that it uses.')
    return [annotation for _, annotation, _ in rows]


def format_annotations(annotations: Iterable[Annotation]) -> str:
    """Writes rows exactly as the released file has them; video ids are unchanged.

    Raises:
        HRI30Error: a video id that a scorer or an editor could misread, with commas,
            quotes, spaces at its ends, or unprintable characters.
    """
    rows = []
    for video_id, name, class_id in annotations:
        if (not video_id.isprintable() or video_id != video_id.strip() or not video_id
                or any(character in ',"' for character in video_id)):
            raise HRI30Error(f'{ascii(video_id)}: expected no comma, quote, space at an '
                             'end or unprintable character in a submission. Rename it.')
        rows.append(f'{video_id},{released_name(name)},{class_id}\n')
    return ''.join(rows)


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Writes an annotation file or a submission, whole or not at all."""
    atomic_write_text(path, format_annotations(annotations))
