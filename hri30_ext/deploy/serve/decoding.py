"""Decodes uploads in processes that may hang or crash without harm.

A process for each clip and each stream, so that no upload reaches another's frames.
"""

from functools import partial
from pathlib import Path

import anyio
import numpy as np

from ...errors import HRI30Error
from ...video.decode import ClipError, call
from ...video.sandbox import IsolatedProcess
from .settings import Settings


def explain(error: HRI30Error) -> tuple[str, str]:
    """Returns what a client is told: a code for programs and a text for people."""
    code, reason = getattr(error, 'code', 'unusable'), getattr(error, 'reason', '')
    if code == 'decoder_failed':
        reason = 'it may be damaged, or need more memory or time than the service gives'
    return code, f'This cannot be decoded: {reason}.' if reason else str(error)


async def _decode(path: Path, settings: Settings, function: str, *arguments
                  ) -> tuple[dict, list[np.ndarray]]:
    limits = dict(max_pixels=settings.max_frame_pixels,
                  max_frames=settings.max_clip_frames,
                  max_seconds=settings.max_clip_seconds)
    # Where this task is cancelled, the thread sees the end of the process.
    with IsolatedProcess(settings.decoder_memory_bytes) as process:
        return await anyio.to_thread.run_sync(
            partial(call, process, 'clip', function, str(path), limits, *arguments,
                    seconds=settings.decode_seconds), abandon_on_cancel=True)


async def decode_clip(path: Path, preprocessing, settings: Settings
                      ) -> tuple[np.ndarray, dict]:
    """Decodes what a model with this ``Preprocessing`` takes of a clip.

    Returns:
        tuple[np.ndarray, dict]: Views (V, T, H, W, 3) uint8 RGB; ``frames``, ``width``,
        ``height``, ``fps`` and ``seconds`` of the clip.

    Raises:
        ClipError: the clip cannot be used.
    """
    facts, arrays = await _decode(path, settings, 'read_views', preprocessing.to_json())
    width, height = preprocessing.size
    shape = (preprocessing.total_views, preprocessing.num_frames, height, width, 3)
    # A file may have taken the process over.
    if [(array.shape, array.dtype) for array in arrays] != [(shape, np.uint8)]:
        raise ClipError('clip', 'the decoder failed', 'decoder_failed')
    return arrays[0], facts


async def preview_clip(path: Path, settings: Settings) -> bytes:
    """Makes a WebM of a clip; raises what :func:`decode_clip` does."""
    most = settings.max_upload_bytes
    _, arrays = await _decode(path, settings, f'{__package__}.preview:read_preview', most)
    # A file may have taken the process over.
    if len(arrays) != 1 or arrays[0].nbytes > most:
        raise ClipError('clip', 'the decoder failed', 'decoder_failed')
    return arrays[0].tobytes()
