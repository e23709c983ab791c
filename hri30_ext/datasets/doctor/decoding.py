"""Reads all clips whole, each in a process of its own, several at once."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ...errors import HRI30Error
from ...inspection import SIDE, Facts
from ...utils.hardware import available_cores
from ...utils.isolated import IsolatedProcess, ProcessDied
from ...utils.progress import refresh_seconds
from ..leaks import hash_frames

#: What reads a clip, called in the process.
DECODE = 'hri30_ext.inspection:inspect_clip'
#: Seconds that reading one may take.
SECONDS = 30.

_DIED = {'crashed': 'crashes', 'hung': 'hangs', 'memory': 'memory'}


class Inspected(NamedTuple):
    """What became of reading a clip."""
    facts: Facts
    hashes_TB: np.ndarray  # of its frames, bool, to compare clips by
    died: str = ''  # kind of finding, where it took the process with it


def inspect_clips(root: Path, paths: Sequence[str], workers: int | None = None,
                  seconds: float = SECONDS, decode: str = DECODE, progress: bool = True
                  ) -> dict[str, Inspected]:
    """Reads clips, with a progress bar.

    Args:
        root (Path): The data folder.
        paths (Sequence[str]): Clips, relative to it.
        workers (int, optional): How many are read at once; by default one a core.
        seconds (float): Time limit of each; one that takes longer costs that clip alone.
        decode (str): What reads a clip, as :func:`hri30_ext.inspection.inspect_clip`.
        progress (bool): Whether to show a bar.

    Returns:
        dict[str, Inspected]: By path.
    """
    readers = _Readers(seconds, decode)
    pool = ThreadPoolExecutor(workers or available_cores())
    found = {}
    try:
        pending = {pool.submit(readers.read, root / path): path for path in paths}
        bar = tqdm(as_completed(pending), 'reading', len(pending), unit='clip',
                   mininterval=refresh_seconds(), disable=not (progress and pending))
        for done in bar:
            found[pending[done]] = done.result()
    finally:
        # Threads that wait for a process are freed by its end.
        pool.shutdown(wait=False, cancel_futures=True)
        readers.close()
        pool.shutdown()
    return found


class _Readers:
    """A process for each thread."""

    def __init__(self, seconds: float, decode: str) -> None:
        self.seconds, self.decode = seconds, decode
        self._own = threading.local()
        self._all: list[IsolatedProcess] = []

    def read(self, path: Path) -> Inspected:
        """Reads a clip in the process of this thread."""
        if not hasattr(self._own, 'process'):
            self._own.process = IsolatedProcess()
            self._all.append(self._own.process)
        try:
            value, (frames_THW,) = self._own.process.call(
                self.decode, str(path), seconds=self.seconds)
            facts = _checked(value)
            if frames_THW.shape != (facts.frames, SIDE, SIDE):
                raise ValueError('other frames than it says')
            return Inspected(facts, hash_frames(frames_THW))
        except ProcessDied as error:
            return Inspected(_unread(path, f'the decoder {error}'), hash_frames(()),
                             _DIED.get(error.kind, 'crashes'))
        except (HRI30Error, ValueError) as error:
            return Inspected(_unread(path, str(error)[:200]), hash_frames(()))

    def close(self) -> None:
        """Ends the processes."""
        for process in self._all:
            process.close()


def _checked(value: object) -> Facts:
    """Takes the answer of a process, which a damaged file may have taken over."""
    expected = asdict(Facts())
    if not isinstance(value, dict) or value.keys() != expected.keys():
        raise ValueError('no answer of the decoder')
    for name, default in expected.items():
        kinds = (int, float) if name == 'fps' else (
            int, type(None)) if default is None else (type(default),)
        if not isinstance(value[name], kinds):
            raise ValueError(f'no answer of the decoder ({name})')
    return Facts(**value)


def _unread(path: Path, problem: str) -> Facts:
    try:
        return Facts(num_bytes=os.path.getsize(path), problem=problem)
    except OSError:  # gone since it was listed
        return Facts(problem=problem)
