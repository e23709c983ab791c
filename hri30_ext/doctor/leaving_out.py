"""Writes the list of clips that training leaves out, and deletes it.

Nothing else is moved, deleted or edited: :mod:`hri30_ext.datasets.leave_out` describes the
list.
"""


from ..datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from ..errors import HRI30Error
from ..utils.text import printable
from .examination import Examination
from .findings import KINDS


def leave_out(examination: Examination) -> str:
    """Writes the list of clips that training leaves out; returns a text for the terminal.

    It has the clips with an error of a kind in :data:`.findings.FIXABLE`, and those of the
    earlier list that were not written by this function. Of the test clips, only those that
    are annotated but missing are listed.

    Raises:
        HRI30Error: more than half of the clips of a split are bad or missing, or the list
            cannot be written.
    """
    root = examination.tree.root
    if examination.too_many:
        raise HRI30Error(
            f'{root}: {examination.too_many}.\nExpected at most half: this looks like '
            'another fault, such as a decoder or a disk that is not available, or data '
            'that are not copied yet. Nothing was changed.')
    clips = examination.fixable | {
        path: reason for path, reason in read_leave_out(root).items()
        if reason.split(':')[0] not in KINDS}
    if clips or (root / LEAVE_OUT).exists():
        write_leave_out(root, clips)
    lines = [f'{root / LEAVE_OUT}: training leaves out {len(clips)} clips; delete the '
             'file to use them.' if clips else 'There is no clip to leave out.',
             *(f'  {clip}' for clip in sorted(clips))]
    return '\n'.join(map(printable, lines))
