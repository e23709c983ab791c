"""Reads all clips whole, each in a process of its own, several at once."""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..errors import HRI30Error
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from ..video.inspection import SIDE, Facts
from ..video.sandbox import IsolatedProcess, ProcessDied
from .leaks import hash_frames

#: What reads a clip, called in the process.
DECODE = 'hri30_ext.video.inspection:inspect_clip'
#: What tells a clip from another that takes its place, called there as well.
DIGEST = 'hri30_ext.utils.fileio:sha256_of'
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

    A clip that takes its process with it is read once more when all others are done, in a
    new process and, where it hung, for twice as long: a machine that was short of memory
    or of time is no fault of the clip.

    Args:
        root (Path): The data folder.
        paths (Sequence[str]): Clips, relative to it.
        workers (int, optional): How many are read at once; by default one a core.
        seconds (float): Time limit of each; one that takes longer costs that clip alone,
            see above.
        decode (str): What reads a clip, as :func:`hri30_ext.video.inspection.inspect_clip`.
        progress (bool): Whether to show a bar.

    Returns:
        dict[str, Inspected]: By path.

    Raises:
        HRI30Error: no process can be started.
    """
    readers = _Readers(decode)
    pool = ThreadPoolExecutor(workers or available_cores())

    def read(limits: Mapping[str, float], title: str, again: bool) -> dict[str, Inspected]:
        pending = {pool.submit(readers.read, root / path, limit, again): path
                   for path, limit in limits.items()}
        bar = tqdm(as_completed(pending), title, len(pending), unit='clip',
                   mininterval=refresh_seconds(), disable=not (progress and pending))
        return {pending[done]: done.result() for done in bar}
    try:
        found = read(dict.fromkeys(paths, seconds), 'reading', again=False)
        died = {path: 2 * seconds if clip.died == 'hangs' else seconds
                for path, clip in found.items() if clip.died}
        found |= read(died, 'reading again', again=True)
    finally:
        # Threads that wait for a process are freed by its end.
        pool.shutdown(wait=False, cancel_futures=True)
        readers.close()
        pool.shutdown()
    return found


class _Readers:
    """A process for each thread."""

    def __init__(self, decode: str) -> None:
        self.decode = decode
        self._own = threading.local()
        self._all: list[IsolatedProcess] = []

    def read(self, path: Path, seconds: float, anew: bool) -> Inspected:
        """Reads a clip in the process of this thread, or in a new one.

        Raises:
            HRI30Error: no process can be started.
        """
        if not hasattr(self._own, 'process'):
            self._own.process = IsolatedProcess()
            self._all.append(self._own.process)
        process = self._own.process
        if anew:
            process.close()
        try:
            value, (frames_THW,) = process.call(self.decode, str(path), seconds=seconds)
            facts = _checked(value)
            if frames_THW.shape != (facts.frames, SIDE, SIDE):
                raise ValueError('other frames than it says')
            return Inspected(facts, hash_frames(frames_THW))
        except ProcessDied as error:
            if error.kind == 'start':
                raise _no_process(error) from error
            problem, died = f'the decoder {error}', _DIED[error.kind]
        except (HRI30Error, ValueError) as error:
            problem, died = str(error)[:200], ''
        # One that died is read again: only then what it was counts.
        facts = Facts(problem=problem) if died and not anew else _unread(
            process, path, problem, seconds)
        return Inspected(facts, hash_frames(()), died)

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


def _unread(process: IsolatedProcess, path: Path, problem: str, seconds: float) -> Facts:
    facts = Facts(problem=problem)
    try:
        facts.num_bytes = os.path.getsize(path)
        # Of a disk that hangs not even the bytes can be had.
        facts.sha256 = str(process.call(DIGEST, str(path), seconds=seconds)[0])[:64]
    except ProcessDied as error:
        if error.kind == 'start':
            raise _no_process(error) from error
    except (HRI30Error, OSError):  # gone since it was listed
        pass
    return facts


def _no_process(error: ProcessDied) -> HRI30Error:
    return HRI30Error(f'No clip can be read: the process to read it in {error}.\nThis is a '
                      'fault of the machine, not of a clip. Free memory, or have fewer '
                      'processes (--workers), and call this again.')
