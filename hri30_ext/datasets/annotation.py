"""Annotation files: ``video_id,class_name,class_id``, without a header.

The released ``train_set_labels.csv`` and a submission have this one form. Ids
are 1-based and names are spelt as released.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_text
from .classes import canonical_name, released_name


class Annotation(NamedTuple):
    """One row."""
    video_id: str
    class_name: str  # canonical spelling
    class_id: int  # 1-based


def read_annotations(path: str | Path, classes: Sequence[str]) -> list[Annotation]:
    """Reads and checks an annotation file.

    A header, CRLF line ends, a byte order mark, blank lines and an ending on
    the video id are accepted.

    Args:
        path (str | Path): The CSV file.
        classes (Sequence[str]): Class names; id ``i`` is ``classes[i - 1]``.

    Returns:
        list[Annotation]: Its rows, in order.

    Raises:
        HRI30Error: rows that cannot be read, that contradict the classes, or
            that name a clip twice; lists the first cases and the count.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise HRI30Error(f'{path}: cannot be read ({error}).') from error
    annotations, wrong, seen = [], [], {}
    lines = [row for row in csv.reader(io.StringIO(text)) if row and any(row)]
    for number, row in enumerate(lines, start=1):
        row = [field.strip() for field in row]
        if number == 1 and len(row) == 3 and not row[2].lstrip('-').isdigit():
            continue  # a header
        if len(row) != 3 or not row[2].isascii() or not row[2].isdigit():
            wrong.append(f'row {number}: {",".join(row)[:80]!r}, '
                         'expected video_id,class_name,class_id')
            continue
        annotation = Annotation(Path(row[0]).stem if '.' in row[0] else row[0],
                                canonical_name(row[1]), int(row[2]))
        problem = _contradiction(annotation, classes)
        if annotation.video_id in seen:
            problem = f'stands in row {seen[annotation.video_id]} already'
        if problem:
            wrong.append(f'row {number}: {annotation.video_id}: {problem}')
        seen[annotation.video_id] = number
        annotations.append(annotation)
    if wrong:
        raise HRI30Error(
            f'{path}: {len(wrong)} of {len(lines)} rows are wrong:\n'
            f'{first_cases(wrong)}\nMend the file, or set classes to the names '
            'that it uses.')
    return annotations


def _contradiction(annotation: Annotation, classes: Sequence[str]) -> str | None:
    """Says how a row contradicts the class list, if it does."""
    _, name, class_id = annotation
    if not 1 <= class_id <= len(classes):
        return f'class id {class_id}, expected 1 to {len(classes)}'
    if name not in classes:
        return f'unknown class {name!r}'
    expected = list(classes).index(name) + 1
    if class_id != expected:
        return f'{name} has id {class_id}, expected {expected}'
    return None


def format_annotations(annotations: Iterable[Annotation]) -> str:
    """Writes rows exactly as the released file has them.

    Raises:
        HRI30Error: a video id that would break the file: control characters,
            commas or quotes.
    """
    rows = []
    for video_id, name, class_id in annotations:
        if any(ord(character) < 32 or character in ',"\x7f' for character in video_id):
            raise HRI30Error(
                f'{video_id!r}: a submission cannot hold this name (control '
                'character, comma or quote). Rename the clip.')
        rows.append(f'{video_id},{released_name(name)},{class_id}\n')
    return ''.join(rows)


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Writes an annotation file or a submission, whole or not at all."""
    atomic_write_text(path, format_annotations(annotations))
