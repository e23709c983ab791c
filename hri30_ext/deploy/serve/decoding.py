"""Starts decoding processes, waits for them, and ends those that do not answer.

Shapes: V views of a clip, T frames of a view, H height, W width.
"""

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import signal
import struct
import sys
from pathlib import Path

import anyio
import numpy as np

from .settings import Settings

_ROOT = Path(__file__).resolve().parents[3]

#: What decodes.
COMMAND = (sys.executable, '-m', f'{__package__}.decoder')

#: Containers that are opened. Playlists, which name other files and addresses, are not
#: among them, nor lists of images.
_CONTAINERS = 'avi,matroska,mov,mpeg,mpegts,ogg,flv,asf,h264,hevc,m4v,mpegvideo,ivf,gif,dv'

_MAX_HEADER = 2**16  # of a message, bytes


class DecodeError(Exception):
    """What was uploaded cannot be used: a code for programs and a text for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Process:
    """One decoding process; ends with the block that it is used in.

    Args:
        mode (str): See :mod:`.decoder`.
        settings (Settings): Its limits.
        path (Path, optional): The file to decode.
        preprocessing (dict, optional): As JSON, for ``clip``.
    """

    def __init__(self, mode: str, settings: Settings, path: Path | None = None,
                 preprocessing: dict | None = None) -> None:
        limits = dict(dataclasses.asdict(settings), preprocessing=preprocessing)
        self._arguments = [mode, json.dumps(limits), *([str(path)] if path else [])]
        # Little of this process's own: a token may be among its variables.
        self._environment = {
            'PYTHONPATH': str(_ROOT), 'PATH': os.defpath,
            # More threads and arenas reserve address space and gain little.
            'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '2',
            'OPENCV_LOG_LEVEL': 'OFF', 'OPENCV_FFMPEG_LOGLEVEL': '-8',
            'OPENCV_IO_MAX_IMAGE_PIXELS': str(settings.max_frame_pixels),
            'OPENCV_FFMPEG_CAPTURE_OPTIONS':
                f'protocol_whitelist;file|format_whitelist;{_CONTAINERS}|threads;1',
        }
        for name in ('LD_LIBRARY_PATH', 'SYSTEMROOT'):
            if name in os.environ:
                self._environment[name] = os.environ[name]

    async def __aenter__(self) -> 'Process':
        # Not a fork: other threads of this process compute, and may hold locks.
        self._process = await asyncio.create_subprocess_exec(
            *COMMAND, *self._arguments, env=self._environment, cwd='/',
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, limit=2**20)
        return self

    async def __aexit__(self, *args) -> None:
        # Whatever happened, also when this task was cancelled. Not by Process.kill(), which
        # may take the exit status away from asyncio.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            # Empties the pipes: before that, asyncio does not see the end.
            await self._process.communicate()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def send(self, data: bytes) -> None:
        """Writes data after its length.

        Raises:
            DecodeError: the process is gone.
        """
        try:
            self._process.stdin.write(struct.pack('<I', len(data)) + data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _failed() from error

    async def receive(self, max_bytes: int) -> tuple[dict, bytes]:
        """Reads one message.

        Args:
            max_bytes (int): Of its data; the process is not believed to keep to it.

        Returns:
            tuple[dict, bytes]: Header and data.

        Raises:
            DecodeError: what was to be decoded was rejected, or the process failed.
        """
        reader = self._process.stdout
        try:
            length = struct.unpack('<I', await reader.readexactly(4))[0]
            if length > _MAX_HEADER:
                raise _failed()
            header = json.loads(await reader.readexactly(length))
            if 'error' in header:
                raise DecodeError(header['error'], header['message'])
            if header['bytes'] > max_bytes:
                raise DecodeError('too_much_data', 'The clip is too large; cut it.')
            return header, await reader.readexactly(header['bytes'])
        except asyncio.IncompleteReadError as error:
            raise _failed() from error


def _failed() -> DecodeError:
    return DecodeError('decoder_failed', 'Decoding this failed: it may be damaged, or need '
                       'more memory or time than the service gives.')


@contextlib.contextmanager
def _time_limit(seconds: float):
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise DecodeError('decoder_too_slow',
                          f'Decoding took more than {seconds:g} seconds.') from error


async def decode_clip(path: Path, preprocessing, settings: Settings
                      ) -> tuple[np.ndarray, dict]:
    """Decodes what the model takes of a clip.

    Args:
        path (Path): The clip.
        preprocessing (hri30_ext.video.preprocessing.Preprocessing): Of the model.
        settings (Settings): Limits.

    Returns:
        tuple[np.ndarray, dict]: Views (V, T, H, W, 3) uint8 RGB; ``frames``, ``width``,
        ``height``, ``fps`` and ``seconds`` of the clip.

    Raises:
        DecodeError: it cannot be used.
    """
    width, height = preprocessing.size
    shape = (preprocessing.num_views, preprocessing.num_frames, height, width, 3)
    with _time_limit(settings.decode_seconds):
        async with Process('clip', settings, path, preprocessing.to_json()) as process:
            header, data = await process.receive(math.prod(shape))
    return np.frombuffer(data, np.uint8).reshape(shape), header['clip']


async def preview_clip(path: Path, settings: Settings) -> list[bytes]:
    """Decodes a clip for the page.

    Returns:
        list[bytes]: Each frame: its seconds (float64), the length of its JPEG (uint32),
        both little-endian, and the JPEG.

    Raises:
        DecodeError: it cannot be used.
    """
    frames, left = [], settings.max_preview_bytes
    with _time_limit(settings.decode_seconds):
        async with Process('preview', settings, path) as process:
            while True:
                header, jpeg = await process.receive(left)
                if 'clip' in header:
                    return frames
                left -= len(jpeg)
                frames.append(struct.pack('<dI', header['seconds'], len(jpeg)) + jpeg)


class FrameDecoder:
    """Decodes the JPEGs of one stream; a process that fails is replaced.

    Args:
        settings (Settings): Limits.
    """

    def __init__(self, settings: Settings) -> None:
        # The same check as for the frames of a clip, with a limit of its own.
        self._settings = dataclasses.replace(
            settings, max_frame_pixels=settings.max_stream_pixels)
        self._process: Process | None = None

    async def __aenter__(self) -> 'FrameDecoder':
        try:
            with _time_limit(self._settings.decode_seconds):
                await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *args) -> None:
        if self._process is not None:
            await self._process.__aexit__()
            self._process = None

    async def _start(self) -> None:
        self._process = await Process('frames', self._settings).__aenter__()
        # It can be asked now: before, frames of a camera would be lost.
        await self._process.receive(0)

    async def decode(self, jpeg: bytes) -> np.ndarray:
        """Decodes one JPEG.

        Returns:
            np.ndarray: (H, W, 3) uint8 RGB.

        Raises:
            DecodeError: it is none, or cannot be decoded.
        """
        try:
            with _time_limit(self._settings.decode_seconds):
                if self._process is None:
                    await self._start()
                await self._process.send(jpeg)
                header, data = await self._process.receive(
                    3 * self._settings.max_frame_pixels)
        except DecodeError as error:
            if error.code.startswith('decoder_'):
                await self.__aexit__()
            raise
        return np.frombuffer(data, np.uint8).reshape(header['shape'])
