"""Which checkpoint of a work folder a training goes on from."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints import load_from_local
from ..errors import HRI30Error, first_cases
from .loops import STAGES, WITHIN_EPOCH

_EPOCH = re.compile(r'(?:snapshot_)?epoch_(\d+)\.pth')


@dataclass(frozen=True, order=True)
class _Position:
    """How far a training had come: the largest is the last."""

    epoch: int
    stage: int
    clips: int


@dataclass(frozen=True)
class _Found:
    run: str | None
    position: _Position


def find_newest(folder: str | Path) -> tuple[Path, list[str]]:
    """Finds the checkpoint that is furthest in the last training of a folder.

    Every one that could be is read and checked, whatever ``last_checkpoint`` says. A folder
    may hold checkpoints of an earlier training, further than those of the last: the last
    one is that which wrote the newest file.

    Args:
        folder (str | Path): A work folder.

    Returns:
        tuple[Path, list[str]]: The checkpoint; and what was found damaged, one sentence
        each.

    Raises:
        HRI30Error: there is none, or none that can be read.
    """
    folder = Path(folder)
    files = [path for path in sorted(folder.glob('*.pth')) if path.is_file() and (
        path.name == WITHIN_EPOCH or _EPOCH.fullmatch(path.name))]
    if not files:
        raise HRI30Error(
            f'{folder}: no checkpoint to resume from.\nExpected epoch_N.pth or '
            f'{WITHIN_EPOCH}, as a training saves them; leave --resume out to start anew.')
    damaged: dict[Path, str] = {}

    @functools.cache
    def read(path: Path) -> _Found | None:
        try:
            return _read(path)
        except HRI30Error as error:
            damaged[path] = str(error).split('\n', 1)[0]
            return None

    by_time = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    newest = next(filter(None, map(read, by_time)), None)
    if newest is None:
        raise HRI30Error(f'{folder}: none of its {len(files)} checkpoints can be read:\n'
                         f'{first_cases(damaged.values())}\nCopy them here again, or leave '
                         '--resume out to start anew.')
    # By their names first, so that few are read.
    best: tuple[_Position, Path] | None = None
    for path in sorted(files, key=_named_epoch, reverse=True):
        if best and best[0] >= _Position(_named_epoch(path), STAGES.index('epoch'), 0):
            break
        found = read(path)
        if found and found.run == newest.run and (not best or found.position > best[0]):
            best = found.position, path
    return best[1], [f'Not resumed from {reason}' for reason in damaged.values()]


def _named_epoch(path: Path) -> float:
    """Returns the epoch in a checkpoint's name; that within an epoch may be of any."""
    name = _EPOCH.fullmatch(path.name)
    return int(name[1]) if name else float('inf')


def _read(path: Path) -> _Found:
    checkpoint = load_from_local(str(path), map_location='cpu')
    progress = checkpoint.get('progress') or {}
    try:
        return _Found(progress.get('run'), _Position(
            int(checkpoint['meta']['epoch']), STAGES.index(progress.get('stage', 'epoch')),
            int(progress.get('clips', 0))))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HRI30Error(f'{path}: does not say where the training stood.') from error
