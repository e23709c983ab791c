"""Checks names and labels: clip names, annotation files, and counts by class and group.

Classes are in this project's spelling; names are the parsed names of training clips by
path.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from ..datasets.annotation import Annotation, format_annotations, scan_annotations
from ..errors import HRI30Error
from ..names import (
    HRI30_CLASSES,
    KNOWN_HOLES,
    ClipName,
    canonical_name,
    parse_clip_name,
)
from .findings import Finding
from .tree import ClipFile, Tree

#: Annotation file of each split, relative to the root.
ANNOTATIONS = {'train': 'annotations/train_set_labels.csv',
               'test': 'annotations/test_set_labels.csv'}

#: Share of the classes in groups that have equally many clips where the data are regular.
_REGULAR = .9


def check_labels(tree: Tree, classes: Sequence[str]
                 ) -> tuple[dict[str, ClipName], list[Finding]]:
    """Checks names, folders of classes, annotations and counts of a data folder.

    Returns:
        tuple: The names of training clips by path, and the findings.
    """
    names, findings = {}, []
    for clip in tree.clips:
        try:
            if clip.split == 'train':
                names[clip.path] = parse_clip_name(clip.stem, classes)
            else:
                format_annotations([Annotation(clip.stem, classes[0], 1)])
        except HRI30Error as error:
            reason = str(error).partition(': ')[2]
            findings.append(Finding.of('malformed_name', clip.path, reason))
    findings += [*_check_folders(names, classes), *_check_repeated(tree, names)]
    annotated = []
    for split, path in ANNOTATIONS.items():
        if (tree.root / path).is_file() and (split == 'train' or tree.folders['test']):
            rows, wrong = _check_annotation(tree, split, names, classes)
            findings += wrong
            annotated += rows if split == 'train' else []
    # An annotated clip that is missing is another finding.
    present = {*names.values(), *_parse(annotated, classes)}
    return names, findings + list(_check_counts(tree.folders['train'], present, classes))


def _parse(stems: Iterable[str], classes: Sequence[str]) -> Iterator[ClipName]:
    for stem in stems:
        with contextlib.suppress(HRI30Error):  # no clip's name, which is another finding
            yield parse_clip_name(stem, classes)


def _describe(class_id: int, classes: Sequence[str]) -> str:
    """Returns a class id, with the name of the class where there is one."""
    known = 1 <= class_id <= len(classes)
    return f'{class_id} ({classes[class_id - 1]})' if known else str(class_id)


def _check_folders(names: Mapping[str, ClipName], classes: Sequence[str]
                   ) -> Iterator[Finding]:
    """Compares a clip's class with that of its folder, which may be an id or a name."""
    for path, name in names.items():
        folder = canonical_name(PurePosixPath(path).parent.name)
        class_id = (list(classes).index(folder) + 1 if folder in classes else
                    int(folder) if folder.isascii() and folder.isdigit() else None)
        if class_id not in (None, name.class_id):
            yield Finding.of('wrong_label', path, 'is in the folder of class '
                             f'{_describe(class_id, classes)}, and its name says '
                             f'{_describe(name.class_id, classes)}')


def _check_repeated(tree: Tree, names: Mapping[str, ClipName]) -> Iterator[Finding]:
    """Finds files that mean one clip: another extension, case or number of digits."""
    first = {}
    for clip in tree.clips:
        key = names.get(clip.path) or (clip.split, clip.stem)
        other = first.setdefault(key, clip)
        if other is not clip:
            yield Finding.of('same_name', clip.path, f'the same clip as {other.path}')


# ---- Annotations ------------------------------------------------------------------------


def _check_annotation(tree: Tree, split: str, names: Mapping[str, ClipName],
                      classes: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Compares the annotation of a split with its clips; returns the annotated clips,
    without extension, and the findings."""
    path = ANNOTATIONS[split]
    rows, findings, complete = {}, [], True
    try:
        for number, row, problem in scan_annotations(tree.root / path, classes):
            kind = 'annotation_row'
            complete &= row is not None
            if row:
                rows.setdefault(row.video_id, number)
            if row and split == 'train' and not problem:
                expected = next((name.class_id for name in _parse([row.video_id], classes)),
                                row.class_id)
                if expected != row.class_id:
                    kind, problem = 'wrong_label', (
                        f'{row.video_id}: has class {_describe(row.class_id, classes)}')
            if problem:
                findings.append(Finding.of(kind, path, f'row {number}: {problem}'))
    except HRI30Error as error:
        return [], [Finding.of('annotation_row', path, str(error).splitlines()[0])]
    clips = [clip for clip in tree.of(split) if split == 'test' or clip.path in names]
    # A row that cannot be read may be that of any clip.
    findings += [finding for finding in _compare(tree, split, rows, clips)
                 if complete or finding.kind == 'missing_clip']
    return list(rows), findings


def _compare(tree: Tree, split: str, rows: Mapping[str, int], clips: Sequence[ClipFile]
             ) -> Iterator[Finding]:
    """Finds rows without a clip and clips without a row."""
    # The names of training clips are read in any case, those of test clips are not.
    key = str.upper if split == 'train' else str
    annotated = {key(video_id): video_id for video_id in rows}
    stems = {key(clip.stem): clip for clip in clips}
    suffix = PurePosixPath(clips[0].path).suffix if clips else '.avi'
    folder = f'{tree.folders[split]}/'.lstrip('/')
    for name in annotated.keys() - stems.keys():
        yield Finding.of('missing_clip', f'{folder}{annotated[name]}{suffix}',
                         f'annotated in row {rows[annotated[name]]}, but not there')
    for name in stems.keys() - annotated.keys():
        yield Finding.of('surplus_clip', stems[name].path, f'not in {ANNOTATIONS[split]}')


# ---- Counts -----------------------------------------------------------------------------


def _check_counts(folder: str, present: set[ClipName], classes: Sequence[str]
                  ) -> Iterator[Finding]:
    """Finds classes without clips, and those that have fewer than most in a group.

    In data where less than 90 % of the classes have equally many in each group, only
    classes without clips are found.
    """
    counts = Counter((name.class_id, name.group) for name in present)
    if not counts:
        return
    ids, groups = map(set, zip(*counts))
    if tuple(classes) == HRI30_CLASSES:
        is_ucf = any(name.ucf for name in present)
        counts.update((hole.class_id, hole.group) for hole in KNOWN_HOLES - present
                      if hole.ucf == is_ucf and hole.class_id in ids
                      and hole.group in groups)
    absent = [class_id for class_id in range(1, len(classes) + 1) if class_id not in ids]
    if absent:
        yield Finding.of('few_clips', folder or '.', f'no clip of {len(absent)} of '
                         f'{len(classes)} classes, such as {_describe(absent[0], classes)}')
    cells = [(class_id, group) for class_id in ids for group in groups]
    usual, number = Counter(counts[cell] for cell in cells).most_common(1)[0]
    for class_id, group in cells if number >= _REGULAR * len(cells) else ():
        if counts[class_id, group] < usual:
            yield Finding.of('few_clips', folder or '.', f'{counts[class_id, group]} clips '
                             f'of class {_describe(class_id, classes)} in group {group}; '
                             f'most have {usual}')
