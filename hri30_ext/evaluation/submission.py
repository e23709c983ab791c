"""Checking a submission before it is handed in."""

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.hri30 import load_test_clips
from ..datasets.layouts import NAMES
from ..errors import HRI30Error, first_cases
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, canonical_name, released_name
from ..utils.reading import open_text

_BOM = '\ufeff'
_MAX_BYTES = 128 << 20  # two million rows
_Row = tuple[int, str, str, str]  # line; video, name and id as they stand there


@dataclass
class Findings:
    """Problems of a submission, each with its cases."""

    #: What makes a scorer fail or count wrongly.
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    #: What is unusual, and may be intended.
    warnings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: int = 0  # that were read

    def add(self, what: str, line: int, text: str, more: str = '') -> None:
        """Adds a case of an error: a text of the file, shortened and safe to print."""
        shown = repr(text[:80] + ('...' if len(text) > 80 else ''))
        self.errors[what].append(f'line {line}: {shown}{more}')

    @property
    def status(self) -> int:
        """0 without findings, 1 with warnings only, 2 with errors."""
        return 2 if self.errors else 1 if self.warnings else 0


def read_spellings(root: str | Path) -> list[str]:
    """Reads how the training file of a data folder spells its classes.

    Returns:
        list[str]: The name of class id ``i`` at ``i - 1``; HRI30's as released if there
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
                                 f'{name!r:.90}.\nExpected one name for each class; '
                                 'correct the file.')
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
    """Compares a ``test_set_labels.csv`` with a data folder's test clips and training file.

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
    videos = [clip['video_id'] for clip in load_test_clips(root, names, annotation=NAMES)]
    findings = Findings()
    if text := _decode(content, findings):
        rows = _read_rows(text, findings)
        findings.rows = len(rows)
        _check_videos(rows, videos, findings)
        if rows:
            _check_classes(rows, names, findings)
    return findings


def _decode(content: bytes, findings: Findings) -> str:
    """Returns the text; an empty one if it is none."""
    errors, warnings = findings.errors, findings.warnings
    if not content.strip():
        errors['The file is empty'].append('expected a row for each test clip')
        return ''
    if b'\0' in content:
        errors['Not a text file'].append('it contains zero bytes, as binary files and '
                                         'UTF-16 do; expected UTF-8')
        return ''
    try:
        text = content.decode('utf-8')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        errors['Not a text file in UTF-8'].append(
            f'line {line}: byte 0x{content[error.start]:02x}')
        return ''
    if text.startswith(_BOM):
        errors['A byte order mark, which becomes part of the first video id'].append(
            'line 1; save as UTF-8 without it')
    if '\r' in text:
        line = text.count('\n', 0, text.index('\r')) + 1
        warnings['Line ends of Windows; the released file has LF'].append(f'line {line}')
    if not text.endswith('\n'):
        warnings['The last line does not end'].append(f'line {text.count(chr(10)) + 1}')
    return text.removeprefix(_BOM).replace('\r\n', '\n').replace('\r', '\n')


def _read_rows(text: str, findings: Findings) -> list[_Row]:
    """Returns the lines that are rows."""
    rows = []
    for number, line in enumerate(text.removesuffix('\n').split('\n'), start=1):
        if not line.strip():
            findings.warnings['Empty lines'].append(f'line {number}')
            continue
        if '"' in line:
            findings.add('Quotes; the released file has none', number, line)
        parts = line.replace('"', '').split(',')
        fields = [part.strip() for part in parts]
        if len(fields) != 3:
            findings.add('Not video_id,class_name,class_id', number, line,
                         f' has {len(fields)} columns')
            continue
        if parts != fields:
            findings.add('Spaces around a column', number, line)
        if number == 1 and not any(character.isdigit() for character in fields[2]):
            findings.add('A header; the released file has none', number, line)
        else:
            rows.append((number, *fields))
    return rows


