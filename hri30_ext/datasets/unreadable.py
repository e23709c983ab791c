"""Clips that cannot be read: whether that is one clip's fault, and what stands in for it.

A clip may be damaged, gone, or odd enough to trip a transform. In training another clip
takes its place; in validation and testing it keeps its row, without a score.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import HRI30Error, first_cases, ran_out_of_memory
from ..utils.fileio import ran_out_of_disk
from ..utils.text import printable
from ..video.sandbox import ProcessDied

#: How many clips in a row may fail before any was read: then it is not the clips.
FIRST = 10
#: And afterwards.
LATER = 100

_LOOKED_AT = 500  # of the other clips, for one of the same class


def is_of_one_clip(error: Exception) -> bool:
    """Whether an error while a clip is read may be the clip's, and not the machine's.

    A mistake in a config cannot be told from a damaged clip by its error; that it happens
    with every clip can.
    """
    if ran_out_of_memory(error) or ran_out_of_disk(error) or any(
            isinstance(one, ProcessDied) and one.kind == 'start'
            for one in (error, error.__context__)):
        return False
    if isinstance(error, HRI30Error):
        return error.exit_code == HRI30Error.exit_code  # no signal, no lost process
    return 'DataLoader worker' not in str(error)


def reason_of(error: Exception, filename: str) -> str:
    """Says in one line, without the file's name, why a clip could not be read."""
    lines = str(error).strip().splitlines() or ['']
    if isinstance(error, HRI30Error):
        reason = lines[0].removeprefix(f'{filename}: ')
    else:
        reason = f'{type(error).__name__}: {lines[0]}'.removesuffix(': ')
    return printable(reason)[:200]  # a damaged file's own words may be in it


def took_too_long(error: Exception) -> bool:
    """Whether a clip hung, so that trying again costs as much time again."""
    return any(isinstance(one, ProcessDied) and one.kind == 'hung'
               for one in (error, error.__context__))


def substitutes(index: int, count: int, label_of: Callable[[int], int],
                generator: np.random.Generator) -> Iterator[int]:
    """Yields other clips in a random order, those of the same class first.

    Args:
        index (int): The clip to replace.
        count (int): How many there are.
        label_of (Callable): Returns the label of a clip.
        generator (np.random.Generator): Decides the order.
    """
    others = generator.permutation(count)
    others = others[others != index].tolist()
    label, seen = label_of(index), set()
    for other in others[:_LOOKED_AT]:
        if label_of(other) == label:
            seen.add(other)
            yield other
    yield from (other for other in others if other not in seen)


def nothing_can_be_read(skipped: list[tuple[str, str, str]]) -> HRI30Error:
    """Returns the error of so many clips in a row that it is not their fault.

    Args:
        skipped (list[tuple[str, str, str]]): Video id, file and reason of each.
    """
    cases = [f'{filename}: {reason}' for _, filename, reason in skipped]
    return HRI30Error(
        f'{len(cases)} training clips in a row could not be read:\n{first_cases(cases)}\n'
        'Expected a few at most. If it is the same with every clip, mend the setting or '
        'the disk that it names; tools/data/check.py finds damaged clips.')
