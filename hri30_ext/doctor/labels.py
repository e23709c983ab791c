"""Checks names and labels: clip names, annotation files, and the plan of HRI30.

Functions add what they find to the tree. Classes are in this project's spelling, and names
are the parsed names of training clips by path.
"""

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
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
from ..utils.reading import read_text
from .findings import WARNING
from .tree import ClipFile, Tree

#: Annotation file of each split, relative to the root.
ANNOTATIONS = {'train': 'annotations/train_set_labels.csv',
               'test': 'annotations/test_set_labels.csv'}

_FOREIGN = .5  # share of malformed names from which the data are not HRI30
_IRREGULAR = .1  # share of clips that may be absent from a regular plan


def check_labels(tree: Tree, classes: Sequence[str]) -> dict[str, ClipName]:
    """Checks the names of all clips, the folders of classes, and the annotations; returns
    the names."""
    names = _check_names(tree, classes)
    annotated = _check_annotation(tree, 'train', names, classes)
    _check_plan(tree, names, annotated or (), classes)
    if _check_annotation(tree, 'test', names, classes) is None:
        _check_numbers(tree)
    _check_class_lists(tree, classes)
    return names


# ---- Names ------------------------------------------------------------------------------


def _parse(stems: Iterable[str], classes: Sequence[str]) -> Iterator[ClipName]:
    for stem in stems:
        with contextlib.suppress(HRI30Error):  # no clip's name, which is another finding
            yield parse_clip_name(stem, classes)


def _check_names(tree: Tree, classes: Sequence[str]) -> dict[str, ClipName]:
    names, malformed = {}, {}
    clips = tree.of('train')
    for clip in clips:
        try:
            names[clip.path] = parse_clip_name(clip.stem, classes)
        except HRI30Error as error:
            malformed[clip.path] = str(error).removeprefix(f'{clip.stem}: ')
        else:
            _check_folder(tree, clip, names[clip.path].class_id, classes)
    if len(malformed) > _FOREIGN * len(clips):
        tree.report('foreign_names', tree.train_folder or '.', f'{len(malformed)} of '
                    f'{len(clips)} names, such as {next(iter(malformed))}')
        malformed = {}
    for path, reason in malformed.items():
        tree.report('malformed_name', path, reason)
    for clip in tree.of('test'):
        try:
            format_annotations([Annotation(clip.stem, classes[0], 1)])
        except HRI30Error:
            tree.report('malformed_name', clip.path, 'a submission cannot hold it '
                        '(unprintable characters, commas, quotes, outer spaces)')
    _check_same(tree, names)
    return names


def _check_folder(tree: Tree, clip: ClipFile, named_id: int, classes: Sequence[str]
                  ) -> None:
    """Compares a clip's class with that of its folder, which may be an id or a name."""
    parent = PurePosixPath(clip.path).parent
    folder = canonical_name(parent.name)
    if str(parent) in ('.', tree.train_folder):
        return
    class_id = (list(classes).index(folder) + 1 if folder in classes else
                int(folder) if folder.isascii() and folder.isdigit() else named_id)
    if class_id != named_id:
        tree.report(contradiction(class_id, named_id, classes, 'wrong_folder'), clip.path,
                    f'is in the folder of class {_describe(class_id, classes)}, and its '
                    f'name says {_describe(named_id, classes)}')


def _describe(class_id: int, classes: Sequence[str]) -> str:
    """Returns a class id, with the name of the class where there is one."""
    known = 1 <= class_id <= len(classes)
    return f'{class_id} ({classes[class_id - 1]})' if known else str(class_id)


def contradiction(a: int, b: int, classes: Sequence[str],
                  otherwise: str = 'label_contradiction') -> str:
    """Returns the kind of finding for two ids of one clip.

    They are swapped if they mean one class, one by this list and one by the alphabet.

    >>> from hri30_ext.names import HRI30_CLASSES
    >>> contradiction(28, 29, HRI30_CLASSES), contradiction(27, 28, HRI30_CLASSES)
    ('swapped_labels', 'label_contradiction')
    """
    ids = {number: list(classes).index(name) + 1  # by their number in the alphabet
           for number, name in enumerate(sorted(classes), 1)}
    return 'swapped_labels' if ids.get(a) == b or ids.get(b) == a else otherwise


def _check_same(tree: Tree, names: dict[str, ClipName]) -> None:
    """Finds files that mean one clip: another extension, case or number of digits."""
    same = defaultdict(list)
    for clip in tree.clips:
        if clip.split == 'test' or clip.path in names:
            same[names.get(clip.path) or clip.stem.casefold()].append(clip)
    for first, *others in same.values():
        for clip in others:
            if clip.path in names or clip.stem in {
                    other.stem for other in (first, *others) if other != clip}:
                tree.report('same_name', clip.path, f'the same clip as {first.path}')
            else:
                tree.report('name_case', clip.path,
                            f'differs from {first.path} only by case', WARNING)


# ---- Annotations ------------------------------------------------------------------------


def _check_annotation(tree: Tree, split: str, names: dict[str, ClipName],
                      classes: Sequence[str]) -> list[str] | None:
    """Compares the annotation of a split with its clips; returns the annotated clips,
    without extension, or None without a file."""
    path = tree.root / ANNOTATIONS[split]
    if not path.is_file() or (split == 'test' and tree.test_folder is None):
        return None
    rows, complete = {}, True
    try:
        for number, annotation, problem in scan_annotations(path, classes):
            kind = 'annotation_row'
            if annotation is None:
                complete = False
            else:
                rows.setdefault(annotation.video_id, number)
                kind, problem = _check_row(annotation, problem, split, classes)
            if problem:
                tree.report(kind, ANNOTATIONS[split], f'row {number}: {problem}')
    except HRI30Error as error:
        tree.report('annotation_row', ANNOTATIONS[split],
                    str(error).splitlines()[0].removeprefix(f'{path}: '))
        return None
    _compare_clips(tree, split, rows, names, complete)
    return list(rows)


