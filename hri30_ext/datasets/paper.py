"""The paper's three splits, by rule and as lists in UCF-101's form.

The splits hold out whole groups of recordings, the same in every class: the first 4, 3 and
5 of the 14. The release names the clips of the last 10 groups only, as SID = group - 4; the
clips of the others are its anonymous test folder. So there, split 1 tests on the test
folder, split 2 cannot be had, and split 3 tests on SID 1 alone.
"""

import contextlib
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
from .layouts import read_list

#: What every figure of split 3 on the released layout needs beside it.
PARTIAL = ('of the five test groups g01-g05 only g05, which is SID 1: 210 of the 1,049 '
           'test clips of HRI30')
_CLASSES = 'classInd.txt'


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
        left_out (Iterable[str]): Paths of other clips that lists may name.
        type (str): ``paper`` or ``lists``; with another, nothing is held out.
        folder (str, optional): For ``lists``: of ``trainlist01.txt`` and
            ``testlist01.txt``.

    Returns:
        tuple: Training side and test side, in the given order; the latter is None where
        the test clips are those of the test folder.

    Raises:
        HRI30Error: a split that cannot be had; lists that contradict themselves, each
            other, or the clips.
    """
    if not is_held_out_by_name(dict(type=type)):
        return list(clips), None
    if any('paper_group' not in clip for clip in clips):
        raise HRI30Error(f'split.type={type}: needs clips that are named as HRI30 names '
                         'them.\nSet split.type to group, given, random or file.')
    if type == 'paper':
        return _divide(clips, number)
    train, test = _read_lists(folder, number, clips, classes, left_out)
    return ([clip for clip in clips if _key(clip) in train],
            [clip for clip in clips if _key(clip) in test])


def _key(clip: Mapping) -> tuple[int, int, int]:
    return clip['label'] + 1, clip['paper_group'], clip['clip']


def _divide(clips, number):
    released = clips[0]['group'] != clips[0]['paper_group']
    first = 1 + RELEASED_SHIFT * released
    if wrong := [f'{clip["filename"]}: group {clip["group"]}' for clip in clips
                 if not first <= clip['paper_group'] <= PAPER_GROUPS]:
        raise HRI30Error(f'split.type=paper: {len(wrong)} clips are of unknown groups:\n'
                         f'{first_cases(wrong)}\nExpected SID 1 to 10, or g01 to g14.')
    if released and number == 1:
        return list(clips), None
    if released and number == 2:
        raise UnavailableSplit(
            'split.number=2: needs group 4 for training, whose clips are anonymous in the '
            'released layout.\nSet split.number=1 or 3, or use the layout v_Class_gxx_cxx.')
    last = PAPER_TEST_GROUPS[number]
    train, test = ([clip for clip in clips if (clip['paper_group'] <= last) is held]
                   for held in (False, True))
    if not train or not test:
        raise HRI30Error(f'split.number={number}: expected clips of groups 1 to {last} to '
                         f'test on and of {last + 1} to {PAPER_GROUPS} to train on.')
    return train, test


# ---- Lists ------------------------------------------------------------------------------


def paper_names(number: int) -> dict[str, list[ClipName]]:
    """Lists the distinct clips of a split of HRI30, under ``train`` and ``test``."""
    names = [name for class_id in range(1, len(HRI30_CLASSES) + 1)
             for group in range(1, PAPER_GROUPS + 1) for clip in range(1, PAPER_CLIPS + 1)
             if (name := ClipName(class_id, group, clip, ucf=True)) not in KNOWN_HOLES]
    last = PAPER_TEST_GROUPS[number]
    return dict(train=[name for name in names if name.group > last],
                test=[name for name in names if name.group <= last])


def write_paper_lists(folder: str | Path) -> dict[int, dict[str, int]]:
    """Writes ``classInd.txt`` and the lists; returns the numbers of clips by split."""
    folder, counts = Path(folder), {}
    atomic_write_text(folder / _CLASSES, ''.join(
        f'{i} {name}\n' for i, name in enumerate(HRI30_CLASSES, 1)))
    for number in PAPER_TEST_GROUPS:
        sides = paper_names(number)
        counts[number] = {side: len(names) for side, names in sides.items()}
        for side, names in sides.items():
            atomic_write_text(folder / f'{side}list{number:02}.txt', ''.join(
                f'{released_name(HRI30_CLASSES[name.class_id - 1])}/'
                f'{name.format(HRI30_CLASSES)}.avi'
                + (f' {name.class_id}\n' if side == 'train' else '\n') for name in names))
    return counts


def _read_lists(folder, number, clips, classes, left_out):
    """Returns the keys of the clips that the two lists name."""
    if not folder:
        raise HRI30Error('split.type=lists: expected split.folder=PATH, a folder with '
                         f'trainlist{number:02}.txt and testlist{number:02}.txt.')
    folder = Path(folder).expanduser()
    classes = [canonical_name(name) for name in classes]
    known = {_key(clip) for clip in clips}
    for path in left_out:
        with contextlib.suppress(HRI30Error):  # of the test folder, or a wrong name
            name = parse_clip_name(PurePosixPath(path).stem, classes)
            known.add((name.class_id, name.paper_group, name.clip))
    place: dict[tuple, str] = {}  # where each clip was named first
    sides = []
    for side in ('train', 'test'):
        path = folder / f'{side}list{number:02}.txt'
        sides.append(_read_list(path, classes, place))
        if not sides[-1]:
            raise HRI30Error(f'{path}: names no clips, expected one a line.')
        unknown = [f'{place[key]}: {ClipName(*key, ucf=True).format(classes)}'
                   for key in sides[-1] if key not in known]
        if unknown:
            raise HRI30Error(f'{path}: names {len(unknown)} clips that are not there:\n'
                             f'{first_cases(unknown)}\nThe released layout names groups 5 '
                             'to 14 only; split.type=paper has its splits.')
    if len(known) > len(place):
        warnings.warn(f'{folder}: {len(known) - len(place)} clips of the data are in '
                      f'neither list of split {number} and are not used', stacklevel=4)
    return sides


def _read_list(path: Path, classes: Sequence[str], place: dict[tuple, str]) -> set[tuple]:
    """Reads one list; adds to ``place`` where each of its clips stands. A repeated line
    counts once."""
    keys: set[tuple] = set()
    for row in read_list(path):
        file = PurePosixPath(row.path)
        try:
            name = parse_clip_name(file.stem, classes)
            label = int(row.label or name.class_id)
        except (HRI30Error, ValueError) as error:
            raise HRI30Error(f'{row.where}: {error}.\nExpected '
                             '<Class>/v_<Class>_gxx_cxx.avi and a class id.') from error
        key = (name.class_id, name.paper_group, name.clip)
        folders = '', classes[name.class_id - 1]
        if (canonical_name(file.parent.name) not in folders
                or not 1 <= name.paper_group <= PAPER_GROUPS
                or label not in (name.class_id - 1, name.class_id)  # ids from 0 or from 1
                or key in place and key not in keys):
            raise HRI30Error(
                f'{row.where}: {row.path} {row.label} contradicts itself or '
                f'{place.get(key, "the classes")}.\nExpected every clip in one list, in '
                f'the folder of its class, with its id, of a group up to {PAPER_GROUPS}.')
        keys.add(key)
        place.setdefault(key, row.where)
    return keys
