"""Checks names and labels: clip names, annotation files, and the plan of HRI30."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..datasets.annotation import Annotation, format_annotations, scan_annotations
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, ClipName, canonical_name, parse_clip_name
from ..utils.text import printable
from .findings import ERROR, INFO, WARNING
from .tree import ClipFile, Tree

#: Annotation file of each split, relative to the root.
ANNOTATIONS = {'train': 'annotations/train_set_labels.csv',
               'test': 'annotations/test_set_labels.csv'}
#: Clips that the release itself lacks.
KNOWN_HOLES = frozenset({ClipName(10, 8, 1)})

_FOREIGN = .5  # share of malformed names from which the data are not HRI30
_IRREGULAR = .1  # share of clips that may be absent from a regular plan


# ---- Names ------------------------------------------------------------------------------


def check_names(tree: Tree, classes: Sequence[str]) -> dict[str, ClipName]:
    """Checks the names of all clips and the folders of classes.

    Args:
        tree (Tree): Findings are added to it.
        classes (Sequence[str]): Class names in this project's spelling.

    Returns:
        dict[str, ClipName]: The parsed names of training clips, by path.
    """
    names, malformed = {}, {}
    clips = tree.of('train')
    for clip in clips:
        try:
            names[clip.path] = parse_clip_name(clip.stem, len(classes))
        except HRI30Error as error:
            malformed[clip.path] = str(error).removeprefix(f'{clip.stem}: ')
        else:
            _check_folder(tree, clip, names[clip.path].class_id, classes)
    if len(malformed) > max(1, _FOREIGN * len(clips)):
        tree.report('foreign_names', ERROR, tree.train_folder or '.',
                    f'{len(malformed)} of {len(clips)} names are not CIDxx_SIDxx_VIDxx, '
                    f'such as {printable(next(iter(malformed)))}')
        malformed = {}
    for path, reason in malformed.items():
        tree.report('malformed_name', ERROR, path, reason)
    for clip in tree.of('test'):
        try:
            format_annotations([Annotation(clip.stem, classes[0], 1)])
        except HRI30Error:
            tree.report('malformed_name', ERROR, clip.path, 'a submission cannot hold it '
                        '(unprintable characters, commas, quotes, outer spaces)')
    _check_same(tree, names)
    return names


def _check_folder(tree: Tree, clip: ClipFile, named_id: int, classes: Sequence[str]
                  ) -> None:
    """Compares a clip's class with that of its folder, which may be an id or a name."""
    parent = PurePosixPath(clip.path).parent
    folder = canonical_name(parent.name)
    if not tree.train_folder or str(parent) == tree.train_folder:
        return
    if folder in classes:
        class_id = list(classes).index(folder) + 1
    elif folder.isascii() and folder.isdigit():
        class_id = int(folder)
    else:
        return
    if class_id != named_id:
        tree.report(_contradiction(class_id, named_id, classes, 'wrong_folder'), ERROR,
                    clip.path, f'is in the folder of class {described(class_id, classes)}, '
                    f'and its name says {described(named_id, classes)}')


def described(class_id: int, classes: Sequence[str]) -> str:
    """Returns a class id, with the name of the class where there is one."""
    return f'{class_id} ({classes[class_id - 1]})' if 1 <= class_id <= len(classes) else (
        str(class_id))


def _contradiction(a: int, b: int, classes: Sequence[str],
                   otherwise: str = 'label_contradiction') -> str:
    """Returns the kind of finding for two ids of one clip."""
    return 'swapped_labels' if are_swapped(a, b, classes) else otherwise


def are_swapped(a: int, b: int, classes: Sequence[str]) -> bool:
    """Whether two ids mean one class, one by this list and one by the alphabet.

    >>> from hri30_ext.names import HRI30_CLASSES
    >>> are_swapped(28, 29, HRI30_CLASSES), are_swapped(27, 28, HRI30_CLASSES)
    (True, False)
    """
    if a == b or not (1 <= a <= len(classes) and 1 <= b <= len(classes)):
        return False
    alphabetical = sorted(classes)
    return classes[a - 1] == alphabetical[b - 1] or classes[b - 1] == alphabetical[a - 1]


