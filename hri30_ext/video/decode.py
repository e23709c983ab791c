"""Clips on disk, decoded where a damaged file does no harm.

A decoder crashes or hangs on some damaged files. Each thread therefore decodes in a process
of its own, which is killed where it takes too long and replaced where it dies: see
:mod:`hri30_ext.video.sandbox`. What runs there is :mod:`hri30_ext.video.decoding`.

Shapes: N frames read, V views of a clip, T frames of a view, H height, W width.
"""

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import HRI30Error
from ..names import split_part
from .sandbox import CallFailed, IsolatedProcess, ProcessDied

#: Pixels of a frame: 8K (7680 x 4320) and no more.
MAX_PIXELS = 2**25

#: Environment variable: seconds that opening a clip, or reading its frames, may take.
SECONDS = 'HRI30_DECODE_SECONDS'

_MODULE = 'hri30_ext.video.decoding'

_own = threading.local()


class ClipError(HRI30Error):
    """A clip that cannot be decoded.

    Attributes:
        reason (str): What is wrong with it, in one line.
        code (str): The same for programs: ``not_a_video``, ``not_a_jpeg``, ``damaged``,
            ``outside``, ``too_long``, ``frame_too_large``, ``decoder_too_slow`` or
            ``decoder_failed``.
    """

    def __init__(self, filename: str, reason: str, code: str = 'damaged') -> None:
        super().__init__(f'{filename}: cannot be decoded ({reason}).\n'
                         'Expected a whole video; replace the clip or move it aside.')
        self.reason, self.code = reason, code


class Clip:
    """Frames by position: of a file, of the cache, or decoded in this process.

    ``_read`` of a subclass reads those at different positions, ascending.
    """

    filename: str
    total_frames: int
    size: tuple[int, int]  # width and height in pixels of the frames that are read

    def __len__(self) -> int:
        return self.total_frames

    def read(self, indices_N: Sequence[int]) -> np.ndarray:
        """Reads frames in the given order.

        Args:
            indices_N (Sequence[int]): Positions from 0; a position may be repeated.

        Returns:
            np.ndarray: (N, H, W, 3) uint8 RGB.

        Raises:
            HRI30Error: the clip is damaged. If only the last frames of a video are missing,
                the last one present stands for them.
            IndexError: a position outside the clip, or none.
        """
        indices_N = np.asarray(indices_N, np.int64)
        different, places = np.unique(indices_N, return_inverse=True)
        if not len(different) or different[0] < 0 or different[-1] >= self.total_frames:
            raise IndexError(f'{self.filename}: frames {indices_N.tolist()} of '
                             f'{self.total_frames}')
        frames_NHWC = self._read(different.tolist())
        # Ascending positions, each once, are not copied.
        return frames_NHWC if (indices_N[1:] > indices_N[:-1]).all() else (
            frames_NHWC[places])

    def read_all(self) -> np.ndarray:
        """Reads every frame, (T, H, W, 3) uint8 RGB; raises what :meth:`read` does."""
        return self.read(range(self.total_frames))


class Video(Clip):
    """A clip on disk. Frames are de-interlaced, and turned upright as the file says.

    Args:
        filename (str | Path): A video in any format that FFmpeg reads.
        short_side (int, optional): Larger frames are scaled down to this height or width,
            whichever is less, in pixels; the aspect ratio is kept. None: no scaling.
        threads (int): Threads of the decoder; 1 where several processes decode.

    Attributes:
        total_frames (int): Counted from the packets of video: the number in a container's
            header may be wrong or absent.
        fps (float): Frames a second; 0 where unknown.

    Raises:
        ClipError: the file is not a video, has no frames, exceeds a limit of
            :class:`hri30_ext.video.decoding.Limits`, or crashes or hangs the decoder.
    """

    def __init__(self, filename: str | Path, short_side: int | None = None,
                 threads: int = 1) -> None:
        self.filename = str(filename)
        self._arguments = short_side, threads
        facts, _ = self._call('open_clip')
        self.total_frames, self.fps = facts['total_frames'], facts['fps']
        self.size = tuple(facts['size'])

    def _read(self, positions: list[int]) -> np.ndarray:
        _, (frames_NHWC,) = self._call('read_frames', positions)
        if frames_NHWC.shape != (len(positions), *self.size[::-1], 3):
            raise ClipError(self.filename, 'it changed while it was read')
        return frames_NHWC

    def _call(self, function: str, *arguments) -> tuple:
        return call(None, self.filename, function, os.path.abspath(self.filename),
                    *self._arguments, *arguments)


def read_clip(path: str | Path, preprocessing) -> np.ndarray:
    """Decodes a clip and prepares its frames, as the test pipeline of a config does.

    Args:
        path (str | Path): The clip.
        preprocessing (hri30_ext.video.preprocessing.Preprocessing): Of the model.

    Returns:
        np.ndarray: (V, T, H, W, 3) uint8 RGB.

    Raises:
        HRI30Error: no such file, or, as :class:`ClipError`, it cannot be decoded.
    """
    path = check_file(path)
    return call(None, str(path), 'read_views', os.path.abspath(path), {},
                preprocessing.to_json())[1][0]


def check_file(path: str | Path) -> Path:
    """Returns the path of a file, or of a part, see :func:`hri30_ext.names.name_part`.

    Raises:
        HRI30Error: there is no such file.
    """
    path = Path(path).expanduser()
    if not Path(split_part(str(path))[0]).is_file():
        what = 'is a folder' if path.is_dir() else 'no such file'
        raise HRI30Error(f'{path}: {what}.\nExpected a video.')
    return path


def time_limit() -> float:
    """Returns how long opening a clip, or reading its frames, may take, in seconds.

    Raises:
        HRI30Error: the environment variable is not a number of seconds.
    """
    text = os.environ.get(SECONDS) or '30'
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < 1e6:
            return seconds
    raise HRI30Error(f'{SECONDS}={text}: expected a number of seconds, such as 30.')


def _process() -> IsolatedProcess:
    """Returns the decoding process of this thread."""
    if not hasattr(_own, 'process'):
        _own.process = IsolatedProcess()
    return _own.process


def call(process: IsolatedProcess | None, name: str, function: str, *arguments,
         seconds: float | None = None, data: bytes = b'') -> tuple:
    """Calls a function of :mod:`.decoding`, or ``module:name``, for the clip of this name;
    see :meth:`IsolatedProcess.call`.

    Args:
        process (IsolatedProcess, optional): None: that of this thread.
        seconds (float, optional): Time limit; None: :func:`time_limit`.

    Raises:
        ClipError: it failed.
    """
    hint = '' if seconds else f'; {SECONDS} sets the limit'
    try:
        return (process or _process()).call(
            function if ':' in function else f'{_MODULE}:{function}', *arguments,
            seconds=seconds or time_limit(), data=data)
    except ProcessDied as error:
        if error.kind == 'hung':
            raise ClipError(name, f'the decoder {error}{hint}', 'decoder_too_slow'
                            ) from None
        raise ClipError(name, f'the decoder {error}', 'decoder_failed') from None
    except CallFailed as error:
        if not error.code:  # a library's error
            raise ClipError(name, f'the decoder failed: {error}', 'decoder_failed'
                            ) from None
        raise ClipError(name, error.reason, error.code) from None
