"""How often progress bars are updated."""

import sys


def refresh_seconds(terminal: float = .5) -> float:
    """Returns the minimum time between two updates of a progress bar.

    Args:
        terminal (float): Seconds on a terminal. A log file, which keeps every line, has
            one update in 10 seconds.
    """
    return terminal if sys.stderr.isatty() else 10