def _check_videos(rows: Sequence[_Row], videos: Sequence[str], findings: Findings) -> None:
    known = set(videos)
    first: dict[str, int] = {}  # line by video, in the order of the file
    for line, video, _, _ in rows:
        if video.lower().endswith(VIDEO_SUFFIXES) and video not in known:
            findings.add('Video ids with an ending; the released file has none', line,
                         video)
            video = video[:video.rindex('.')]
        if first.setdefault(video, line) != line:
            findings.add('Clips that stand there twice', line, video,
                         f', as in line {first[video]}')
    for video, line in first.items():
        if video not in known:
            findings.add('Rows without a test clip', line, video)
    if missing := [video for video in videos if video not in first]:
        findings.errors['Test clips without a row'] = missing
    pairs = zip([video for video in first if video in known],
                [video for video in videos if video in first], strict=True)
    if unsorted := next((pair for pair in pairs if pair[0] != pair[1]), None):
        findings.warnings['Rows that are not sorted by name'].append(
            f'line {first[unsorted[0]]}: {unsorted[0]}, where {unsorted[1]} comes in order')


def _check_classes(rows: Sequence[_Row], names: Sequence[str], findings: Findings) -> None:
    ids = {name: i for i, name in enumerate(names, 1)}
    spellings = {**{_plain(name): name for name in names}, **dict(zip(names, names))}
    contradictions = []  # line, name, and an id that is not its own
    counts: Counter = Counter()
    for line, _, found, class_id in rows:
        name = spellings.get(found) or spellings.get(_plain(found))
        if name is None:
            findings.add('Unknown class names', line, found)
        elif name != found:
            is_released = name == released_name(canonical_name(found)) != found
            findings.add('Names that the training file spells otherwise', line, found,
                         f', there {name}' + ' (with three l)' * is_released)
        if not _is_id(class_id) or int(class_id) > len(names) or class_id[0] == '0':
            findings.add(f'Class ids other than 1 to {len(names)}', line, class_id)
            if class_id != '0':
                continue
        if name is not None:
            counts[name] += 1
            if int(class_id) != ids[name]:
                contradictions.append((line, name, int(class_id)))
    _explain_contradictions(contradictions, counts.total(), ids, findings)
    if never := [f'{i} {name}' for name, i in ids.items() if not counts[name]]:
        findings.warnings['Classes that are never predicted'] = never


def _plain(name: str) -> str:
    """Returns a form that is the same for all spellings of a name."""
    return ''.join(filter(str.isalnum, canonical_name(name))).lower()


def _explain_contradictions(contradictions: Sequence[tuple[int, str, int]], rows: int,
                            ids: dict[str, int], findings: Findings) -> None:
    """Reports ids that do not belong to their names, with the likely mistake."""
    sorted_ids = {name: i for i, name in enumerate(sorted(ids), 1)}
    from_zero = len(contradictions) == rows and all(
        class_id == ids[name] - 1 for _, name, class_id in contradictions)
    swapped = [f'{i} is {name}' for name, i in ids.items() if i != sorted_ids[name]]
    for line, name, class_id in contradictions:
        what = 'Class ids that are not those of their names'
        if from_zero:
            what = 'Class ids that count from 0; the released ones count from 1'
        elif class_id == sorted_ids[name]:
            what = ('Class ids are swapped: they number the classes in alphabetical order, '
                    'which the\n  released file does not; there '
                    + ', '.join(swapped[:4] + ['...'] * (len(swapped) > 4))
                    + '.\n  If the names are right, correct the ids')
        findings.errors[what].append(
            f'line {line}: {name} has id {class_id}, expected {ids[name]}')


def format_findings(findings: Findings, path: str | Path) -> str:
    """Formats findings as text: first cases and numbers."""
    lines = []
    for word, group in (('error', findings.errors), ('warning', findings.warnings)):
        for what, cases in group.items():
            count = f' ({len(cases)})' if len(cases) > 1 else ''
            lines += [f'{word}: {what}{count}:', first_cases(cases)]
    verdict = ('nothing to correct', 'no errors; look at the warnings',
               'not ready to hand in')
    lines.append(f'{path}: {findings.rows} rows, {verdict[findings.status]}.')
    return '\n'.join(lines)