def _check_row(row: Annotation, problem: str, split: str, classes: Sequence[str]
               ) -> tuple[str, str]:
    """Compares the class id of a row with its name and with the clip's name."""
    expected = None
    if problem and row.class_name in classes and 1 <= row.class_id <= len(classes):
        expected = list(classes).index(row.class_name) + 1
    elif not problem and split == 'train':
        expected = next((name.class_id for name in _parse([row.video_id], classes)), None)
    if expected in (None, row.class_id):
        return 'annotation_row', problem
    return (contradiction(row.class_id, expected, classes), problem or
            f'{row.video_id}: has class {_describe(row.class_id, classes)}')


def _compare_clips(tree: Tree, split: str, rows: dict[str, int],
                   names: dict[str, ClipName], complete: bool) -> None:
    """Finds rows without a clip and, if all rows were read, clips without a row."""
    # The names of training clips are read in any case, those of test clips are not.
    key = str.upper if split == 'train' else str
    annotated = {key(video_id): video_id for video_id in rows}
    clips = {key(clip.stem): clip for clip in tree.of(split)}
    by_case = {name.casefold(): name for name in clips}
    suffixes = Counter(PurePosixPath(clip.path).suffix for clip in clips.values())
    suffix = suffixes.most_common(1)[0][0] if suffixes else '.avi'
    folder = tree.train_folder if split == 'train' else tree.test_folder
    misspelled = set()
    for name in annotated.keys() - clips.keys() - set(map(key, tree.unusable)):
        video_id = annotated[name]
        other = by_case.get(name.casefold())
        if other is not None and other not in annotated:
            misspelled.add(other)
            tree.report('name_case', clips[other].path,
                        f'the annotation spells it {video_id}')
        else:
            path = f'{video_id}{suffix}'
            tree.report('missing_clip', f'{folder}/{path}' if folder else path,
                        f'annotated in row {rows[video_id]}, but not there')
    # A row that cannot be read may be that of any clip.
    for name in clips.keys() - annotated.keys() - misspelled if complete else ():
        if split == 'test' or clips[name].path in names:
            tree.report('surplus_clip', clips[name].path, f'not in {ANNOTATIONS[split]}')


# ---- The plan: every class in every group, with the same clips --------------------------


def _check_plan(tree: Tree, names: dict[str, ClipName], annotated: Sequence[str],
                classes: Sequence[str]) -> None:
    """Finds clips that are absent from a regular plan, and not annotated either."""
    # An annotated clip that is missing is another finding.
    present = {*names.values(), *_parse([*annotated, *tree.unusable], classes)}
    if not names:
        return
    ids, where = {name.class_id for name in present}, tree.train_folder or '.'
    absent = [f'{class_id} {name}' for class_id, name in enumerate(classes, 1)
              if class_id not in ids]
    if absent:
        tree.report('missing_class', where, f'no clip of {len(absent)} of {len(classes)} '
                    f'classes, such as {absent[0]}')
    groups = {name.group for name in present}
    counts = Counter(name.clip for name in present)
    regular = [clip for clip, count in counts.items()
               if count > len(ids) * len(groups) / 2]
    ucf = any(name.ucf for name in present)
    planned = {ClipName(class_id, group, clip, ucf) for class_id in ids
               for group in groups for clip in regular}
    holes = planned - present
    if not regular or len(holes) > max(1, _IRREGULAR * len(planned)):
        tree.report('irregular', where,
                    f'the classes of the {len(groups)} groups have different clips')
        return
    prefix = f'{tree.train_folder}/' if tree.train_folder else ''
    for hole in holes:
        known = hole in KNOWN_HOLES and tuple(classes) == HRI30_CLASSES
        tree.report('known_hole' if known else 'hole',
                    prefix + hole.format(classes), 'neither a clip nor annotated')


def _check_numbers(tree: Tree) -> None:
    """Finds numbers that are absent from consecutively numbered test clips."""
    numbers = defaultdict(dict)
    stems = [clip.stem for clip in tree.of('test')]
    for stem in [*stems, *tree.unusable]:
        if match := re.fullmatch(r'(.*?)(\d{1,9})', stem, re.ASCII | re.DOTALL):
            numbers[match[1].casefold(), len(match[2])][int(match[2])] = stem
    for (_, width), numbered in numbers.items():
        if len(numbered) < .9 * len(stems) or len(numbered) < .9 * max(numbered):
            continue
        prefix = next(iter(numbered.values()))[:-width]
        for number in sorted(set(range(1, max(numbered))) - numbered.keys()):
            tree.report('hole', f'{tree.test_folder}/{prefix}{number:0{width}d}',
                        'no clip with this number')


def _check_class_lists(tree: Tree, classes: Sequence[str]) -> None:
    """Finds class lists in alphabetical order, which other programs write."""
    if sorted(classes) == list(classes):
        return
    for path in sorted([*tree.root.glob('*'), *tree.root.glob('annotations/*')]):
        name = str(path.relative_to(tree.root))
        if (path.suffix.lower() not in ('.txt', '.csv', '.json', '.yaml', '.yml')
                or not re.search('class|label', path.name, re.IGNORECASE)
                or name in ANNOTATIONS.values()):
            continue
        try:
            words = re.findall(r'\w+', read_text(path, 'a list of classes', 2**16))
        except HRI30Error:
            continue
        listed = list(dict.fromkeys(
            word for word in map(canonical_name, words) if word in classes))
        if listed == sorted(classes):
            tree.report('swapped_labels', name, 'lists the classes in alphabetical order',
                        WARNING)
