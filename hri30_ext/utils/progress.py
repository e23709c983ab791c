"""How progress is shown."""

import sys


def refresh_seconds() -> float:
    """Returns the minimum time between two updates of a progress bar: half a second on a
    terminal, 10 seconds in a log file, which keeps every line.
    """
    return .5 if sys.stderr.isatty() else 10


def time_left(seconds: float) -> str:
    """Formats how long something will take.

    >>> time_left(20), time_left(5400), time_left(12600)
    ('about 1 min left', 'about 90 min left', 'about 3.5 h left')
    """
    return f'about {max(1, round(seconds / 60))} min left' if seconds < 7200 else (
        f'about {seconds / 3600:.1f} h left')
