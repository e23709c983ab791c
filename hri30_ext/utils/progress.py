"""How often long work says how far it is."""

import sys


def refresh_seconds(terminal: float = .5) -> float:
    """Returns the least time between two states of a progress bar.

    A log file keeps every line, a terminal only the last.

    Args:
        terminal (float): Seconds on a terminal.
    """
    return terminal if sys.stderr.isatty() else 10
