"""The annotation files against the clips, and the clips against the plan of HRI30."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..datasets.annotation import MAX_ROWS, read_annotations
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, ClipName, canonical_name, parse_clip_name
from ..utils.reading import open_text
from ..utils.text import printable
from .findings import ERROR, INFO, WARNING
from .names import are_swapped, described
from .tree import Tree

#: Annotation file of each split, relative to the root.
ANNOTATIONS = {'train': 'annotations/train_set_labels.csv',
               'test': 'annotations/test_set_labels.csv'}
#: Clips that the release itself lacks.
KNOWN_HOLES = frozenset({ClipName(10, 8, 1)})

_IRREGULAR = .1  # share of the clips that may be absent from a regular plan


class Row(NamedTuple):
    """One row of an annotation file that can be read."""
    number: int  # from 1
    video_id: str
    class_id: int


def check_annotation(tree: Tree, split: str, names: dict[str, ClipName],
                     classes: Sequence[str]) -> list[Row] | None:
    """Compares the annotation of a split with its clips.

    Args:
        tree (Tree): Findings are added to it.
        split (str): ``train`` or ``test``.
        names (dict[str, ClipName]): Of the training clips, by path.
        classes (Sequence[str]): Class names in this project's spelling.

    Returns:
        list[Row] | None: Rows that name a clip; None where there is no file.
    """
    path = tree.root / ANNOTATIONS[split]
    if not path.is_file() or (split == 'test' and tree.test_folder is None):
        return None
    found = len(tree.findings)
    stems = {clip.stem.casefold() for clip in tree.of(split)}
    rows, all_read = _read_rows(tree, path, ANNOTATIONS[split], classes, stems)
    if rows is None:
        return None
    if split == 'train':
        _compare_labels(tree, rows, classes)
    try:
        read_annotations(path, classes)
    except HRI30Error as error:
        if len(tree.findings) == found:  # it sees what is not seen here
            tree.report('annotation_row', ERROR, ANNOTATIONS[split],
                        ' '.join(str(error).split())[:300])
    _compare_clips(tree, split, rows, names, all_read)
    return rows


def _read_rows(tree: Tree, path: Path, name: str, classes: Sequence[str],
               stems: Container[str]) -> tuple[list[Row] | None, bool]:
    """Reads what can be read, and reports each row that cannot.

    Args:
        stems (Container[str]): Names of the clips, casefolded: a row of one of them is no
            header.

    Returns:
        tuple[list[Row] | None, bool]: The rows, None where there is no table; and whether
        these are all that there are.
    """
    try:
        with open_text(path, 'rows of video_id,class_name,class_id') as file:
            lines = list(islice(csv.reader(file), MAX_ROWS + 1))
        if len(lines) > MAX_ROWS:
            raise HRI30Error(f'more than {MAX_ROWS:,} rows')
    except HRI30Error as error:
        tree.report('annotation_row', ERROR, name,
                    str(error).splitlines()[0].removeprefix(f'{path}: '))
        return None, False
    lines = [[field.strip() for field in row] for row in lines]
    lines = [row for row in lines if any(row)]
    rows, seen, all_read = [], {}, True
    for number, line in enumerate(lines, 1):
        if number == 1 and len(line) == 3 and not line[2].lstrip('-').isdigit() and (
                _stem(line[0]).casefold() not in stems):
            continue  # a header
        row = _read_row(tree, name, number, line, classes)
        if row is None:
            all_read = False
            continue
        if row.video_id in seen:
            tree.report('annotation_row', ERROR, name, f'row {number}: '
                        f'{printable(row.video_id)} stands in row {seen[row.video_id]} '
                        'already')
        seen.setdefault(row.video_id, number)
        rows.append(row)
    return rows, all_read


def _stem(video_id: str) -> str:
    return PurePosixPath(video_id).stem if '.' in video_id else video_id


def _read_row(tree: Tree, file: str, number: int, line: list[str], classes: Sequence[str]
              ) -> Row | None:
    where = f'row {number}: {printable(",".join(line)[:80])}'
    if len(line) != 3 or not (line[2].isascii() and line[2].isdigit()) or (
            len(line[2]) > 9):
        tree.report('annotation_row', ERROR, file,
                    f'{where}: expected video_id,class_name,class_id')
        return None
    video_id = _stem(line[0])
    # A quote that is not closed makes one field of several rows.
    if not video_id or not ''.join(line).isprintable():
        tree.report('annotation_row', ERROR, file,
                    f'{where}: no video id, or characters that are not printed')
        return None
    name, class_id = canonical_name(line[1]), int(line[2])
    if not 1 <= class_id <= len(classes):
        tree.report('annotation_row', ERROR, file,
                    f'{where}: class id {class_id}, expected 1 to {len(classes)}')
    elif name not in classes:
        tree.report('annotation_row', ERROR, file, f'{where}: unknown class')
    elif classes[class_id - 1] != name:
        expected = list(classes).index(name) + 1
        kind = 'swapped_labels' if are_swapped(class_id, expected, classes) else (
            'label_contradiction')
        tree.report(kind, ERROR, file, f'{where}: {name} has id {expected}')
        class_id = -1  # which of the two is right, nobody knows
    return Row(number, video_id, class_id)


def _compare_labels(tree: Tree, rows: list[Row], classes: Sequence[str]) -> None:
    """Compares the class of each row with the one that the clip's name says."""
    for row in rows:
        try:
            named = parse_clip_name(row.video_id, len(classes)).class_id
        except HRI30Error:
            continue  # there is no such clip, which is found as that
        if row.class_id in (named, -1):
            continue
        kind = 'swapped_labels' if are_swapped(row.class_id, named, classes) else (
            'label_contradiction')
        tree.report(kind, ERROR, ANNOTATIONS['train'],
                    f'row {row.number}: {printable(row.video_id)} has class '
                    f'{row.class_id}{described(row.class_id, classes)}')


