"""Clips whose label is not in their name: class folders, tables, and lists.

Everything becomes rows of path, label and, where known, group, subset and part, and then
clips as :func:`~hri30_ext.datasets.hri30.load_labelled_clips` returns them.
"""

import contextlib
import csv
import difflib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath

from ..errors import HRI30Error, first_cases
from ..names import (
    HRI30_CLASSES,
    VIDEO_SUFFIXES,
    canonical_name,
    is_clip_name,
    name_part,
    split_part,
)
from ..utils.reading import open_text, read_classes, read_text
from ..utils.text import unescape_cell
from ..video.decode import ClipError, Video
from .annotation import MAX_ROWS

#: Values of ``annotation`` that are no files.
NAMES, FOLDERS = 'names', 'folders'
_SUBSETS = dict(train='train', training='train', val='val', valid='val', validation='val',
                dev='val', test='test', testing='test')
_COLUMNS = dict(
    path=('path', 'video', 'filename', 'file_name', 'file', 'clip', 'id'),
    label=('label', 'class', 'class_name', 'action'), group=('group', ),
    subject=('subject', 'person'), split=('split', 'subset'), start=('start', ),
    end=('end', ))
#: Lists of UCF-101's and Kinetics' form, in the data folder or in a folder of it.
_LISTS = ('trainlist01.txt', '*train_list*.txt')
_CLASS_FILES = ('classes.txt', 'classInd.txt')
_NO_CLASSES = ('annotations', *_SUBSETS, 'train_set', 'test_set', 'videos')


@dataclass
class Row:
    """What a list says of a clip."""
    where: str  # file and line, for messages
    path: str
    label: str = ''
    group: str = ''
    split: str = ''
    part: tuple[float, float] | None = None
    file: Path | None = None


def check_root(root: str | Path) -> Path:
    """Returns the path of a data folder; refuses one that is not there or unreadable."""
    root = Path(root).expanduser()
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise HRI30Error(
            f'{root}: no such data folder, or it cannot be listed ({error.strerror}).\n'
            'Expected train_set/, test_set/ and annotations/ in it (see data/README.md). '
            'Set it with --cfg-options data_root=PATH or HRI30_ROOT=PATH.') from error
    return root


def find_videos(folder: Path, recursive: bool = True) -> list[Path]:
    """Lists the videos of a folder, sorted."""
    return sorted(file for file in folder.glob('**/*' if recursive else '*')
                  if file.suffix.lower() in VIDEO_SUFFIXES
                  and not file.name.startswith('.') and file.is_file())


def _find_all_videos(root: Path) -> list[Path]:
    """Lists the videos of a data folder, and of others that are linked into it."""
    base = root.resolve()
    linked = [path for path in root.iterdir() if path.is_symlink() and path.is_dir()
              and not path.name.startswith('.') and not base.is_relative_to(path.resolve())
              and not path.resolve().is_relative_to(base)]
    return sorted(file for folder in (root, *linked) for file in find_videos(folder))


def find_annotation(root: Path) -> str:
    """Finds out how the labels of a data folder are given: ``names``, ``folders``, or the
    path of a table or list, relative to the folder.

    Raises:
        HRI30Error: several tables.
    """
    if any((root / name).is_dir() for name in ('train_set', 'test_set')):
        return NAMES  # without a walk through HRI30's clips
    videos = find_videos(root) or _find_all_videos(root)
    # The clips of UCF-101 are named as those of HRI30, with other classes.
    if not videos or any(is_clip_name(file.stem, HRI30_CLASSES) for file in videos):
        return NAMES
    for pattern in _LISTS:
        for path in sorted([*root.glob(pattern), *root.glob(f'*/{pattern}')]):
            return str(path.relative_to(root))
    if any(is_clip_name(file.stem) for file in videos):
        return NAMES
    tables = [path for folder in ('', 'train/') for name in ('metadata', 'train', '*')
              for path in sorted(root.glob(f'{folder}{name}.[ct]sv'))]
    named = [path for path in tables if path.stem in ('metadata', 'train')]
    if not named and len(set(tables)) > 1:
        raise HRI30Error(f'{root}: {len(set(tables))} tables:\n{first_cases(tables)}\n'
                         'Set annotation to one.')
    if tables:
        return str((named or tables)[0].relative_to(root))
    return FOLDERS if next(_class_folders(root), None) else NAMES


