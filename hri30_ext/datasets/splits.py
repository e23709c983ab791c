"""Which labelled clips are for training and which for validation, and folds of them.

Every rule puts each clip in exactly one of the two, and gives the same result on every
machine: SHA-256 of the seed and the name decides the order, not a random generator whose
stream a library may change.
"""

import hashlib
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_text


def shuffled(items: Sequence, seed: int | str) -> list:
    """Returns the items in an order that depends on the seed and their names only."""
    return sorted(items, key=lambda item: hashlib.sha256(
        f'{seed}:{item}'.encode(errors='surrogateescape')).digest())


def _list_groups(clips):
    """Returns the groups of recordings, ascending; fewer than two cannot be divided."""
    groups = sorted({clip['group'] for clip in clips})
    if len(groups) < 2:
        raise HRI30Error(
            f'The clips have {"no groups" if groups == [-1] else "one group"}, expected '
            'two.\nSet group_pattern, add a column group, or set split.type=random.')
    return groups


def _split_by_group(clips, val_groups, seed, number='group', least=1):
    if least:
        _list_groups(clips)
    # The same recordings by either number of a group, see ClipName.paper_group.
    groups = {clip[number]: clip['group'] for clip in clips}
    is_count = isinstance(val_groups, int)
    held_out = {groups[group] for group in shuffled(sorted(groups), seed)[:val_groups]
                } if is_count else set(val_groups)
    groups = sorted(groups.values())
    if (not held_out < set(groups) or len(held_out) < least
            or is_count and val_groups < least):
        raise HRI30Error(
            f'split.val_groups={val_groups}: cannot hold that out of {len(groups)} groups '
            f'({", ".join(map(str, groups))}).\nExpected a number from {least} to '
            f'{len(groups) - 1}, or a list of some of the groups.')
    return {clip['video_id'] for clip in clips if clip['group'] in held_out}


def _split_at_random(clips, val_ratio, seed, stratified):
    by_class = defaultdict(list)
    for clip in clips:
        by_class[clip['label'] if stratified else None].append(clip['video_id'])
    val = set()
    for video_ids in by_class.values():
        count = round(val_ratio * len(video_ids))
        val.update(shuffled(video_ids, seed)[:max(count, len(video_ids) > 1)])
    if not 0 < len(val) < len(clips):
        raise HRI30Error(f'split.val_ratio={val_ratio}: leaves no clip for validation or '
                         f'for training of {len(clips)}.\nSet another.')
    warnings.warn('split.type=random leaks: near-copies are on both sides, and validation '
                  'reads 10-20 points too high. Use split.type=group.', stacklevel=3)
    return val


def _split_as_given(clips):
    val = {clip['video_id'] for clip in clips if clip.get('subset') == 'val'}
    if not 0 < len(val) < len(clips):
        raise HRI30Error(f'split.type=given: {len(val)} of {len(clips)} clips are for '
                         'validation.\nExpected folders train/ and val/, a column split, '
                         'or a list of each; or set split.type=group.')
    return val


def _split_by_file(clips, train_file, val_file):
    if not val_file:
        raise HRI30Error('split.type=file: expected split.val_file=PATH, a list with '
                         'one clip name a line.')
    known = {clip['video_id'] for clip in clips}
    val = _read_list(val_file, known)
    train = _read_list(train_file, known) if train_file else known - val
    if wrong := train & val or known - train - val:
        raise HRI30Error(f'{train_file}, {val_file}: {len(wrong)} clips are in '
                         f'{"both lists" if train & val else "neither list"}:\n'
                         f'{first_cases(sorted(wrong))}\nExpected every clip in one.')
    if not val or not train:
        raise HRI30Error(f'{val_file}: leaves no clip for validation or for training.')
    return val


