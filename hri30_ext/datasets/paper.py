"""The paper's three splits, by rule and as lists in UCF-101's form.

The splits hold out whole groups of recordings, the same in every class: the first 4, 3 and
5 of the 14. The release names the clips of the last 10 groups only, as SID = group - 4; the
clips of the others are its anonymous test folder. So there, split 1 tests on the test
folder, split 2 cannot be had, and split 3 tests on SID 1 alone.
"""

import contextlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..errors import HRI30Error, first_cases
from ..names import (
    HRI30_CLASSES,
    KNOWN_HOLES,
    PAPER_CLIPS,
    PAPER_GROUPS,
    PAPER_TEST_GROUPS,
    RELEASED_SHIFT,
    ClipName,
    canonical_name,
    parse_clip_name,
    released_name,
)
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_text

#: What every figure of split 3 on the released layout needs beside it.
PARTIAL = ('of the five test groups g01-g05 only g05, which is SID 1: 210 of the 1,049 '
           'test clips of HRI30')
#: The form of the lists' files; the number is that of the split.
_LISTS = {'train': 'trainlist{:02}.txt', 'test': 'testlist{:02}.txt'}
_CLASSES = 'classInd.txt'
_ROW = re.compile(r'(\S+?)(?:\s+(\d{1,6}))?')


class UnavailableSplit(HRI30Error):
    """A split that this layout of the data cannot have."""


def is_held_out_by_name(split: Mapping) -> bool:
    """Returns whether a split divides clips whose names say the label."""
    return split.get('type') in ('paper', 'lists')


def trains_on_all(split: Mapping) -> bool:
    """Returns whether a split validates on nothing, so that nothing is chosen."""
    return is_held_out_by_name(split) and split.get('val_groups') in (0, [])


def hold_out_test(clips: Sequence[dict], classes: Sequence[str] = HRI30_CLASSES,
                  left_out: Iterable[str] = (), *, type: str = 'group', number: int = 1,
                  folder: str | None = None, **_) -> tuple[list[dict], list[dict] | None]:
    """Divides labelled clips into the training side and the test side of a split.

    Args:
        clips (Sequence[dict]): Of :func:`~hri30_ext.datasets.hri30.load_labelled_clips`.
        classes (Sequence[str]): Class names, in the order of the ids.
        left_out (Iterable[str]): Paths of clips that lists may name though they are not
            among ``clips``.
        type (str): ``paper`` or ``lists``; with another, nothing is held out.
        number (int): Of the split, 1 to 3.
        folder (str, optional): For ``lists``: has ``trainlist01.txt``, ``testlist01.txt``
            and, if class ids are to be compared, ``classInd.txt``.

    Returns:
        tuple: Training side and test side, in the given order; the latter is None where
        the test clips are those of the test folder.

    Raises:
        HRI30Error: another number; groups that the paper does not have; a side without
            clips; lists that contradict themselves, each other, or the clips.
    """
    if not is_held_out_by_name(dict(type=type)):
        return list(clips), None
    if number not in PAPER_TEST_GROUPS:
        raise HRI30Error(f'split.number={number}: expected 1, 2 or 3.')
    if type == 'lists':
        train, test = _read_lists(folder, number, clips, classes, left_out)
    else:
        train, test = _divide(clips, number)
        if test is None:
            return train, None
    sides = [[clip for clip in clips if _key(clip) in side] for side in (train, test)]
    return sides[0], sides[1]


def _key(clip: Mapping) -> tuple[int, int, int]:
    return clip['label'] + 1, clip['paper_group'], clip['clip']