def _compare_clips(tree: Tree, split: str, rows: list[Row], names: dict[str, ClipName],
                   all_read: bool) -> None:
    """Finds rows without a clip and, where all rows were read, clips without a row."""
    # The names of training clips are read in any case, those of test clips are not.
    key = str.upper if split == 'train' else str
    annotated = {key(row.video_id): row for row in rows}
    clips = {key(clip.stem): clip for clip in tree.of(split)}
    by_case = {name.casefold(): name for name in clips}
    unusable = {key(stem) for stem in tree.unusable}
    suffixes = Counter(PurePosixPath(clip.path).suffix for clip in clips.values())
    suffix = suffixes.most_common(1)[0][0] if suffixes else '.avi'
    folder = tree.train_folder if split == 'train' else tree.test_folder
    paired = set()
    for name in sorted(annotated.keys() - clips.keys() - unusable):
        row = annotated[name]
        other = by_case.get(row.video_id.casefold())
        if other is not None and other not in annotated:
            paired.add(other)
            tree.report('name_case', ERROR, clips[other].path, 'the annotation spells it '
                        f'{printable(row.video_id)}')
            continue
        path = f'{row.video_id}{suffix}'
        tree.report('missing_clip', ERROR, f'{folder}/{path}' if folder else path,
                    f'annotated in row {row.number}, and not there')
    if not all_read:  # what cannot be read may be the row of any clip
        return
    for name in sorted(clips.keys() - annotated.keys() - paired):
        if split == 'test' or clips[name].path in names:
            tree.report('surplus_clip', ERROR, clips[name].path,
                        f'not in {ANNOTATIONS[split]}')


# ---- The plan: every class in every group, with the same clips --------------------------


