"""Runs work in several processes."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

#: Fewer pieces of work are done sooner without starting processes.
FEW = 16


def process_pool(workers: int, initializer: Callable | None = None) -> ProcessPoolExecutor:
    """Returns a pool of processes that is safe beside the threads of torch.

    A fork copies locks that a thread of this process may hold at that moment, and the child
    then waits forever. These processes are forked from a server instead, which takes
    seconds to import what they need and runs nothing else.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['hri30_ext.synthetic'])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=initializer)


def available_cores() -> int:
    """Returns the number of cores that this process may use, which a job can limit."""
    return len(os.sched_getaffinity(0))