def _divide(clips, number):
    released = clips[0]['group'] != clips[0]['paper_group']
    first = 1 + (RELEASED_SHIFT if released else 0)
    wrong = [f'{clip["filename"]}: group {clip["group"]}' for clip in clips
             if not first <= clip['paper_group'] <= PAPER_GROUPS]
    if wrong:
        raise HRI30Error(f'split.type=paper: {len(wrong)} clips are of other groups than '
                         f"the paper's:\n{first_cases(wrong)}\nExpected "
                         f'{"SID 1 to 10" if released else "g01 to g14"}.')
    if released and number == 1:
        return list(clips), None
    if released and number == 2:
        raise UnavailableSplit(
            'split.number=2: cannot be had from the released layout: its training side '
            'needs group 4, whose clips are anonymous in the test folder.\nSet '
            'split.number=1 or 3, or use the layout <Class>/v_<Class>_gxx_cxx.avi.')
    last = PAPER_TEST_GROUPS[number]
    train, test = ({_key(clip) for clip in clips if (clip['paper_group'] <= last) is held}
                   for held in (False, True))
    if not train or not test:
        groups = sorted({clip['paper_group'] for clip in clips})
        raise HRI30Error(f'split.number={number}: found groups '
                         f'{", ".join(map(str, groups))}, expected some of 1 to {last} to '
                         f'test on and some of {last + 1} to {PAPER_GROUPS} to train on.')
    return train, test


def describe_split(split: Mapping, released: bool) -> str:
    """Names a split that holds clips out by name; empty for another.

    Args:
        split (Mapping): Its settings.
        released (bool): Whether the clips have the names of the release.
    """
    if not is_held_out_by_name(split):
        return ''
    number = split.get('number', 1)
    if split['type'] == 'lists':
        return f'split {number} of the lists in {split["folder"]}'
    partial = f' ({PARTIAL})' if released and number == 3 else ''
    return f'paper split {number}{partial}'


# ---- Lists ------------------------------------------------------------------------------


def paper_names(number: int) -> dict[str, list[ClipName]]:
    """Lists the distinct clips of a split of HRI30, without the two that do not exist.

    Returns:
        dict[str, list[ClipName]]: Under ``train`` and ``test``, sorted.
    """
    names = [name for class_id in range(1, len(HRI30_CLASSES) + 1)
             for group in range(1, PAPER_GROUPS + 1) for clip in range(1, PAPER_CLIPS + 1)
             if (name := ClipName(class_id, group, clip, ucf=True)) not in KNOWN_HOLES]
    last = PAPER_TEST_GROUPS[number]
    return dict(train=[name for name in names if name.group > last],
                test=[name for name in names if name.group <= last])


def write_paper_lists(folder: str | Path) -> dict[int, dict[str, int]]:
    """Writes ``classInd.txt`` and two lists for each split; needs no data.

    Returns:
        dict: The number of clips of either side, by the number of the split.
    """
    folder = Path(folder)
    atomic_write_text(folder / _CLASSES, ''.join(
        f'{i} {name}\n' for i, name in enumerate(HRI30_CLASSES, 1)))
    counts = {}
    for number in PAPER_TEST_GROUPS:
        sides = paper_names(number)
        counts[number] = {side: len(names) for side, names in sides.items()}
        for side, names in sides.items():
            atomic_write_text(folder / _LISTS[side].format(number), ''.join(
                f'{released_name(HRI30_CLASSES[name.class_id - 1])}/'
                f'{name.format(HRI30_CLASSES)}.avi'
                + (f' {name.class_id}\n' if side == 'train' else '\n') for name in names))
    return counts


def _read_lists(folder, number, clips, classes, left_out):
    """Returns the keys of the clips that the two lists name."""
    if not folder:
        raise HRI30Error('split.type=lists: expected split.folder=PATH, a folder with '
                         f'{_LISTS["train"].format(number)} and '
                         f'{_LISTS["test"].format(number)}.')
    folder = Path(folder).expanduser()
    if (folder / _CLASSES).is_file():
        _check_classes(folder / _CLASSES, classes)
    classes = [canonical_name(name) for name in classes]
    known = {_key(clip) for clip in clips}
    for path in left_out:
        with contextlib.suppress(HRI30Error):  # of the test folder, or a wrong name
            name = parse_clip_name(PurePosixPath(path).stem, classes)
            known.add((name.class_id, name.paper_group, name.clip))
    place: dict[tuple, str] = {}  # where each clip was named first
    sides = []
    for form in _LISTS.values():
        path = folder / form.format(number)
        keys = _read_list(path, classes, place)
        unknown = [f'{place[key]}: {ClipName(*key, ucf=True).format(classes)}'
                   for key in keys if key not in known]
        if unknown:
            raise HRI30Error(
                f'{path}: names {len(unknown)} clips that are not there:\n'
                f'{first_cases(unknown)}\nExpected clips of the data folder'
                + ('; of the released layout, only groups 5 to 14 have names. '
                   "split.type=paper has the paper's splits of either layout."
                   if min(key[1] for key in known) > RELEASED_SHIFT else '.'))
        sides.append(keys)
    unused = len(known) - len(place)
    if unused:
        warnings.warn(f'{folder}: {unused} clips of the data are in neither list of split '
                      f'{number} and are not used', stacklevel=4)
    return sides


