"""Jobs for the tests of the queue."""

import os
import time


def tell(name: str) -> tuple:
    """Returns name, CUDA_VISIBLE_DEVICES, start and end in seconds, and process."""
    start = time.monotonic()
    time.sleep(.3)
    if name == 'killed':
        os.kill(os.getpid(), 9)
    if name == 'wrong':
        raise ValueError(name)
    gpu = os.environ.get('CUDA_VISIBLE_DEVICES')
    return name, gpu, start, time.monotonic(), os.getpid()


def hang(folder: str) -> None:
    """Never ends; a folder has the number of its process."""
    os.mkdir(f'{folder}/{os.getpid()}')
    time.sleep(10_000)