def _read_list(path, known):
    path = Path(path).expanduser()
    lines = re.split('[\r\n]+', read_text(path, 'a list of clips, one name a line'))
    names = set()
    for line in filter(None, map(str.strip, lines)):
        # A path or a row of an annotation file is accepted like a bare name.
        paths = Path(line), Path(line.split(',')[0].strip())
        names.add(next((name for path in paths for name in (
            str(path), path.name, str(path.parent / path.stem), path.stem)
            if name in known), paths[-1].stem))
    unknown = sorted(names - known)
    if unknown:
        raise HRI30Error(f'{path}: {len(unknown)} names fit no clip:\n'
                         f'{first_cases(unknown)}')
    return names


def split_clips(clips: Sequence[dict], type: str = 'group', seed: int = 42,
                val_groups: int | Sequence[int] = 1, val_ratio: float = 0.1,
                stratified: bool = True, train_file: str | None = None,
                val_file: str | None = None, **_) -> tuple[list[dict], list[dict]]:
    """Splits labelled clips into training and validation; the settings of ``split``.

    Args:
        clips (Sequence[dict]): With ``video_id`` (unique), ``group``, ``label`` and, for
            ``given``, ``subset``.
        type (str): ``random`` leaks, with a warning; ``paper``
            and ``lists`` do as ``group``, with what :func:`.paper.hold_out_test` leaves.
        val_groups (int | Sequence[int]): How many groups to hold out, or which; 0 only for
            ``paper`` and ``lists``, to train on the whole side.
        stratified (bool): Whether ``random`` takes the same share of each class.

    Returns:
        tuple: ``(train, val)``, in the given order.

    Raises:
        HRI30Error: the rule leaves a side empty, names unknown clips, or puts a clip in
            none or in both.
    """
    val = (_split_by_group(clips, val_groups, seed) if type == 'group' else
           _split_at_random(clips, val_ratio, seed, stratified) if type == 'random' else
           _split_by_file(clips, train_file, val_file) if type == 'file' else
           _split_as_given(clips) if type == 'given' else
           _split_by_group(clips, val_groups, seed, 'paper_group', least=0))
    return ([clip for clip in clips if clip['video_id'] not in val],
            [clip for clip in clips if clip['video_id'] in val])


# ---- Folds ------------------------------------------------------------------------------


def group_folds(clips: Sequence[dict], folds: int | None, seed: int) -> list[list[str]]:
    """Divides the clips into folds of whole groups of recordings.

    Args:
        clips (Sequence[dict]): With ``video_id`` and ``group``.
        folds (int, optional): How many, 2 to the number of groups; None: one a group
            (leave one group out).
        seed (int): Decides which groups share a fold.

    Returns:
        list[list[str]]: Clip names of each fold, sorted; each clip is in exactly one.

    Raises:
        HRI30Error: more folds than groups, or fewer than 2.
    """
    groups = _list_groups(clips)
    folds = len(groups) if folds is None else folds
    if not 2 <= folds <= len(groups):
        raise HRI30Error(f'folds={folds}: expected 2 to {len(groups)}, the number of '
                         'groups of recordings (SID).')
    order = shuffled(groups, seed)
    return [sorted(clip['video_id'] for clip in clips if clip['group'] in order[i::folds])
            for i in range(folds)]


def random_folds(clips: Sequence[dict], folds: int, seed: int) -> list[list[str]]:
    """Divides the clips at random, each class evenly; for comparison only, as it leaks.

    Clips of one group are near-copies and are on both sides. Args, returns and raised
    errors are those of :func:`group_folds`.
    """
    if not 2 <= folds <= len(clips):
        raise HRI30Error(f'folds={folds}: expected 2 to {len(clips)}, the number of clips.')
    by_class = defaultdict(list)
    for clip in clips:
        by_class[clip['label']].append(clip['video_id'])
    # Continuing from class to class, so that folds differ by one clip at most.
    dealt = [name for label in sorted(by_class)
             for name in shuffled(by_class[label], seed)]
    return [sorted(dealt[i::folds]) for i in range(folds)]


def write_list(path: str | Path, names: Sequence[str]) -> Path:
    """Writes a list of clips that ``split.val_file`` reads; returns its path."""
    atomic_write_text(path, ''.join(f'{name}\n' for name in names))
    return Path(path)
