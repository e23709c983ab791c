"""Frames of clips as images that lie in the page itself."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from ..errors import HRI30Error
from ..names import split_part
from ..video.decode import Video
from ..video.jpeg import encode_jpeg
from ..video.preprocessing import segment_indices

#: Frames that are shown of a clip.
SHOWN = 8
_WIDTH = 176  # pixels of a frame on the page


class ShownClip(NamedTuple):
    """A clip as it was tested."""
    #: RGB frames that the model sees, uint8; of several views, those of the first.
    frames_THWC: np.ndarray
    #: Width and height to show them at, in pixels: in the aspect ratio of the clip, unless
    #: the frames are crops.
    size: tuple[int, int]
    #: What the model gets: (T, 3, H, W) for 2D recognizers, (1, 3, T, H, W) for others.
    view: torch.Tensor | None = None


def read_clip(filename: str, cfg: Config | None = None) -> ShownClip:
    """Reads a clip through the ``test_pipeline``; without a config, the middles of equal
    segments.

    Raises:
        HRI30Error: there is no such file, or it cannot be read.
    """
    path = Path(filename)
    # A file, and an absolute path: a name in scores.npz never becomes a URL to FFmpeg.
    if not filename or not Path(split_part(filename)[0]).is_file():
        raise HRI30Error(f'{filename or "the clip"}: no such file.\nExpected the clip '
                         'where it was tested; test again after moving data.')
    path = path.resolve()
    if cfg is None:
        video = Video(path)
        frames_THWC = video.read(segment_indices(len(video), SHOWN))
        return ShownClip(frames_THWC, _size(frames_THWC.shape[1:3]))
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    results = dict(filename=str(path), label=-1, start_index=0, modality='RGB')
    try:
        for step in Compose(cfg.test_pipeline).transforms:
            if type(step).__name__ == 'FormatShape':
                frames, length = results['imgs'], results['clip_len']
                shape = results.get('original_shape')
            results = step(results)
    except Exception as error:  # decoders raise many kinds for a bad file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise HRI30Error(reason[0]) from error
    # Where each frame is a view of its own, all are shown.
    frames_THWC = np.stack(frames[:length] if length > 1 else frames)
    if shape is None or any('Crop' in step['type'] for step in cfg.test_pipeline):
        shape = frames_THWC.shape[1:3]
    inputs = results['inputs']
    return ShownClip(frames_THWC, _size(shape),
                     inputs[:len(frames_THWC) if inputs.dim() == 4 else 1])


def _size(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = shape
    return _WIDTH, max(1, round(_WIDTH * height / width))


def to_data_uris(frames_THWC: np.ndarray, size: Sequence[int]) -> list[str]:
    """Encodes at most ``SHOWN`` of some RGB frames, uint8 and evenly chosen, as data URIs
    of JPEGs of a width and height."""
    chosen = np.unique(np.linspace(0, len(frames_THWC) - 1, SHOWN).round().astype(int))
    images = (encode_jpeg(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), 78)
              for frame in frames_THWC[chosen])
    return ['data:image/jpeg;base64,' + base64.b64encode(image).decode()
            for image in images]
