"""Annotation files: ``video_id,class_name,class_id``, without a header.

The released ``train_set_labels.csv`` and a submission have this one form. Ids
are 1-based and names are spelt as released.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HRI30Error, first_cases
from ..names import canonical_name, released_name
from ..utils.fileio import atomic_write_text
from ..utils.reading import open_text

#: Of an annotation file: hundreds of times as many clips as HRI30 has.
MAX_ROWS = 2_000_000


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
    annotations, wrong, first, count = [], [], {}, 0
    ids = {name: i for i, name in reversed(list(enumerate(classes, 1)))}
    with open_text(path, 'rows of video_id,class_name,class_id') as file:
        for row in csv.reader(file):
            row = [field.strip() for field in row]
            if not any(row):
                continue
            count += 1
            if count > MAX_ROWS:
                raise HRI30Error(f'{path}: more than {MAX_ROWS:,} rows.\nExpected one a '
                                 'clip.')
            if count == 1 and len(row) == 3 and not row[2].lstrip('-').isdigit():
                continue  # a header
            # Length: Python refuses to read numbers of thousands of digits.
            if len(row) != 3 or not row[2].isascii() or not row[2].isdigit() or (
                    len(row[2]) > 9):
                wrong.append(f'row {count}: {",".join(row)[:80]!r}, '
                             'expected video_id,class_name,class_id')
                continue
            annotation = Annotation(Path(row[0]).stem if '.' in row[0] else row[0],
                                    canonical_name(row[1]), int(row[2]))
            problem = _contradiction(annotation, ids)
            if annotation.video_id in first:
                problem = f'stands in row {first[annotation.video_id]} already'
            if problem:
                wrong.append(f'row {count}: {annotation.video_id[:80]}: {problem}')
            first.setdefault(annotation.video_id, count)
            annotations.append(annotation)
    if wrong:
        raise HRI30Error(
            f'{path}: {len(wrong)} of {count} rows are wrong:\n'
            f'{first_cases(wrong)}\nMend the file, or set classes to the names '
            'that it uses.')
    return annotations


def _contradiction(annotation: Annotation, ids: Mapping[str, int]) -> str | None:
    """Says how a row contradicts the ids of the classes, if it does."""
    video_id, name, class_id = annotation
    if not video_id or not video_id.isprintable():
        return 'no video id, or one with control characters'
    if not 1 <= class_id <= len(ids):
        return f'class id {class_id}, expected 1 to {len(ids)}'
    if name not in ids:
        return f'unknown class {name[:80]!r}'
    if class_id != ids[name]:
        return f'{name} has id {class_id}, expected {ids[name]}'
    return None


def format_annotations(annotations: Iterable[Annotation]) -> str:
    """Writes rows exactly as the released file has them.

    Ids stand there exactly as they are; one that a scorer or an editor could take for
    something else is refused and not changed.

    Raises:
        HRI30Error: a video id with commas, quotes, spaces at its ends, or characters that
            are not printed: control characters, line separators, marks that turn the
            direction of writing, bytes that are no UTF-8.
    """
    rows = []
    for video_id, name, class_id in annotations:
        if (not video_id.isprintable() or video_id != video_id.strip() or not video_id
                or any(character in ',"' for character in video_id)):
            raise HRI30Error(
                f'{ascii(video_id)}: a submission cannot hold this name (a control '
                'character, another that is not printed, a comma, a quote, or a space at '
                'an end). Rename the clip.')
        rows.append(f'{video_id},{released_name(name)},{class_id}\n')
    return ''.join(rows)


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Writes an annotation file or a submission, whole or not at all."""
    atomic_write_text(path, format_annotations(annotations))
