"""The checkpoints in a work folder: which to resume from, and that none is lost."""

import contextlib
import functools
import itertools
import math
import os
import re
from pathlib import Path

import filelock

from ..checkpoints import load_from_local
from ..errors import HRI30Error, first_cases
from .loops import STAGES, WITHIN_EPOCH

_EPOCH = re.compile(r'(?:snapshot_)?epoch_(\d+)\.pth')
#: What a training saves, and what a test adds beside it.
_SAVED = re.compile(r'(within_epoch|(snapshot_|best_\w+_)?epoch_\d+|best)\.'
                    r'(pth|safetensors|\w+\.json)|last_checkpoint')


def lock_folder(folder: str | Path) -> filelock.AcquireReturnProxy:
    """Keeps other trainings out of a work folder until the returned context ends.

    Raises:
        HRI30Error: another training has the lock, or the file cannot be locked.
    """
    path = Path(folder) / 'training.lock'
    try:
        lock = filelock.FileLock(path).acquire(timeout=0)
    except filelock.Timeout as error:
        raise HRI30Error(
            f'{folder}: another training uses this folder: '
            f'{path.read_text(encoding="utf-8") or "it has just begun"}.\nWait until '
            'it ends, or choose another --work-dir.') from error
    except OSError as error:  # of another user, or a file system without locks
        raise HRI30Error(
            f'{path}: cannot be locked ({error.strerror or error}).\nRemove it if no '
            'training runs here, or choose another --work-dir.') from error
    with contextlib.suppress(OSError):  # a full disk
        path.write_text(f'process {os.getpid()} on {os.uname().nodename}',
                        encoding='utf-8')
    return lock


def list_saved(folder: str | Path) -> list[Path]:
    """Lists the files that a training saved, and the calibrations that belong to them."""
    return sorted(path for path in Path(folder).glob('*') if _SAVED.fullmatch(path.name))


def refuse_to_overwrite(folder: str | Path) -> None:
    """Raises an HRI30Error if a work folder holds checkpoints."""
    saved = [path.name for path in list_saved(folder) if path.suffix == '.pth']
    if saved:
        more = f' and {len(saved) - 3} more' if saved[3:] else ''
        raise HRI30Error(
            f'{folder}: holds checkpoints of a training ({", ".join(saved[:3])}{more}).\n'
            'Use --resume to continue it, another --work-dir, or --overwrite to delete '
            'them and start over.')


def find_newest(folder: str | Path) -> tuple[Path, list[str]]:
    """Finds the checkpoint that is furthest in the last training of a work folder.

    Candidates are read and checked, whatever ``last_checkpoint`` says. A folder may hold
    checkpoints of an earlier training that went further. The last training is the one that
    wrote the newest file.

    Returns:
        tuple[Path, list[str]]: The checkpoint, and a sentence for each damaged one.

    Raises:
        HRI30Error: there is none, or none that can be read.
    """
    folder = Path(folder)
    files = [path for path in sorted(folder.glob('*.pth')) if path.is_file() and (
        path.name == WITHIN_EPOCH or _EPOCH.fullmatch(path.name))]
    if not files:
        raise HRI30Error(
            f'{folder}: no checkpoint to resume from.\nExpected epoch_N.pth or '
            f'{WITHIN_EPOCH}, as a training saves them; omit --resume to start over.')
    damaged: list[str] = []

    @functools.cache
    def read(path: Path) -> tuple[str | None, tuple[int, int, int]] | None:
        """Returns the run; and epochs, index in STAGES, clips of the next epoch."""
        try:
            checkpoint = load_from_local(str(path))
            progress = checkpoint.get('progress') or {}
            return progress.get('run'), (
                int(checkpoint['meta']['epoch']),
                STAGES.index(progress.get('stage', 'epoch')), int(progress.get('clips', 0)))
        except HRI30Error as error:
            damaged.append(str(error).split('\n', 1)[0])
        except (KeyError, TypeError, ValueError, AttributeError):
            damaged.append(f'{path}: does not say how far the training was.')
        return None

    by_time = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    newest = next(filter(None, map(read, by_time)), None)
    if newest is None:
        raise HRI30Error(f'{folder}: none of its {len(files)} checkpoints can be read:\n'
                         f'{first_cases(damaged)}\nCopy them here again, or omit --resume '
                         'to start over.')
    # From the highest epoch in a name, so that few files are read. The first may be within
    # an epoch, and not further than the second.
    files.sort(reverse=True, key=lambda path: (
        int(name[1]) if (name := _EPOCH.fullmatch(path.name)) else math.inf))
    of_run = (path for path in files if read(path) and read(path)[0] == newest[0])
    best = max(itertools.islice(of_run, 2), key=lambda path: read(path)[1])
    return best, [f'Not resumed from {reason}' for reason in damaged]
