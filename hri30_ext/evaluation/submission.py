"""Checking a submission before it is handed in."""

import csv
from pathlib import Path

from ..datasets.hri30 import load_test_clips
from ..datasets.layouts import NAMES
from ..errors import HRI30Error, first_cases
from ..names import HRI30_CLASSES, canonical_name, released_name
from ..utils.reading import open_text


def read_class_ids(root: str | Path) -> dict[str, str]:
    """Reads class names as the training file of a data folder spells them, with their ids;
    those of HRI30 as released where it does not name them.

    Raises:
        HRI30Error: the file cannot be read.
    """
    names = {str(i): released_name(name) for i, name in enumerate(HRI30_CLASSES, 1)}
    path = Path(root).expanduser() / 'annotations' / 'train_set_labels.csv'
    if path.is_file():
        with open_text(path, 'the annotation file of the training clips') as file:
            used = {row[2].strip(): row[1].strip() for row in csv.reader(file)
                    if len(row) == 3 and row[2].strip().isdecimal()}
        of_hri30 = all(canonical_name(name) in HRI30_CLASSES for name in used.values())
        names = {**names, **used} if of_hri30 else used
    return {names[i]: i for i in sorted(names, key=lambda digits: (len(digits), digits))}


def check_submission(path: str | Path, root: str | Path) -> int:
    """Compares a ``test_set_labels.csv`` with a data folder's test clips and training file:
    its columns, names and ids of classes, repeated clips, and missing ones.

    Returns:
        int: The number of rows.

    Raises:
        HRI30Error: a file that cannot be read, no test clips, or wrong or missing rows.
    """
    path, ids = Path(path).expanduser(), read_class_ids(root)
    clips = {clip['video_id']: 0 for clip in load_test_clips(
        root, list(ids), annotation=NAMES)}  # and how many rows each has
    wrong, number = [], 0
    with open_text(path, 'a submission of tools/test.sh') as file:
        for number, row in enumerate(csv.reader(file), 1):
            is_clip = bool(row) and row[0] in clips
            if is_clip:
                clips[row[0]] += 1
            if not is_clip or len(row) != 3 or ids.get(row[1]) != row[2] or (
                    clips[row[0]] > 1):
                wrong.append(f'row {number}: {",".join(row)[:80]}')
    wrong += [f'no row of {clip}' for clip, rows in clips.items() if not rows]
    if wrong:
        raise HRI30Error(
            f'{path}: {len(wrong)} of {number} rows are wrong or missing:\n'
            f'{first_cases(wrong)}\nExpected video_id,class_name,class_id of each clip '
            'once, with names and ids as annotations/train_set_labels.csv has them.')
    return number
