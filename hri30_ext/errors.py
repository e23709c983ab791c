"""The exceptions that are for the user: one message, no traceback."""

from collections.abc import Iterable

from .utils.text import printable


class HRI30Error(Exception):
    """A mistake that the user can mend: shown as one message, no traceback.

    Its text names the file, what was found, what was expected and what to do
    next. Launchers print it and exit with ``exit_code``.

    Attributes:
        exit_code (int): 2, a mistake of the user's; subclasses set others: 3 where all
            was done except for clips that failed, 128 + N where signal N ended the run
            after it was saved.
    """

    exit_code = 2


# What allocators and the kernel say when memory runs out.
_OUT_OF_MEMORY = ("can't allocate memory", 'out of memory', 'Cannot allocate memory',
                  'Insufficient memory', 'insufficient shared memory',
                  'is killed by signal: Killed', 'is killed by signal: Bus error',
                  'CUBLAS_STATUS_ALLOC_FAILED', 'CUDNN_STATUS_ALLOC_FAILED')


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever library raised it."""
    return isinstance(error, MemoryError) or (
        not isinstance(error, HRI30Error)
        and any(sign in str(error) for sign in _OUT_OF_MEMORY))


class Interrupted(BaseException):
    """A signal ended the run after it was saved; text as of :class:`HRI30Error`.

    Like KeyboardInterrupt no Exception: what goes on after errors does not go on after it.

    Attributes:
        exit_code (int): 128 + the signal's number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


_CASE = 400  # characters: two long paths


def _short(text: str) -> str:
    return text if len(text) <= _CASE else f'{text[:_CASE]}...'


def first_cases(cases: Iterable[object], limit: int = 3) -> str:
    """Names the first cases and counts the rest.

    Args:
        cases: What is wrong, one printable object a case.
        limit: How many to name.

    Returns:
        str: One indented line a case, and a line with the number left out. What others
        may have named is escaped: a case stays on its line.
    """
    cases = list(cases)
    lines = [f'  {printable(_short(str(case)))}' for case in cases[:limit]]
    if len(cases) > limit:
        lines.append(f'  ... and {len(cases) - limit} more')
    return '\n'.join(lines)
