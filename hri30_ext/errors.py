"""The exceptions that are for the user: one message, no traceback."""

from collections.abc import Iterable

from .utils.text import printable


class HRI30Error(Exception):
    """A mistake that the user can mend: shown as one message, no traceback.

    Its text names the file, what was found, what was expected and what to do
    next. Launchers print it and exit with ``exit_code``: 2, a mistake of the user's;
    subclasses set 3 where all was done except for clips that failed.
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
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


_CASE = 400  # characters: two long paths


def first_cases(cases: Iterable[object], limit: int = 3) -> str:
    """Names the first cases, each on an indented line, and counts the rest.

    What others may have named is escaped and cut, so that a case stays on its line.
    """
    cases = list(cases)
    texts = (str(case) for case in cases[:limit])
    lines = [f'  {printable(text if len(text) <= _CASE else f"{text[:_CASE]}...")}'
             for text in texts]
    if len(cases) > limit:
        lines.append(f'  ... and {len(cases) - limit} more')
    return '\n'.join(lines)
