"""Names of clips: whether they can be read, and whether two stand for one clip."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..datasets.annotation import Annotation, format_annotations
from ..errors import HRI30Error
from ..names import ClipName, canonical_name, parse_clip_name
from ..utils.text import printable
from .findings import ERROR, WARNING
from .tree import ClipFile, Tree


def check_names(tree: Tree, classes: Sequence[str]) -> dict[str, ClipName]:
    """Checks the names of all clips and the folders of classes.

    Args:
        tree (Tree): Findings are added to it.
        classes (Sequence[str]): Class names in this project's spelling.

    Returns:
        dict[str, ClipName]: What the names of the training clips say, by path, of those
        that can be read.
    """
    names = {}
    for clip in tree.of('train'):
        try:
            names[clip.path] = parse_clip_name(clip.stem, len(classes))
        except HRI30Error as error:
            tree.report('malformed_name', ERROR, clip.path,
                        str(error).removeprefix(f'{clip.stem}: '))
            continue
        _check_folder(tree, clip, names[clip.path], classes)
    for clip in tree.of('test'):
        try:
            format_annotations([Annotation(clip.stem, classes[0], 1)])
        except HRI30Error:
            tree.report('malformed_name', ERROR, clip.path, 'a submission cannot hold it '
                        '(characters that are not printed, commas, quotes, outer spaces)')
    _check_same(tree, names)
    return names


def _check_folder(tree: Tree, clip: ClipFile, name: ClipName, classes: Sequence[str]
                  ) -> None:
    """Compares a clip's class with that of its folder, which may be an id or a name."""
    folder = PurePosixPath(clip.path).parent.name
    if not tree.train_folder or str(PurePosixPath(clip.path).parent) == tree.train_folder:
        return
    if folder.isascii() and folder.isdigit():
        class_id = int(folder)
    elif canonical_name(folder) in classes:
        class_id = list(classes).index(canonical_name(folder)) + 1
    else:
        return
    if class_id == name.class_id:
        return
    kind = 'swapped_labels' if are_swapped(class_id, name.class_id, classes) else (
        'wrong_folder')
    tree.report(kind, ERROR, clip.path, f'lies in the folder of class {class_id}'
                f'{described(class_id, classes)}, and its name says {name.class_id}'
                f'{described(name.class_id, classes)}')


def described(class_id: int, classes: Sequence[str]) -> str:
    """Returns a class's name in brackets, where there is one."""
    return f' ({classes[class_id - 1]})' if 1 <= class_id <= len(classes) else ''


def are_swapped(a: int, b: int, classes: Sequence[str]) -> bool:
    """Whether two ids are of one class, once by this list and once by the alphabet.

    >>> from hri30_ext.datasets import HRI30_CLASSES
    >>> are_swapped(28, 29, HRI30_CLASSES), are_swapped(27, 28, HRI30_CLASSES)
    (True, False)
    """
    if a == b or not (1 <= a <= len(classes) and 1 <= b <= len(classes)):
        return False
    alphabetical = sorted(classes)
    return classes[a - 1] == alphabetical[b - 1] or classes[b - 1] == alphabetical[a - 1]


def _check_same(tree: Tree, names: dict[str, ClipName]) -> None:
    """Finds files that stand for one clip: another ending, case or number of digits."""
    train, test = defaultdict(list), defaultdict(list)
    for path, name in names.items():
        train[name].append(path)
    for clip in tree.of('test'):
        test[clip.stem.casefold()].append(clip)
    for paths in train.values():
        for path in paths[1:]:
            tree.report('same_name', ERROR, path, f'the same clip as {printable(paths[0])}')
    for clips in test.values():
        for clip in clips[1:]:
            same = any(other.stem == clip.stem for other in clips if other != clip)
            if same:
                tree.report('same_name', ERROR, clip.path,
                            f'the same clip as {printable(clips[0].path)}')
            else:
                tree.report('name_case', WARNING, clip.path,
                            f'differs from {printable(clips[0].path)} by case alone')
