"""Clips on disk, decoded where a damaged file does no harm.

A decoder crashes or hangs on some damaged files, and would take a training with it. All
clips are decoded in a process beside the one that asks, one for each of its threads, which
is ended where it takes too long and replaced where it dies: see
:mod:`hri30_ext.video.sandbox`.

Shapes: N frames read, H height, W width.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import HRI30Error
from .sandbox import IsolatedProcess, ProcessDied

#: Environment variable: seconds that opening a clip, or reading its frames, may take.
SECONDS = 'HRI30_DECODE_SECONDS'
_DEFAULT_SECONDS = 30

_own = threading.local()


class Video:
    """A clip on disk.

    Args:
        filename (str | Path): Whatever FFmpeg reads.
        short_side (int, optional): Larger frames are scaled down to this height or width,
            whichever is less, in pixels; the aspect ratio is kept. None: as they are.
        threads (int): For decoding; 1 where several processes decode.

    Attributes:
        total_frames (int): As many as the file has packets of video: the number in a
            container's header may be wrong or absent.
        fps (float): Frames a second; 0 where unknown.
        size (tuple[int, int]): Width and height in pixels of the frames that are read.

    Raises:
        HRI30Error: the file is no video, has no frames, is beyond the limits of
            :mod:`hri30_ext.video.decoding`, or crashes or hangs the decoder.
    """

    def __init__(self, filename: str | Path, short_side: int | None = None,
                 threads: int = 1) -> None:
        self.filename = str(filename)
        self._clip = os.path.abspath(self.filename), short_side, threads
        facts, _ = self._ask('open_clip', *self._clip)
        self.total_frames: int = facts['total_frames']
        self.fps: float = facts['fps']
        self.size: tuple[int, int] = tuple(facts['size'])

    def __len__(self) -> int:
        return self.total_frames

    def read(self, indices_N: Sequence[int]) -> np.ndarray:
        """Reads frames, in the order asked for.

        Args:
            indices_N (Sequence[int]): Positions from 0; a position may be repeated.

        Returns:
            np.ndarray: (N, H, W, 3) uint8 RGB.

        Raises:
            HRI30Error: the clip is damaged. Of a clip whose last frames alone are
                missing, the last one that there is stands for them.
        """
        indices_N = list(map(int, indices_N))
        if not indices_N or min(indices_N) < 0 or max(indices_N) >= self.total_frames:
            raise IndexError(f'{self.filename}: frames {indices_N} of {self.total_frames}')
        wanted = sorted(set(indices_N))
        _, (frames_NHWC,) = self._ask('read_frames', *self._clip, wanted)
        width, height = self.size
        if frames_NHWC.shape != (len(wanted), height, width, 3):
            raise self._broken('it changed while it was read')
        if wanted == indices_N:
            return frames_NHWC
        return frames_NHWC[np.searchsorted(wanted, indices_N)]

    def read_all(self) -> np.ndarray:
        """Reads every frame, (T, H, W, 3) uint8 RGB; raises what :meth:`read` does."""
        return self.read(range(self.total_frames))

    def read_gray(self, side: int) -> np.ndarray:
        """Reads every frame that can be decoded, small, for comparing clips.

        Args:
            side (int): Height and width in pixels; the aspect ratio is not kept.

        Returns:
            np.ndarray: (N, side, side) uint8 luma, not de-interlaced.
        """
        return self._ask('read_gray', self._clip[0], side)[1][0]

    def _ask(self, function: str, *arguments) -> tuple:
        try:
            return _process().call(f'hri30_ext.video.decoding:{function}', *arguments,
                                   seconds=time_limit())
        except ProcessDied as error:
            reason = f'the decoder {error}'
            if error.kind == 'hung':
                reason += f'; {SECONDS} sets the limit'
            raise self._broken(reason) from None
        except HRI30Error as error:
            said = f'{self._clip[0]}: '
            if str(error).startswith(said):  # under the name that it was asked for by
                raise HRI30Error(f'{self.filename}: {str(error)[len(said):]}') from None
            # Of a library, which knows no file.
            raise self._broken(f'the decoder failed: {error}') from None

    def _broken(self, reason: str) -> HRI30Error:
        return broken(self.filename, reason)


def broken(filename: str, reason: str) -> HRI30Error:
    """Returns the error of a clip that cannot be decoded."""
    return HRI30Error(f'{filename}: cannot be decoded ({reason}).\n'
                      'Expected a whole video; replace the clip or move it aside.')


def time_limit() -> float:
    """Returns how long opening a clip, or reading its frames, may take, in seconds.

    Raises:
        HRI30Error: the environment has no number of seconds.
    """
    text = os.environ.get(SECONDS) or str(_DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e6:
        raise HRI30Error(f'{SECONDS}={text}: expected a number of seconds, such as '
                         f'{_DEFAULT_SECONDS}.')
    return seconds


def _process() -> IsolatedProcess:
    """Returns the decoding process of this thread."""
    if not hasattr(_own, 'process'):
        _own.process = IsolatedProcess()
    return _own.process
