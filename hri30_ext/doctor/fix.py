"""Lists bad clips for training to leave out, and undoes that.

Nothing is moved, deleted or edited: :mod:`hri30_ext.datasets.leave_out` describes the list.
"""

from collections import Counter
from pathlib import Path

from ..datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from ..errors import HRI30Error
from ..utils.text import printable
from .examination import Examination
from .findings import ERROR, FIXABLE, KINDS, by_severity_and_kind
from .restore import restore_all
from .tree import TEST_FOLDERS

_MAX_SHARE = .5


def leave_out(found: Examination) -> str:
    """Writes the list of clips that training leaves out.

    It has the clips with an error of a kind in :data:`.findings.FIXABLE`, and those of the
    earlier list that were not written by this function. Of the test clips, only those that
    are annotated but missing are listed.

    Args:
        found (Examination): Of the folder as it is.

    Returns:
        str: What was done, for the terminal.

    Raises:
        HRI30Error: more than half of the clips of a split are bad or missing, or the list
            cannot be written.
    """
    if excess := too_many(found):
        raise HRI30Error(
            f'{printable(str(found.root))}: {excess}.\nExpected at most half: this looks '
            'like another fault, such as a decoder or a disk that is not available, or '
            'data that are not copied yet. Nothing was changed.')
    clips = {path: reason for path, reason in read_leave_out(found.root).items()
             if reason.split(':')[0] not in KINDS}
    clips, path = {**fixable(found), **clips}, found.root / LEAVE_OUT
    if clips or path.exists():
        write_leave_out(found.root, clips)
    lines = [f'{printable(str(path))}: training leaves out {len(clips)} clips; --undo '
             'deletes the list.' if clips else 'There is no clip to leave out.',
             *(f'  {printable(clip)}' for clip in sorted(clips))]
    splits = found.splits
    count = len({finding.path for finding in found.all_findings
                 if finding.severity == ERROR and splits.get(finding.path) == 'test'})
    if count:
        lines += [f'{count} bad test clips are not in it: each keeps its row in a '
                  'submission,', 'marked as failed if it cannot be read.']
    return '\n'.join(lines)


def fixable(found: Examination) -> dict[str, str]:
    """Returns the clips that :func:`leave_out` lists, and why."""
    splits = found.splits
    return {finding.path: f'{finding.kind}: {finding.detail}'
            for finding in sorted(found.all_findings, key=by_severity_and_kind,
                                  reverse=True)
            if finding.severity == ERROR and finding.kind in FIXABLE
            and splits.get(finding.path) != 'test'}


def too_many(found: Examination) -> str:
    """Describes a split that would lose most of its clips; empty if there is none.

    A person should look at it before any clip is left out.
    """
    splits, bad = found.splits, fixable(found)

    def split_of(path: str) -> str:
        folder = path.split('/')[0]
        return splits.get(path) or ('test' if folder in TEST_FOLDERS else 'train')
    clips = Counter(map(split_of, {*splits, *bad}))
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
    done, path = restore_all(root), root / LEAVE_OUT
    try:
        if path.exists():
            path.unlink()
            done.append(f'Deleted {printable(str(path))}')
    except OSError as error:
        raise HRI30Error(f'{printable(str(path))}: cannot be deleted ({error.strerror}).'
                         ) from error
    if not done:
        raise HRI30Error(f'{printable(str(root))}: nothing to undo.\nExpected '
                         f'{LEAVE_OUT}, which --fix writes, or a folder set_aside/.')
    return '\n'.join(done)
