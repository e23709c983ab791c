"""A local queue of jobs: one at a time on each GPU, or one at a time without GPUs."""

import ctypes
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from ..errors import HRI30Error


def run_queue(function: Callable, jobs: Sequence[tuple]) -> Iterator:
    """Calls a function for each job, in a new process with a GPU of its own.

    The function can be pickled; it and its module see only the one GPU. Jobs are its
    arguments; the first names the job in messages. If this process ends, however that
    happens, jobs that run get a SIGTERM.

    Yields:
        What the function returns, in the order of the jobs. If a call raises, jobs that
        have begun are finished, no other begins, and the exception is raised.

    Raises:
        HRI30Error: A process was killed.
    """
    gpus = visible_gpus() or [None]
    free: queue.Queue = queue.Queue()
    for gpu in gpus:
        free.put(gpu)

    def run(job: tuple) -> object:
        gpu = free.get()
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context('spawn'),
                                     _use_gpu, (gpu, len(gpus))) as pool:
                return pool.submit(function, *job).result()
        except BrokenProcessPool as error:
            raise HRI30Error(f'{job[0]}: its process was killed, probably because memory '
                             'ran out.') from error
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as threads:
        yield from threads.map(run, jobs)


def visible_gpus() -> list[str]:
    """Returns the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch
    count = torch.cuda.device_count()
    names = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(count)))
    return [name.strip() for name in names.split(',')][:count]


def _use_gpu(gpu: str | None, processes: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    os.environ['LOCAL_WORLD_SIZE'] = str(processes)  # which share the cores
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = gpu
