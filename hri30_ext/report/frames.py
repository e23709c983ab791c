"""Frames of clips as images that lie in the page itself."""

import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..errors import HRI30Error
from ..video.decode import Video

#: Frames that are shown of a clip.
SHOWN = 8
_WIDTH = 176  # pixels of a frame on the page


def choose_frames(filename: str, total: int, cfg: Config | None) -> np.ndarray:
    """Chooses the frames to show: those that testing samples.

    Args:
        filename (str): The clip.
        total (int): Its number of frames.
        cfg (Config, optional): Its ``test_pipeline`` defines how clips are sampled;
            without it, or if its sampler needs more than a file, the middles of equal
            segments are shown, as by the default pipeline.

    Returns:
        np.ndarray: Indices in [0, total), int64, (``SHOWN``, ) or fewer, evenly from
        the sampled ones; of several views, from the first.
    """
    indices = ((np.arange(SHOWN) + .5) * total / SHOWN).astype(np.int64)
    step = next((step for step in (cfg or {}).get('test_pipeline', [])
                 if 'clip_len' in step), None)
    if step:
        init_default_scope(cfg.get('default_scope', 'mmaction'))
        with contextlib.suppress(Exception):  # whatever it needs: frames are no metric
            indices = np.ravel(TRANSFORMS.build(dict(step))(dict(
                filename=filename, label=-1, start_index=0, modality='RGB',
                total_frames=total, avg_fps=30))['frame_inds'])
            # Of several views the first; frames of a model of 2D frames are views of one.
            indices = indices[:step['clip_len']] if step['clip_len'] > 1 else indices
    return np.clip(_thin(indices), 0, total - 1)


def _thin(values: np.ndarray) -> np.ndarray:
    """Returns at most ``SHOWN`` of the values along the first axis, evenly."""
    return values[np.unique(np.linspace(0, len(values) - 1, SHOWN).round().astype(int))]


def read_frames(filename: str, cfg: Config | None = None) -> np.ndarray:
    """Reads the frames to show of a clip, in its own aspect ratio.

    Returns:
        np.ndarray: RGB, (T, H, W, 3) uint8, T at most ``SHOWN``.

    Raises:
        HRI30Error: there is no such file, or it cannot be decoded.
    """
    path = Path(filename)
    # A file, and an absolute path: what is in scores.npz never becomes a URL to FFmpeg.
    if not filename or not path.is_file():
        raise HRI30Error(f'{filename or "the clip"}: no such file.\nExpected the clip '
                         'where it was tested; test again after moving data.')
    video = Video(path.resolve())
    frames = video.read(choose_frames(str(path), len(video), cfg))
    height, width = frames[0].shape[:2]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                     for frame in frames])


def to_data_uris(frames_THWC: np.ndarray, shape: Sequence[int] | None = None) -> list[str]:
    """Encodes RGB frames as small JPEGs.

    Args:
        frames_THWC (np.ndarray): uint8, (T, H, W, 3).
        shape (Sequence[int], optional): Height and width to show them at.

    Returns:
        list[str]: T data URIs, of ``SHOWN`` frames at most.
    """
    uris = []
    for frame in _thin(frames_THWC):
        if shape is not None and tuple(frame.shape[:2]) != tuple(shape):
            frame = cv2.resize(frame, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
        done, data = cv2.imencode('.jpg', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR),
                                  [cv2.IMWRITE_JPEG_QUALITY, 78])
        if done:
            uris.append('data:image/jpeg;base64,' + base64.b64encode(data).decode('ascii'))
    return uris
