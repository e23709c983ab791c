"""Reads clips to their end, several at once, each in an isolated process."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import msgspec
import numpy as np
from tqdm import tqdm

from ..errors import HRI30Error
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from ..video.inspection import HASH_SIDE, Facts
from ..video.sandbox import IsolatedProcess, ProcessDied

#: The function that reads a clip in the isolated process.
DECODE = 'hri30_ext.video.inspection:inspect_clip'
#: Seconds that reading a clip may take.
SECONDS = 30.

_HASH_BYTES = HASH_SIDE**2 // 8


class Inspected(NamedTuple):
    """The result of reading a clip."""
    facts: Facts
    hashes: bytes  # 32 for each frame


def inspect_clips(root: str | Path, paths: Sequence[str], workers: int | None = None,
                  seconds: float = SECONDS, decode: str = DECODE, progress: bool = True
                  ) -> dict[str, Inspected]:
    """Reads clips to their end.

    A clip that ends its process is read once more, with twice the time: a machine that is
    short of memory or time is not the clip's fault.

    Args:
        root (str | Path): The folder that paths are relative to.
        paths (Sequence[str]): The clips.
        workers (int, optional): How many clips to read at once; by default one a core.
        seconds (float): Time limit for each clip.
        decode (str): What reads a clip, as :func:`hri30_ext.video.inspection.inspect_clip`.
        progress (bool): Whether to show a bar.

    Raises:
        HRI30Error: no process can be started.
    """
    workers = max(1, min(workers or available_cores(), len(paths)))
    idle: SimpleQueue[IsolatedProcess] = SimpleQueue()

    def read(path: str) -> Inspected:
        process = idle.get()
        try:
            return _inspect(process, Path(root, path).absolute(), decode, seconds)
        finally:
            idle.put(process)

    with ThreadPoolExecutor(workers) as pool, ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(closing(IsolatedProcess())))
        # Before the processes: closing them releases the threads that wait for them.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        pending = {pool.submit(read, path): path for path in paths}
        bar = tqdm(as_completed(pending), 'reading', len(pending), unit='clip',
                   mininterval=refresh_seconds(), disable=not (progress and pending))
        clips = {pending[done]: done.result() for done in bar}
        return {path: clips[path] for path in paths}


def _inspect(process: IsolatedProcess, path: Path, decode: str, seconds: float
             ) -> Inspected:
    """Reads a clip; a damaged file may have taken over the process that answers."""
    for limit in (seconds, 2 * seconds):
        try:
            value, (hashes,) = process.call(decode, str(path), seconds=limit)
            facts = msgspec.convert(value, Facts)
            if hashes.dtype != np.uint8 or hashes.shape != (facts.frames, _HASH_BYTES):
                raise ValueError('invalid answer of the decoder')
            return Inspected(facts, hashes.tobytes())
        except ProcessDied as error:
            if error.kind == 'start':
                raise HRI30Error(
                    f'No clip can be read: the process to read it in {error}.\nThis is a '
                    'fault of the machine, not of a clip. Free memory or use fewer '
                    'processes (--workers), and try again.') from error
            problem = f'the decoder {error}'
        except (HRI30Error, ValueError) as error:
            problem = str(error)[:200]
            break
    num_bytes = os.path.getsize(path) if path.exists() else 0
    return Inspected(Facts(problem=problem, num_bytes=num_bytes), b'')
