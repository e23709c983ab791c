"""Work in several processes."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

#: Fewer pieces of work are done sooner without starting processes for them.
FEW = 16


def process_pool(workers: int, initializer: Callable | None = None) -> ProcessPoolExecutor:
    """Makes a pool of processes that is safe beside the threads of torch.

    A plain fork copies locks that a thread of this process may hold at that moment, and
    the child then waits for ever: seen where clips were compared after a training step.
    These processes are forked from a server instead that has imported what they need and
    runs nothing else. Starting it takes the seconds of that import.

    Args:
        workers (int): How many.
        initializer (Callable, optional): Called in each at its start.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['hri30_ext.synthetic'])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=initializer)


def available_cores() -> int:
    """Counts the cores that this process may use, which a job limits."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