def check_plan(tree: Tree, names: dict[str, ClipName], rows: list[Row] | None,
               classes: Sequence[str]) -> None:
    """Finds clips that are absent from a regular plan, annotated or not."""
    have = set(names.values())
    for video_id in [*(row.video_id for row in rows or ()), *tree.unusable]:
        try:  # what is annotated and missing is found as that
            have.add(parse_clip_name(video_id, len(classes)))
        except HRI30Error:
            continue
    if not names:
        return
    ids = {name.class_id for name in have}
    absent = [f'{class_id} {classes[class_id - 1]}'
              for class_id in range(1, len(classes) + 1) if class_id not in ids]
    if absent:
        tree.report('missing_class', WARNING, tree.train_folder or '.',
                    f'no clip of {len(absent)} of {len(classes)} classes, such as '
                    f'{absent[0]}')
    groups = {name.group for name in have}
    cells = len(ids) * len(groups)
    counts = Counter(name.clip for name in have)
    regular = sorted(clip for clip, count in counts.items() if count > cells / 2)
    planned = {ClipName(class_id, group, clip) for class_id in ids for group in groups
               for clip in regular}
    holes = planned - have
    if not regular or len(holes) > max(1, _IRREGULAR * len(planned)):
        tree.report('irregular', INFO, tree.train_folder or '.',
                    f'the classes of the {len(groups)} groups have different clips')
        return
    _report_holes(tree, holes, regular, classes)


def _report_holes(tree: Tree, holes: set[ClipName], regular: list[int],
                  classes: Sequence[str]) -> None:
    cells = defaultdict(list)
    for hole in sorted(holes):
        cells[hole.class_id, hole.group].append(hole)
    prefix = f'{tree.train_folder}/' if tree.train_folder else ''
    for (class_id, group), absent in cells.items():
        if len(absent) == len(regular) > 1:
            tree.report('hole', WARNING, f'{prefix}CID{class_id:02d}_SID{group:02d}',
                        f'group {group} has no clip of class {class_id}'
                        f'{described(class_id, classes)}')
            continue
        for hole in absent:
            known = hole in KNOWN_HOLES and tuple(classes) == HRI30_CLASSES
            tree.report('known_hole' if known else 'hole', INFO if known else WARNING,
                        f'{prefix}CID{class_id:02d}_SID{group:02d}_VID{hole.clip:02d}',
                        'neither a clip nor annotated, as in the release' if known
                        else 'neither a clip nor annotated, as its like are')


def check_numbers(tree: Tree) -> None:
    """Finds numbers that are absent from test clips which are otherwise counted."""
    numbers = defaultdict(dict)
    stems = [clip.stem for clip in tree.of('test')]
    for stem in [*stems, *tree.unusable]:
        if match := re.fullmatch(r'(.*?)(\d{1,9})', stem, re.ASCII | re.DOTALL):
            numbers[match[1].casefold(), len(match[2])][int(match[2])] = stem
    for (_, width), found in numbers.items():
        if len(found) < .9 * len(stems) or len(found) < .9 * max(found):
            continue
        prefix = next(iter(found.values()))[:-width]
        for number in sorted(set(range(1, max(found))) - found.keys()):
            tree.report('hole', WARNING,
                        f'{tree.test_folder}/{prefix}{number:0{width}d}',
                        'no clip of this number')


def check_class_lists(tree: Tree, classes: Sequence[str]) -> None:
    """Finds lists of classes in the alphabet's order, which other programs make."""
    if sorted(classes) == list(classes):
        return
    for folder in ('.', 'annotations'):
        for path in sorted((tree.root / folder).glob('*')):
            if (path.suffix.lower() not in ('.txt', '.csv', '.json', '.yaml', '.yml')
                    or not re.search('class|label', path.name, re.IGNORECASE)
                    or str(path.relative_to(tree.root)) in ANNOTATIONS.values()):
                continue
            try:
                if not path.is_file() or path.stat().st_size > 2**16:
                    continue
                words = re.findall(r'\w+', path.read_text(encoding='utf-8-sig'))
            except (OSError, ValueError):
                continue
            listed = list(dict.fromkeys(
                name for name in map(canonical_name, words) if name in classes))
            if len(listed) == len(classes) and listed == sorted(classes):
                tree.report('swapped_labels', WARNING, str(path.relative_to(tree.root)),
                            'lists the classes in the order of the alphabet')
