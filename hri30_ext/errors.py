"""The exceptions that are for the user: one message, no traceback."""

from collections.abc import Iterable


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


def first_cases(cases: Iterable[object], limit: int = 3) -> str:
    """Names the first cases and counts the rest.

    Args:
        cases: What is wrong, one printable object a case.
        limit: How many to name.

    Returns:
        str: One indented line a case, and a line with the number left out.
    """
    cases = list(cases)
    lines = [f'  {case}' for case in cases[:limit]]
    if len(cases) > limit:
        lines.append(f'  ... and {len(cases) - limit} more')
    return '\n'.join(lines)
