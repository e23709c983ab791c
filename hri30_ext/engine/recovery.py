"""The checkpoints in a work folder: which to resume from, and that none is lost."""

import contextlib
import os
import re
from pathlib import Path

import filelock

from ..checkpoints import load_from_local
from ..errors import HRI30Error, first_cases

#: What a training saves, and what a test adds beside it.
_SAVED = re.compile(r'((snapshot_|best_\w+_)?epoch_\d+|best)\.(pth|safetensors|\w+\.json)|'
                    r'last_checkpoint')


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
        raise HRI30Error(
            f'{folder}: holds checkpoints of a training:\n{first_cases(saved)}\n'
            'Use --resume to continue it, another --work-dir, or --overwrite to delete '
            'them and start over.')


def list_epochs(folder: str | Path, prefix: str = '') -> list[Path]:
    """Lists the checkpoints ``epoch_N.pth``, or with a prefix, the highest epoch first."""
    numbers = {path: int(name[1]) for path in Path(folder).glob('*.pth') if (
        name := re.fullmatch(rf'{prefix}epoch_(\d+)\.pth', path.name))}
    return sorted(numbers, key=numbers.__getitem__, reverse=True)


def find_newest(folder: str | Path) -> tuple[Path, list[str]]:
    """Finds the checkpoint of the highest epoch in a work folder that can be read.

    Returns:
        tuple[Path, list[str]]: The checkpoint, and a sentence for each damaged one.

    Raises:
        HRI30Error: there is none, or none that can be read.
    """
    damaged: list[str] = []
    for path in list_epochs(folder):
        try:
            load_from_local(str(path))
        except HRI30Error as error:
            damaged.append(str(error).split('\n', 1)[0])
        else:
            return path, [f'Not resumed from {reason}' for reason in damaged]
    if damaged:
        raise HRI30Error(
            f'{folder}: none of its {len(damaged)} checkpoints can be read:\n'
            f'{first_cases(damaged)}\nCopy them here again, or omit --resume to start '
            'over.')
    raise HRI30Error(f'{folder}: no checkpoint to resume from.\nExpected epoch_N.pth, as a '
                     'training saves them; omit --resume to start over.')