def _rows(path: Path, expected: str):
    for number, line in enumerate(read_text(path, expected).splitlines(), 1):
        if line.strip():
            yield f'{path}, line {number}', line.strip()


def _check_classes(path: Path, classes: Sequence[str]) -> None:
    """Compares ``classInd.txt`` with the ids of the classes."""
    for where, line in _rows(path, 'rows of id and class name, such as 1 DeliverObject'):
        words = line.split()
        if len(words) != 2 or not re.fullmatch(r'\d{1,6}', words[0], re.ASCII):
            raise HRI30Error(f'{where}: found {line[:80]!r}, expected id and class name, '
                             'such as 1 DeliverObject.')
        class_id = int(words[0])
        expected = classes[class_id - 1] if 1 <= class_id <= len(classes) else None
        if canonical_name(words[1]) != (expected and canonical_name(expected)):
            raise HRI30Error(f'{where}: found {line!r}, expected '
                             + (f'{class_id} {expected}' if expected else
                                f'an id from 1 to {len(classes)}')
                             + '. The ids are those of the released annotation; correct '
                               'the file.')


def _read_list(path: Path, classes: Sequence[str], place: dict[tuple, str]) -> set[tuple]:
    """Reads one list; adds to ``place`` where each of its clips stands."""
    labels: dict[tuple, str | None] = {}
    base = None  # the id of the first class, and where it was found
    repeated = []
    for where, line in _rows(path, 'one clip a line, <Class>/v_<Class>_gxx_cxx.avi'):
        match = _ROW.fullmatch(line)
        try:
            if match is None:
                raise HRI30Error(repr(line[:80]))
            file = PurePosixPath(match[1])
            name = parse_clip_name(file.stem, classes)
        except HRI30Error as error:
            raise HRI30Error(f'{where}: found {error}; expected '
                             '<Class>/v_<Class>_gxx_cxx.avi and a class id.') from error
        of_class = classes[name.class_id - 1]
        if len(file.parts) > 1 and canonical_name(file.parent.name) != of_class:
            raise HRI30Error(f'{where}: found the folder {file.parent.name}, expected '
                             f'{of_class}, as {file.name} says.')
        if not 1 <= name.paper_group <= PAPER_GROUPS:
            raise HRI30Error(f'{where}: found group {name.group} of {file.name}, expected '
                             f'1 to {PAPER_GROUPS}.')
        key = (name.class_id, name.paper_group, name.clip)
        if key in labels:
            if labels[key] != match[2]:
                raise HRI30Error(f'{where}: found {file.name} with label {match[2]}, '
                                 f'expected {labels[key]}, as in {place[key]}.')
            repeated.append(f'{where}: {file.name}')
            continue
        if key in place:
            raise HRI30Error(f'{where}: found {file.name}, which is in {place[key]} too.\n'
                             'Expected every clip on one side.')
        labels[key], place[key] = match[2], where
        if match[2] is not None:
            first = int(match[2]) - name.class_id + 1
            base = base or (first, where)
            if first not in (0, 1) or first != base[0]:
                expected = name.class_id - 1 + (base[0] if base[0] in (0, 1) else 1)
                raise HRI30Error(
                    f'{where}: found label {match[2]} of {of_class}, expected {expected}'
                    + (f', as ids start at {base[0]} in {base[1]}.' if base[0] in (0, 1)
                       and base[1] != where else '.'))
    if repeated:
        warnings.warn(f'{path}: {len(repeated)} repeated lines count once:\n'
                      f'{first_cases(repeated)}', stacklevel=6)
    return set(labels)