def _check_same(tree: Tree, names: dict[str, ClipName]) -> None:
    """Finds files that mean one clip: another extension, case or number of digits."""
    train, test = defaultdict(list), defaultdict(list)
    for path, name in names.items():
        train[name].append(path)
    for clip in tree.of('test'):
        test[clip.stem.casefold()].append(clip)
    for first, *others in train.values():
        for path in others:
            tree.report('same_name', ERROR, path, f'the same clip as {printable(first)}')
    for first, *others in test.values():
        stems = Counter(clip.stem for clip in [first, *others])
        for clip in others:
            if stems[clip.stem] > 1:
                tree.report('same_name', ERROR, clip.path,
                            f'the same clip as {printable(first.path)}')
            else:
                tree.report('name_case', WARNING, clip.path,
                            f'differs from {printable(first.path)} only by case')


# ---- Annotations ------------------------------------------------------------------------


def check_annotation(tree: Tree, split: str, names: dict[str, ClipName],
                     classes: Sequence[str]) -> list[str] | None:
    """Compares the annotation of a split with its clips.

    Args:
        tree (Tree): Findings are added to it.
        split (str): ``train`` or ``test``.
        names (dict[str, ClipName]): Of the training clips, by path.
        classes (Sequence[str]): Class names in this project's spelling.

    Returns:
        list[str] | None: The annotated clips, without extension; None without a file.
    """
    path = tree.root / ANNOTATIONS[split]
    if not path.is_file() or (split == 'test' and tree.test_folder is None):
        return None
    ids = {name: i for i, name in enumerate(classes, 1)}
    rows, complete = {}, True
    try:
        for number, annotation, problem in scan_annotations(path, classes):
            kind = 'annotation_row'
            if annotation is None:
                complete = False
            else:
                video_id, name, class_id = annotation
                rows.setdefault(video_id, number)
                if not problem and split == 'train':
                    kind, problem = _compare_label(video_id, class_id, classes)
                elif name in ids and 1 <= class_id <= len(ids) and class_id != ids[name]:
                    kind = _contradiction(class_id, ids[name], classes)
            if problem:
                tree.report(kind, ERROR, ANNOTATIONS[split],
                            f'row {number}: {printable(problem)}')
    except HRI30Error as error:
        tree.report('annotation_row', ERROR, ANNOTATIONS[split],
                    str(error).splitlines()[0].removeprefix(f'{path}: '))
        return None
    _compare_clips(tree, split, rows, names, complete)
    return list(rows)


def _compare_label(video_id: str, class_id: int, classes: Sequence[str]) -> tuple[str, str]:
    """Compares the class of a row with that of the clip's name."""
    try:
        named_id = parse_clip_name(video_id, len(classes)).class_id
    except HRI30Error:  # there is no such clip, which is another finding
        return '', ''
    return _contradiction(class_id, named_id, classes), '' if class_id == named_id else (
        f'{video_id}: has class {described(class_id, classes)}')


