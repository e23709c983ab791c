"""Lists bad clips for training to leave out, and undoes that.

Nothing is moved, deleted or edited: :mod:`hri30_ext.datasets.leave_out` describes the list.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from ..errors import HRI30Error
from ..utils.text import printable
from .examination import Examination
from .findings import ERROR, FIXABLE, KINDS
from .restore import restore_all
from .tree import TEST_FOLDERS

_MAX_SHARE = .5


class Fixed(NamedTuple):
    """What :func:`leave_out` wrote."""
    path: Path
    clips: dict[str, str]  # all that the list has, and why
    test_clips: list[str]  # are as faulty, but are never left out


def leave_out(found: Examination) -> Fixed:
    """Writes the list of clips that training leaves out.

    It has the clips with an error of a kind in :data:`.findings.FIXABLE`, and those of the
    earlier list that were not written by this function. Of the test clips, only those that
    are annotated but missing are listed.

    Args:
        found (Examination): Of the folder as it is, without regard to an earlier list.

    Raises:
        HRI30Error: more than half of the clips of a split are bad or missing, or the list
            cannot be written.
    """
    faulty = {finding.path: f'{finding.kind}: {finding.detail}'
              for finding in reversed(found.findings)
              if finding.severity == ERROR and finding.kind in FIXABLE}
    if excess := too_many(found):
        raise HRI30Error(
            f'{printable(str(found.root))}: {excess}.\nExpected at most half: this looks '
            'like another fault, such as a decoder or a disk that is not available, or '
            'data that are not copied yet. Nothing was changed.')
    clips = {path: faulty[path] for path in fixable(found)}
    earlier = read_leave_out(found.root)
    clips |= {path: reason for path, reason in earlier.items()
              if reason.split(':')[0] not in KINDS}
    path = found.root / LEAVE_OUT
    if clips:
        write_leave_out(found.root, clips)
    else:
        _delete(path)
    return Fixed(path, dict(sorted(clips.items())), sorted(faulty.keys() - clips.keys()))


def fixable(found: Examination) -> set[str]:
    """Returns the clips that :func:`leave_out` lists."""
    return {finding.path for finding in found.findings
            if finding.severity == ERROR and finding.kind in FIXABLE
            and found.splits.get(finding.path) != 'test'}


def too_many(found: Examination) -> str:
    """Describes a split of which most clips would be left out; empty if there is none.

    A person should look at it before any clip is left out.
    """
    def split_of(path: str) -> str:
        return found.splits.get(path) or (
            'test' if path.split('/')[0] in TEST_FOLDERS else 'train')
    bad = fixable(found)
    clips = Counter(map(split_of, {*found.splits, *bad}))
    for split, count in Counter(map(split_of, bad)).items():
        if count > max(1, _MAX_SHARE * clips[split]):
            return f'{count} of {clips[split]} {split} clips are bad or missing'
    return ''


def undo(root: str | Path) -> str:
    """Deletes the list, and moves back what version 0.4 moved into ``set_aside/``.

    Args:
        root (str | Path): The data folder.

    Returns:
        str: What was done, for the terminal.

    Raises:
        HRI30Error: there is nothing to undo, or a file cannot be moved back; then none is
            moved.
    """
    root = Path(root).expanduser().resolve()
    done = restore_all(root)
    if _delete(root / LEAVE_OUT):
        done.append(f'Deleted {printable(str(root / LEAVE_OUT))}')
    if not done:
        raise HRI30Error(f'{printable(str(root))}: nothing to undo.\nExpected '
                         f'{LEAVE_OUT}, which --fix writes, or a folder set_aside/.')
    return '\n'.join(done)


def _delete(path: Path) -> bool:
    """Deletes a file; returns whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HRI30Error(f'{printable(str(path))}: cannot be deleted ({error.strerror}).'
                         ) from error
    return True
