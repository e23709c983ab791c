"""Checking a submission before it is handed in."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.hri30 import load_test_clips
from ..errors import HRI30Error, first_cases
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, canonical_name, released_name
from ..utils.reading import open_text

_BOM = '\ufeff'
_MAX_BYTES = 128 << 20  # two million rows


@dataclass
class Findings:
    """What is wrong with a submission, each with its cases.

    Args:
        errors (dict[str, list[str]]): What makes a scorer fail or count wrongly.
        warnings (dict[str, list[str]]): What is odd, and may be meant.
        rows (int): How many rows were read.
    """

    errors: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    rows: int = 0

    def error(self, what: str, case: str) -> None:
        """Notes a case of an error."""
        self.errors.setdefault(what, []).append(case)

    def warning(self, what: str, case: str) -> None:
        """Notes a case of a warning."""
        self.warnings.setdefault(what, []).append(case)

    @property
    def status(self) -> int:
        """0 without findings, 1 with warnings alone, 2 with errors."""
        return 2 if self.errors else 1 if self.warnings else 0


def read_spellings(root: str | Path) -> list[str]:
    """Reads how the training file spells its classes.

    Args:
        root (str | Path): The data folder.

    Returns:
        list[str]: The name of class id ``i`` at ``i - 1``; HRI30's as released where there
        is no ``annotations/train_set_labels.csv``.

    Raises:
        HRI30Error: the file cannot be read, spells a class in two ways, or lacks one.
    """
    released = [released_name(name) for name in HRI30_CLASSES]
    path = Path(root).expanduser() / 'annotations' / 'train_set_labels.csv'
    if not path.is_file():
        return released
    names: dict[int, str] = {}
    with open_text(path, 'the annotation file of the training clips') as file:
        for row in csv.reader(file):
            if len(row) != 3 or not _is_id(row[2].strip()):
                continue
            class_id, name = int(row[2]), row[1].strip()
            if names.setdefault(class_id, name) != name:
                raise HRI30Error(f'{path}: class {class_id} is {names[class_id]!r:.90} and '
                                 f'{name!r:.90}.\nExpected one name a class; mend the '
                                 'file.')
    if all(i <= len(released) and canonical_name(name) == HRI30_CLASSES[i - 1]
           for i, name in names.items()):
        # HRI30, or a part of it.
        names = {**dict(enumerate(released, 1)), **names}
    if sorted(names) != list(range(1, len(names) + 1)):
        raise HRI30Error(f'{path}: has classes {str(sorted(names))[:200]}.\nExpected ids '
                         'from 1 on, without gaps.')
    return [names[i] for i in sorted(names)]


def _is_id(text: str) -> bool:
    # Length: Python refuses to read numbers of thousands of digits.
    return text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9


def check_submission(path: str | Path, root: str | Path) -> Findings:
    """Compares a submission with the test clips and the training file.

    Args:
        path (str | Path): The ``test_set_labels.csv`` to hand in.
        root (str | Path): The data folder, with its test clips.

    Returns:
        Findings: With the numbers of lines.

    Raises:
        HRI30Error: no such file, no test clips, or a training file that is wrong.
    """
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > _MAX_BYTES or not path.is_file():
            raise HRI30Error(f'{path}: not a file, or one of more than {_MAX_BYTES:,} '
                             'bytes.\nExpected a submission.')
        content = path.read_bytes()
    except OSError as error:
        raise HRI30Error(f'{path}: cannot be read ({error.strerror}).\nExpected a '
                         'submission, such as the test_set_labels.csv of tools/test.sh.'
                         ) from error
    names = read_spellings(root)
    videos = [clip['video_id'] for clip in load_test_clips(root, names)]
    findings = Findings()
    text = _decode(content, findings)
    if text is not None:
        rows = _read_rows(text, findings)
        findings.rows = len(rows)
        _check_videos(rows, videos, findings)
        _check_classes(rows, names, findings)
    return findings


def _decode(content: bytes, findings: Findings) -> str | None:
    """Returns the text; None where there is none."""
    if not content.strip():
        findings.error('The file is empty', 'expected a row a test clip')
        return None
    if b'\0' in content:
        findings.error('Not a text file', 'it holds zero bytes, as binary files and UTF-16 '
                       'do; expected UTF-8')
        return None
    try:
        text = content.decode('utf-8')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        findings.error('Not a text file in UTF-8', f'line {line}: byte '
                       f'0x{content[error.start]:02x}')
        return None
    if text.startswith(_BOM):
        findings.error('A byte order mark, which becomes part of the first video id',
                       'line 1; save as UTF-8 without it')
    if '\r' in text:
        findings.warning('Line ends of Windows; the released file has LF',
                         f'line {text.count(chr(10), 0, text.index(chr(13))) + 1}')
    if not text.endswith('\n'):
        findings.warning('The last line does not end', f'line {text.count(chr(10)) + 1}')
    return text.removeprefix(_BOM).replace('\r\n', '\n').replace('\r', '\n')


def _read_rows(text: str, findings: Findings) -> list[tuple[int, str, str, str]]:
    """Returns number of line, video id, class name and class id of what is a row."""
    rows = []
    for number, line in enumerate(text.removesuffix('\n').split('\n'), start=1):
        if not line.strip():
            findings.warning('Empty lines', f'line {number}')
            continue
        if '"' in line:
            findings.error('Quotes; the released file has none', f'line {number}: '
                           f'{_show(line)}')
        parts = line.replace('"', '').split(',')
        fields = [part.strip() for part in parts]
        if len(fields) != 3:
            findings.error('Not video_id,class_name,class_id', f'line {number}: '
                           f'{_show(line)} has {len(fields)} columns')
            continue
        if parts != fields:
            findings.error('Spaces around a column', f'line {number}: {_show(line)}')
        if number == 1 and not any(character.isdigit() for character in fields[2]):
            findings.error('A header; the released file has none', f'line 1: {_show(line)}')
            continue
        rows.append((number, *fields))
    return rows


def _show(text: str) -> str:
    """Shortens what a file holds and makes it safe to print."""
    return repr(text[:80] + ('...' if len(text) > 80 else ''))


def _check_videos(rows: Sequence[tuple], videos: Sequence[str],
                  findings: Findings) -> None:
    known = set(videos)
    first: dict[str, int] = {}
    order = []
    for number, video, _, _ in rows:
        if video.lower().endswith(VIDEO_SUFFIXES) and video not in known:
            findings.error('Video ids with an ending; the released file has none',
                           f'line {number}: {_show(video)}')
            video = video[:video.rindex('.')]
        if video in first:
            findings.error('Clips that stand there twice', f'line {number}: '
                           f'{_show(video)}, as in line {first[video]}')
            continue
        first[video] = number
        order.append(video)
    for video in order:
        if video not in known:
            findings.error('Rows without a test clip', f'line {first[video]}: '
                           f'{_show(video)}')
    for video in videos:
        if video not in first:
            findings.error('Test clips without a row', video)
    present = [video for video in order if video in known]
    wanted = [video for video in videos if video in first]
    if present != wanted:
        video, expected = next((a, b) for a, b in zip(present, wanted, strict=True)
                               if a != b)
        findings.warning('Rows that are not sorted by name', f'line {first[video]}: '
                         f'{video}, where {expected} comes in order')


def _check_classes(rows: Sequence[tuple], names: Sequence[str],
                   findings: Findings) -> None:
    ids = {name: i for i, name in enumerate(names, 1)}
    sorted_ids = {name: i for i, name in enumerate(sorted(names), 1)}
    spellings = {_plain(name): name for name in names}
    contradictions = []
    counts: Counter = Counter()
    for number, _, name, class_id in rows:
        if name not in ids:
            # What the training file calls it, where that can be told.
            spelling = spellings.get(_plain(name))
            if spelling is None:
                findings.error('Unknown class names', f'line {number}: {_show(name)}')
            else:
                findings.error('Names that the training file spells otherwise',
                               _describe_spelling(number, name, spelling))
            name = spelling
        if not _is_id(class_id) or int(class_id) > len(names) or class_id[0] == '0':
            findings.error(f'Class ids other than 1 to {len(names)}',
                           f'line {number}: {_show(class_id)}')
            if class_id != '0':
                continue
        if name is None:
            continue
        counts[name] += 1
        if int(class_id) != ids[name]:
            contradictions.append((number, name, int(class_id)))
    _explain_contradictions(contradictions, counts, ids, sorted_ids, findings)
    if rows:
        for name in names:
            if not counts[name]:
                findings.warning('Classes that are never predicted', f'{ids[name]} {name}')


def _plain(name: str) -> str:
    """A form in which spellings of one name are alike."""
    return ''.join(filter(str.isalnum, canonical_name(name))).lower()


def _describe_spelling(number: int, name: str, spelling: str) -> str:
    case = f'line {number}: {_show(name)}, there {spelling}'
    if spelling == released_name(canonical_name(name)) != canonical_name(name):
        case += ' (with three l)'
    return case


def _explain_contradictions(contradictions: Sequence[tuple[int, str, int]],
                            counts: Mapping[str, int], ids: Mapping[str, int],
                            sorted_ids: Mapping[str, int], findings: Findings) -> None:
    """Notes ids that are not their names', with the mistake behind them where it shows."""
    from_zero = len(contradictions) == sum(counts.values()) and all(
        class_id == ids[name] - 1 for _, name, class_id in contradictions)
    swapped = [f'{ids[name]} is {name}' for name in ids if ids[name] != sorted_ids[name]]
    for number, name, class_id in contradictions:
        if from_zero:
            what = 'Class ids that count from 0; the released ones count from 1'
        elif class_id == sorted_ids[name]:
            what = ('Class ids are swapped: they number the classes in alphabetical order, '
                    'which the\n  released file does not; there '
                    + ', '.join(swapped[:4] + ['...'] * (len(swapped) > 4))
                    + '.\n  If the names are right, mend the ids')
        else:
            what = 'Class ids that are not those of their names'
        findings.error(what, f'line {number}: {name} has id {class_id}, expected '
                       f'{ids[name]}')


def format_findings(findings: Findings, path: str | Path) -> str:
    """Lays findings out for reading: first cases and numbers."""
    lines = []
    for word, group in (('error', findings.errors), ('warning', findings.warnings)):
        for what, cases in group.items():
            count = f' ({len(cases)})' if len(cases) > 1 else ''
            lines += [f'{word}: {what}{count}:', first_cases(cases)]
    verdict = ('nothing to mend', 'no errors; look at the warnings', 'not ready to hand in')
    lines.append(f'{path}: {findings.rows} rows, {verdict[findings.status]}.')
    return '\n'.join(lines)