def _compare_clips(tree: Tree, split: str, rows: dict[str, int],
                   names: dict[str, ClipName], complete: bool) -> None:
    """Finds rows without a clip and, if all rows were read, clips without a row."""
    # The names of training clips are read in any case, those of test clips are not.
    key = str.upper if split == 'train' else str
    annotated = {key(video_id): video_id for video_id in rows}
    clips = {key(clip.stem): clip for clip in tree.of(split)}
    by_case = {name.casefold(): name for name in clips}
    unusable = set(map(key, tree.unusable))
    suffixes = Counter(PurePosixPath(clip.path).suffix for clip in clips.values())
    suffix = suffixes.most_common(1)[0][0] if suffixes else '.avi'
    folder = tree.train_folder if split == 'train' else tree.test_folder
    misspelled = set()
    for name in sorted(annotated.keys() - clips.keys() - unusable):
        video_id = annotated[name]
        other = by_case.get(name.casefold())
        if other is not None and other not in annotated:
            misspelled.add(other)
            tree.report('name_case', ERROR, clips[other].path,
                        f'the annotation spells it {printable(video_id)}')
        else:
            path = f'{video_id}{suffix}'
            tree.report('missing_clip', ERROR, f'{folder}/{path}' if folder else path,
                        f'annotated in row {rows[video_id]}, but not there')
    if not complete:  # a row that cannot be read may be that of any clip
        return
    for name in sorted(clips.keys() - annotated.keys() - misspelled):
        if split == 'test' or clips[name].path in names:
            tree.report('surplus_clip', ERROR, clips[name].path,
                        f'not in {ANNOTATIONS[split]}')


# ---- The plan: every class in every group, with the same clips --------------------------


def check_plan(tree: Tree, names: dict[str, ClipName], annotated: Sequence[str],
               classes: Sequence[str]) -> None:
    """Finds clips that are absent from a regular plan, and not annotated either."""
    present = set(names.values())
    for video_id in [*annotated, *tree.unusable]:
        try:  # an annotated clip that is missing is another finding
            present.add(parse_clip_name(video_id, len(classes)))
        except HRI30Error:
            continue
    if not names:
        return
    ids = {name.class_id for name in present}
    absent = [f'{class_id} {classes[class_id - 1]}'
              for class_id in range(1, len(classes) + 1) if class_id not in ids]
    where = tree.train_folder or '.'
    if absent:
        tree.report('missing_class', WARNING, where, f'no clip of {len(absent)} of '
                    f'{len(classes)} classes, such as {absent[0]}')
    groups = {name.group for name in present}
    counts = Counter(name.clip for name in present)
    regular = sorted(clip for clip, count in counts.items()
                     if count > len(ids) * len(groups) / 2)
    planned = {ClipName(class_id, group, clip) for class_id in ids for group in groups
               for clip in regular}
    holes = planned - present
    if not regular or len(holes) > max(1, _IRREGULAR * len(planned)):
        tree.report('irregular', INFO, where,
                    f'the classes of the {len(groups)} groups have different clips')
        return
    cells = defaultdict(list)
    for hole in sorted(holes):
        cells[hole.class_id, hole.group].append(hole)
    prefix = f'{tree.train_folder}/' if tree.train_folder else ''
    for (class_id, group), absent in cells.items():
        cell = f'{prefix}CID{class_id:02d}_SID{group:02d}'
        if len(absent) == len(regular) > 1:
            tree.report('hole', WARNING, cell, f'group {group} has no clip of class '
                        f'{described(class_id, classes)}')
            continue
        for hole in absent:
            kind, severity, detail = 'hole', WARNING, 'neither a clip nor annotated'
            if hole in KNOWN_HOLES and tuple(classes) == HRI30_CLASSES:
                kind, severity, detail = 'known_hole', INFO, f'{detail}, as in the release'
            tree.report(kind, severity, f'{cell}_VID{hole.clip:02d}', detail)


def check_numbers(tree: Tree) -> None:
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
            tree.report('hole', WARNING,
                        f'{tree.test_folder}/{prefix}{number:0{width}d}',
                        'no clip with this number')


def check_class_lists(tree: Tree, classes: Sequence[str]) -> None:
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
            if not path.is_file() or path.stat().st_size > 2**16:
                continue
            words = re.findall(r'\w+', path.read_text(encoding='utf-8-sig'))
        except (OSError, ValueError):
            continue
        listed = list(dict.fromkeys(
            word for word in map(canonical_name, words) if word in classes))
        if listed == sorted(classes):
            tree.report('swapped_labels', WARNING, name,
                        'lists the classes in alphabetical order')
