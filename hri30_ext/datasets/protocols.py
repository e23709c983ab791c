"""Folds for cross-validation.

Everything is seeded and the same on every machine. Lists of clip names (one a line), which
``split.type=file`` reads, can be shared.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from .splits import shuffled


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
    groups = sorted({clip['group'] for clip in clips})
    folds = len(groups) if folds is None else folds
    if not 2 <= folds <= len(groups):
        raise HRI30Error(f'folds={folds}: expected 2 to {len(groups)}, the number of '
                         'groups of recordings (SID).')
    fold_of = {group: i % folds for i, group in enumerate(shuffled(groups, seed))}
    return _collect(clips, [fold_of[clip['group']] for clip in clips], folds)


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
    fold_of = {name: i % folds for i, name in enumerate(dealt)}
    return _collect(clips, [fold_of[clip['video_id']] for clip in clips], folds)


def _collect(clips, fold_of_clip, folds):
    collected: list[list[str]] = [[] for _ in range(folds)]
    for clip, fold in zip(clips, fold_of_clip, strict=True):
        collected[fold].append(clip['video_id'])
    return [sorted(fold) for fold in collected]


def write_list(path: str | Path, names: Sequence[str]) -> Path:
    """Writes a list of clips that ``split.val_file`` reads; returns its path."""
    atomic_write_text(path, ''.join(f'{name}\n' for name in names))
    return Path(path)