# ---- Rows -------------------------------------------------------------------------------


def _class_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Yields subset, empty if there are none, and folder of each class."""
    base = root / 'videos' if (root / 'videos').is_dir() else root
    sides = [(_SUBSETS[path.name], path) for path in sorted(base.iterdir())
             if path.name in _SUBSETS and path.is_dir()]
    for subset, side in sides or [('', base)]:
        for path in sorted(side.iterdir()):
            if (path.is_dir() and not path.name.startswith('.')
                    and path.name not in _NO_CLASSES):
                yield subset, path


def _read_folders(root: Path) -> list[Row]:
    rows, empty = [], []
    for subset, folder in _class_folders(root):
        files = find_videos(folder)
        if not files:
            empty.append(folder)
        rows += [Row(str(file), file.relative_to(root).as_posix(), folder.name,
                     '' if file.parent == folder else file.parent.name, subset, file=file)
                 for file in files]
    if empty or not rows:
        raise HRI30Error(f'{root}: {len(empty)} class folders have no clips:\n'
                         f'{first_cases(empty)}\nFill or remove them.')
    known = {row.path for row in rows}
    for file in _find_all_videos(root):
        path = file.relative_to(root)
        if path.as_posix() not in known:
            if _SUBSETS.get(path.parts[0]) == 'test':
                rows.append(Row(str(file), path.as_posix(), split='test', file=file))
            elif not (root / path.parts[0]).is_symlink():  # a link may be to recordings
                raise HRI30Error(f'{file}: is in no class folder.\nMove it into one.')
    return rows


def read_rows(root: Path, annotation: str, columns: Sequence[str] | None = None
              ) -> list[Row]:
    """Reads a table or list and its siblings for other subsets; arguments and errors are
    those of :func:`read_layout`."""
    files = {root / annotation: 'train' if 'train' in annotation else ''}
    for name, subset in _SUBSETS.items():
        other = root / annotation.replace('train', name)
        if other.is_file():
            files.setdefault(other, subset)
    rows = []
    for path, subset in files.items():
        for row in (read_list(path) if path.suffix == '.txt'
                    else _read_table(path, columns)):
            row.split = row.split or subset
            rows.append(row)
    if not rows:
        raise HRI30Error(f'{root / annotation}: names no clips.\nExpected a row a clip.')
    return rows


def read_list(path: Path) -> Iterator[Row]:
    """Reads lines of a path and, after the last space, a label; or of a path alone."""
    for i, line in enumerate(read_text(path, 'a list of paths and labels').splitlines(), 1):
        if line.strip():
            name, _, label = line.strip().rpartition(' ')
            yield Row(f'{path}, line {i}', name.strip() or label, label if name else '')


def _read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields where each row is, for messages, and its cells."""
    with open_text(path, 'a table of clips with path and label') as file:
        first = file.readline()
        delimiter = max('\t;,', key=first.count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        for row in reader:
            if reader.line_num > MAX_ROWS:
                raise HRI30Error(f'{path}: more than {MAX_ROWS:,} rows.')
            if any(cell.strip() for cell in row):
                yield (f'{path}, line {reader.line_num}',
                       [unescape_cell(cell.strip()) for cell in row])


def _read_header(cells: list[str]) -> list[str]:
    """Returns what each column has, empty where that is unknown."""
    cells, header = [cell.lower() for cell in cells], [''] * len(cells)
    for column, names in _COLUMNS.items():  # of several, the first of these names
        if position := [cells.index(name) for name in names if name in cells]:
            header[position[0]] = column
    return header


def _read_table(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    header = None
    for where, cells in _read_csv(path):
        if header is None:
            header = columns or _read_header(cells)
            if missing := [column for column in ('path', 'label') if column not in header]:
                raise HRI30Error(
                    f'{where}: no column {missing[0]} in {", ".join(cells)[:200]}.\n'
                    f'Expected one of {", ".join(_COLUMNS[missing[0]])}; or name all in '
                    "order, columns=['path','label',...]; or set annotation=folders.")
            first = dict(zip(header, cells, strict=False))
            if not columns or not re.search(r'[\d./]', first.get('path', '')):
                continue
        if len(cells) != len(header):
            raise HRI30Error(f'{where}: {len(cells)} columns, expected {len(header)}.')
        row = {name: cell for name, cell in zip(header, cells, strict=True) if name}
        split = _SUBSETS.get(row.get('split', '').lower(), row.get('split', ''))
        if split not in ('', 'train', 'val', 'test'):
            raise HRI30Error(f'{where}: split {split!r}, expected train, val or test.')
        yield Row(where, row['path'], row.get('label', ''),
                  row.get('group') or row.get('subject', ''), split,
                  _read_part(where, row))


def _read_part(where: str, row: dict[str, str]) -> tuple[float, float] | None:
    texts = [row.get('start', ''), row.get('end', '')]
    if not any(texts):
        return None
    with contextlib.suppress(ValueError):
        start, end = map(float, texts)
        if 0 <= start < end < math.inf:
            return start, end
    raise HRI30Error(f'{where}: start {texts[0] or "none"}, end {texts[1] or "none"}.\n'
                     'Expected seconds in the recording, start from 0 and before end.')


# ---- Paths, labels and groups -----------------------------------------------------------


def find_files(root: Path, rows: Iterable[Row]) -> None:
    """Fills in the file of each row, by its path or, if that is unique, the end of it."""
    whole, ends = defaultdict(list), defaultdict(list)
    for file in _find_all_videos(root):
        path = str(file.relative_to(root))
        for key in (path, os.path.splitext(path)[0]):
            whole[key].append(file)
            while '/' in key:
                key = key.partition('/')[2]
                ends[key].append(file)
    missing = []
    for row in rows:
        base = Path(row.where.rpartition(',')[0]).parent
        places = [os.path.relpath(os.path.normpath(folder / row.path), root)
                  for folder in (base, root)]  # near the list, and in the data folder
        if all(place.startswith('..') for place in places):
            raise HRI30Error(f'{row.where}: {row.path} is outside of {root}.\nSet '
                             'data_root to a folder that holds all clips.')
        found = next(filter(None, (index.get(place) for index in (whole, ends)
                                   for place in places)), [])
        if len(found) > 1:
            raise HRI30Error(f'{row.where}: {row.path} can be {len(found)} files:\n'
                             f'{first_cases(found)}\nExpected a path from {root}.')
        if found:
            row.file = found[0]
        else:
            missing.append(f'{row.where}: {row.path}')
    if missing:
        raise HRI30Error(f'{root}: {len(missing)} clips are missing:\n'
                         f'{first_cases(missing)}\nAdd the clips or remove the rows.')


def refuse_repeated(rows: Iterable[Row]) -> None:
    """Refuses clips that are listed twice."""
    first: dict = {}
    for row in rows:
        other = first.setdefault((row.file, row.part), row)
        if other is not row:
            raise HRI30Error(f'{row.where}: {row.path} ({row.label}) is listed before, as '
                             f'{other.label} in {other.where}.\nExpected every clip once.')


def refuse_outside(parts: Iterable[tuple[str, str]]) -> None:
    """Refuses parts, each a place in a list and a file name, that end after a recording."""
    last: dict[str, tuple[float, float, str]] = {}
    for where, name in parts:
        path, part = split_part(name)
        if part:
            last[path] = max(last.get(path, (0, 0, '')), (*part[::-1], where))
    for path, (end, start, where) in last.items():
        try:
            Video(name_part(path, max(start, end - 60), end))
        except ClipError as error:
            if error.code == 'outside':
                raise HRI30Error(f'{where}: {path}: {error.reason}.') from error


def find_classes(root: Path, annotation: str | None) -> list[str] | None:
    """Reads the names of classes from a file beside the annotation, or the one that
    :func:`find_annotation` finds, if there is one."""
    annotation = annotation or find_annotation(root)
    for folder in dict.fromkeys([(root / annotation).parent, root]):
        for pattern in _CLASS_FILES:
            for path in sorted(folder.glob(pattern)):
                return [canonical_name(name) for name in read_classes(path)]
    return None


def number_labels(rows: Sequence[Row], classes: Sequence[str] | None
                  ) -> tuple[list[str], dict[str, int], str]:
    """Returns class names, label by text, and what is to be said about ids."""
    first: dict[str, str] = {}  # where a label is used first
    for row in rows:
        if row.label:
            row.label = canonical_name(row.label)
            first.setdefault(row.label, row.where)
    classes = classes and list(classes)
    ids = [text for text in first if text.isdecimal() and text not in (classes or ())]
    if ids and len(ids) == len(first) and max(map(len, ids)) <= 5:  # else they are names
        return _number_ids(first, classes)
    classes = classes or sorted(first)
    if ids and len(ids) < len(first) or not first.keys() <= set(classes):
        wrong = next(text for text in first if text in ids or text not in classes)
        near = difflib.get_close_matches(wrong, set(classes) - {wrong}, 1)
        raise HRI30Error(
            f'{first[wrong]}: {wrong} is no class{f"; nearest: {near[0]}" if near else ""}.'
            f'\nExpected one of {len(classes)} classes ({", ".join(classes)[:200]}), or '
            'ids everywhere; correct it, or set classes.')
    return classes, {name: label for label, name in enumerate(classes)}, ''


def _number_ids(first: dict[str, str], classes: list[str] | None
                ) -> tuple[list[str], dict[str, int], str]:
    lowest, highest = min(first, key=int), max(first, key=int)
    base = min(1, int(lowest))
    if classes is None:
        classes = list(map(str, range(base, int(highest) + 1)))
    elif base and int(highest) < len(classes):
        raise HRI30Error(f'{first[lowest]}: ids {lowest} to {highest} of {len(classes)} '
                         'classes can start at 0 or at 1.\nWrite names instead.')
    if int(highest) >= len(classes) + base:
        raise HRI30Error(f'{first[highest]}: id {highest}, expected {base} to '
                         f'{len(classes) - 1 + base}; set classes.')
    return classes, {text: int(text) - base for text in first}, (
        f'ids of classes start at {base}: {base} is {classes[0]}')


def _find_groups(rows: Sequence[Row], group_pattern: str | None) -> str:
    """Fills in groups; returns where they are from, empty if there are none."""
    if group_pattern:
        try:
            for row in rows:
                match = re.search(group_pattern, row.path)
                row.group = (match and match['group']) or ''
        except (re.error, IndexError) as error:
            raise HRI30Error(f'group_pattern={group_pattern!r}: {error}.\nExpected a '
                             "regular expression like '(?P<group>s\\d+)_'.") from error
        if wrong := [f'{row.where}: {row.path}' for row in rows
                     if not row.group and row.split != 'test']:
            raise HRI30Error(f'group_pattern={group_pattern!r}: does not fit {len(wrong)} '
                             f'clips:\n{first_cases(wrong)}')
        return 'group_pattern'
    trained = [row for row in rows if row.split != 'test']
    without = [row for row in trained if not row.group]
    if not without:
        return 'the table, or the folder above'
    if len(without) < len(trained):
        raise HRI30Error(f'{without[0].where}: {without[0].path} has no group, and others '
                         'have.\nAdd it, or set group_pattern.')
    if all(row.part for row in trained):
        for row in rows:
            row.group = str(row.file)
        return 'the recording that a part is from'
    return ''


def _number_groups(rows: Sequence[Row]) -> dict[str, int]:
    texts = sorted({row.group for row in rows if row.group})
    are_numbers = all(text.isdecimal() and len(text) < 9 for text in texts)
    return {text: int(text) if are_numbers else i for i, text in enumerate(texts, 1)}


# ---- Clips ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What :func:`read_layout` found.

    ``clips`` are samples as in :class:`~hri30_ext.datasets.HRI30Dataset`, and ``subset``,
    empty where the data do not say it, and ``where`` a clip is listed.
    """
    annotation: str  # ``folders``, or a file
    clips: list[dict]
    classes: list[str]  # in the order of the labels
    groups: dict[str, int]  # numbers by their texts
    notes: list[str]  # what was decided by the data


def read_layout(root: str | Path, annotation: str | None = None,
                classes: Sequence[str] | None = None, group_pattern: str | None = None,
                columns: Sequence[str] | None = None) -> Layout | None:
    """Reads the clips of a data folder; None where their names say their labels.

    Args:
        annotation (str, optional): ``folders``; or a table or list, relative to the
            folder; None: what :func:`find_annotation` finds.
        classes (Sequence[str], optional): Names, in the order of the ids; None: from the
            data, sorted.
        group_pattern (str, optional): A regular expression with a group ``group``, searched
            in the path of a clip.
        columns (Sequence[str], optional): Names of the columns of a table, in their order.

    Raises:
        HRI30Error: files, labels, paths or groups that are wrong.
    """
    root, classes = check_root(root), classes and list(map(canonical_name, classes))
    annotation = annotation or find_annotation(root)
    for name, value, layouts in (('group_pattern', group_pattern, (NAMES, )),
                                 ('columns', columns, (NAMES, FOLDERS))):
        if value and annotation in layouts:
            raise HRI30Error(f'{name}={value!r}: has no use where {root} is read by '
                             f'annotation={annotation}.\nRemove it, or set annotation.')
    if annotation == NAMES:
        return None
    if annotation == FOLDERS:
        rows = _read_folders(root)
    else:
        rows = read_rows(root, annotation, columns)
        find_files(root, rows)
    refuse_repeated(rows)
    source = _find_groups(rows, group_pattern)
    folders = [PurePosixPath(row.path).parent.name for row in rows]
    if annotation.endswith('.txt') and all(folders) and not all(row.label for row in rows):
        for row, folder in zip(rows, folders, strict=True):
            row.label = folder  # UCF-101: only the lists for training have labels
    names, labels, note = number_labels(rows, classes)
    _refuse_unlabelled(root, rows)
    groups = _number_groups(rows)
    clips = _make_clips(root, rows, labels, groups)
    notes = [note, f'groups from {source}' if source else
             'no groups: a random split of near-copies reads too high']
    return Layout(annotation, clips, names, groups, [text for text in notes if text])


def _refuse_unlabelled(root: Path, rows: Sequence[Row]) -> None:
    """Refuses rows without a label, and classes that cannot be divided."""
    trained = [row for row in rows if row.split != 'test']
    for row in trained:
        if not row.label:
            raise HRI30Error(f'{row.where}: {row.path} has no label.\nAdd one.')
    counts = Counter(row.label for row in trained)
    if alone := [label for label in counts if counts[label] < 2]:
        raise HRI30Error(f'{root}: {len(alone)} classes have one clip:\n'
                         f'{first_cases(alone)}\nExpected two or more.')


def _make_clips(root: Path, rows: Sequence[Row], labels: dict[str, int],
                groups: dict[str, int]) -> list[dict]:
    # Without case, as clips of different splits are compared.
    stems = Counter(row.file.stem.casefold() for row in rows)
    clips = []
    for i, row in enumerate(rows):
        path = Path(name_part(str(row.file), *row.part) if row.part else row.file)
        is_unique = stems[row.file.stem.casefold()] == 1 and not row.part
        whole = path.relative_to(root).with_suffix('').as_posix()
        clips.append(dict(
            filename=str(path), video_id=path.stem if is_unique else whole,
            label=labels.get(row.label, -1), group=groups.get(row.group, -1), clip=i,
            subset=row.split, where=row.where))
    return sorted(clips, key=itemgetter('label', 'group', 'filename'))
