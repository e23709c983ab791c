"""How much can run at once."""

import os


def available_cores() -> int:
    """Returns the number of cores that this process may use, which a job can limit."""
    return len(os.sched_getaffinity(0))
