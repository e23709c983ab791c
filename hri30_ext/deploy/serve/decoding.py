"""Decodes uploads in processes that may hang or crash without harm.

A process for each clip and each stream, so that no upload reaches another's frames.

Shapes: V views of a clip, T frames of a view, H height, W width.
"""

import contextlib
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np

from ...video.decode import explain_failure
from ...video.sandbox import CallFailed, IsolatedProcess, ProcessDied
from .settings import Settings

_MODULE = 'hri30_ext.video.decoding'


class DecodeError(Exception):
    """An upload that cannot be used: a code for programs and a text for people.

    The codes are those of :class:`hri30_ext.video.decode.ClipError`, and ``too_much_data``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _limits(settings: Settings) -> dict:
    """Returns the limits on a clip, by the names of :class:`..video.decoding.Limits`."""
    return dict(max_pixels=settings.max_frame_pixels, max_frames=settings.max_clip_frames,
                max_seconds=settings.max_clip_seconds)


@contextlib.contextmanager
def _process(settings: Settings, one_clip: bool = True) -> Iterator[IsolatedProcess]:
    cpu_seconds = math.ceil(settings.decode_seconds) + 1 if one_clip else None
    process = IsolatedProcess(settings.decoder_memory_bytes, cpu_seconds)
    try:
        yield process
    finally:
        # Also where this task is cancelled: a thread that still waits for the process then
        # sees its end.
        process.close()


async def _call(process: IsolatedProcess, settings: Settings, function: str, *arguments,
                data: bytes = b'') -> tuple:
    """Calls a function of :mod:`hri30_ext.video.decoding` and waits in a thread."""
    seconds = settings.decode_seconds
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(lambda: process.call(
                f'{_MODULE}:{function}', *arguments, seconds=seconds, data=data),
                abandon_on_cancel=True)
    except TimeoutError as error:
        process.close()
        raise _too_slow(settings) from error
    except (ProcessDied, CallFailed) as error:
        reason, code = explain_failure(error)
        if code == 'decoder_too_slow':
            raise _too_slow(settings) from error
        if code == 'decoder_failed':
            reason = 'it may be damaged, or need more memory or time than the service gives'
        raise DecodeError(code, f'This cannot be decoded: {reason}.') from error


def _too_slow(settings: Settings) -> DecodeError:
    return DecodeError('decoder_too_slow',
                       f'Decoding took more than {settings.decode_seconds:g} seconds.')


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
        DecodeError: the clip cannot be used.
    """
    with _process(settings) as process:
        facts, arrays = await _call(process, settings, 'read_views', str(path),
                                    _limits(settings), preprocessing.to_json())
    width, height = preprocessing.size
    shape = (preprocessing.num_views, preprocessing.num_frames, height, width, 3)
    # A file may have taken the process over.
    if [(array.shape, array.dtype) for array in arrays] != [(shape, np.uint8)]:
        raise DecodeError('decoder_failed', 'The decoder failed.')
    return arrays[0], facts


async def preview_clip(path: Path, settings: Settings) -> list[bytes]:
    """Decodes a clip for the page.

    Returns:
        list[bytes]: Each frame: its seconds (float64), the length of its JPEG (uint32),
        both little-endian, and the JPEG.

    Raises:
        DecodeError: the clip cannot be used.
    """
    with _process(settings) as process:
        _, arrays = await _call(process, settings, 'read_preview', str(path),
                                _limits(settings), settings.max_preview_bytes)
    try:
        times, sizes, jpegs = arrays
        parts = np.split(jpegs[:settings.max_preview_bytes], np.cumsum(sizes)[:-1])
        return [struct.pack('<dI', time, len(part)) + part.tobytes()
                for time, part in zip(times, parts, strict=True)]
    except (ValueError, TypeError, struct.error) as error:
        raise DecodeError('decoder_failed', 'The decoder failed.') from error


class FrameDecoder:
    """Decodes the JPEGs of one stream; a process that fails is replaced.

    Args:
        settings (Settings): Limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()

    async def __aenter__(self) -> 'FrameDecoder':
        self._process = self._stack.enter_context(_process(self._settings, one_clip=False))
        try:
            # It must answer now: frames of a camera would be lost meanwhile.
            with contextlib.suppress(DecodeError):
                await self.decode(b'no JPEG')
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(self, *args) -> None:
        self._stack.close()

    async def decode(self, jpeg: bytes) -> np.ndarray:
        """Decodes one JPEG.

        Returns:
            np.ndarray: (H, W, 3) uint8 RGB.

        Raises:
            DecodeError: it is not a JPEG, or cannot be decoded.
        """
        _, (image_HWC,) = await _call(self._process, self._settings, 'read_jpeg',
                                      self._settings.max_stream_pixels, data=jpeg)
        return image_HWC
