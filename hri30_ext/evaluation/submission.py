"""Checking a submission before it is handed in."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.hri30 import load_test_clips
from ..datasets.layouts import NAMES
from ..errors import first_cases
from ..names import HRI30_CLASSES, canonical_name, released_name
from ..utils.reading import open_text


@dataclass
class Findings:
    """What makes a scorer fail or count wrongly: cases by the kind of error."""

    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: int = 0  # that were read

    @property
    def status(self) -> int:
        """0 without errors, 2 with some."""
        return 2 if self.errors else 0


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


def check_submission(path: str | Path, root: str | Path) -> Findings:
    """Compares a ``test_set_labels.csv`` with a data folder's test clips and training file:
    its columns, names and ids of classes, repeated clips, and missing ones.

    Raises:
        HRI30Error: a file that cannot be read, or no test clips.
    """
    ids = read_class_ids(root)
    missing = dict.fromkeys(clip['video_id'] for clip in load_test_clips(
        root, list(ids), annotation=NAMES))
    findings, seen = Findings(), set()
    with open_text(Path(path).expanduser(), 'a submission of tools/test.sh') as file:
        for line, row in enumerate(csv.reader(file), 1):
            findings.rows += 1
            video, name, class_id = row if len(row) == 3 else ('', '', '')
            if len(row) != 3:
                error = 'Rows other than video_id,class_name,class_id'
            elif video in seen:
                error = 'Repeated clips'
            elif video not in missing:
                error = 'Rows without a test clip'
            elif name not in ids:
                error = 'Class names that are not in the training file'
            elif class_id != ids[name]:
                error = 'Class ids that are not those of their names'
            else:
                error = ''
            if error:
                findings.errors[error].append(f'line {line}: {",".join(row)[:80]!r}')
            seen.add(video)
            missing.pop(video, None)
    if missing:
        findings.errors['Test clips without a row'] = list(missing)
    return findings


def format_findings(findings: Findings, path: str | Path) -> str:
    """Formats findings as text: first cases and numbers."""
    lines = [f'error: {error} ({len(cases)}):\n{first_cases(cases)}'
             for error, cases in findings.errors.items()]
    verdict = 'not ready to hand in' if lines else 'nothing to correct'
    return '\n'.join([*lines, f'{path}: {findings.rows} rows, {verdict}.'])
