"""Clips that cannot be read: whether the clip is the cause, and which clip replaces it.

A clip may be damaged, missing, or unusual enough to break a transform. In training another
clip replaces it; in validation and testing it keeps its row, without a score.
"""

from collections.abc import Callable

import numpy as np

from ..errors import HRI30Error, first_cases, ran_out_of_memory
from ..utils.fileio import ran_out_of_disk
from ..utils.text import printable
from ..video.sandbox import ProcessDied

#: Failures in a row after which the clips are not the cause; of these, by the time limit.
MOST_FAILED, MOST_HUNG = 100, 10


def is_of_one_clip(error: Exception) -> bool:
    """Returns whether the clip may have caused an error, and not the machine.

    A mistake in a config looks the same as a damaged clip, but it fails with every clip.
    """
    if ran_out_of_memory(error) or ran_out_of_disk(error) or decoder_died(error, 'start'):
        return False
    if isinstance(error, HRI30Error):
        return error.exit_code == HRI30Error.exit_code  # no signal, no lost process
    return 'DataLoader worker' not in str(error)


def decoder_died(error: BaseException | None, kind: str) -> bool:
    """Returns whether an error is, or comes from, a :class:`ProcessDied` of this kind."""
    while error is not None:
        if isinstance(error, ProcessDied) and error.kind == kind:
            return True
        error = error.__context__
    return False


def find_reason(error: Exception, filename: str) -> str:
    """Returns in one line, without the file's name, why a clip could not be read."""
    lines = str(error).strip().splitlines() or ['']
    if isinstance(error, HRI30Error):
        reason = lines[0].removeprefix(f'{filename}: ')
    else:
        reason = f'{type(error).__name__}: {lines[0]}'.removesuffix(': ')
    return printable(reason)[:200]  # it may quote a damaged file


def list_substitutes(index: int, count: int, label_of: Callable[[int], int],
                     generator: np.random.Generator) -> list[int]:
    """Lists the other clips of ``count`` in a random order, those of its class first."""
    label = label_of(index)
    others = (other for other in generator.permutation(count).tolist() if other != index)
    return sorted(others, key=lambda other: label_of(other) != label)


def explain_unreadable(skipped: list[tuple[str, str, str]]) -> HRI30Error:
    """Returns the error of many unreadable clips in a row: video id, file and reason."""
    cases = [f'{filename}: {reason}' for _, filename, reason in skipped]
    return HRI30Error(
        f'{len(cases)} training clips in a row could not be read:\n{first_cases(cases)}\n'
        'Correct the setting or the disk that the reason names; hri30 check finds damaged '
        'clips.')
