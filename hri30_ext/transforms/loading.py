"""Reading clips."""

import hashlib
from pathlib import Path

import decord
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import HRI30Error
from ..utils.fileio import atomic_path

_CACHE_VERSION = 1


@TRANSFORMS.register_module()
class ClipInit(BaseTransform):
    """Decodes a whole clip at a small size, at most once.

    For small inputs and many epochs: decoding costs the same whatever the size
    that is used in the end. mmaction2's ``ArrayDecode`` then picks frames.

    Required Keys:

        - filename

    Added Keys:

        - array (np.ndarray): uint8 RGB frames, (T, H, W, 3), memory-mapped
          where they come from the cache.
        - total_frames (int)

    Args:
        short_side (int): Height or width in pixels, whichever is less, that
            frames are decoded to, 64 or more (decord fails on narrower frames);
            the aspect ratio is kept.
        cache_dir (str, optional): Where decoded clips are kept. An entry is
            keyed by the clip's path, size and time and by ``short_side``, so a
            changed clip is decoded again. None keeps nothing.

    Raises:
        HRI30Error: the clip cannot be decoded.
    """

    def __init__(self, short_side: int, cache_dir: str | None = None) -> None:
        if short_side < 64:
            raise HRI30Error(f'ClipInit: short_side={short_side}, expected 64 or more.')
        self.short_side = short_side
        self.cache_dir = Path(cache_dir) if cache_dir else None

    def transform(self, results: dict) -> dict:
        """Adds the decoded clip."""
        filename = results['filename']
        array = self._read_cached(filename) if self.cache_dir else self.decode(filename)
        results['array'] = array
        results['total_frames'] = len(array)
        return results

    def decode(self, filename: str) -> np.ndarray:
        """Decodes all frames, (T, H, W, 3) uint8 RGB."""
        try:
            height, width = decord.VideoReader(filename, num_threads=1)[0].shape[:2]
            scale = self.short_side / min(height, width)
            reader = decord.VideoReader(filename, num_threads=1,
                                        width=round(width * scale),
                                        height=round(height * scale))
            return reader.get_batch(range(len(reader))).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError, OSError) as error:
            raise HRI30Error(
                f'{filename}: cannot be decoded '
                f'({str(error).strip().splitlines()[-1][:160]}).\n'
                'Expected a whole video; replace the clip or move it aside.') from error

    def _read_cached(self, filename: str) -> np.ndarray:
        stat = Path(filename).stat()
        key = (f'{_CACHE_VERSION}:{Path(filename).resolve()}:{stat.st_size}:'
               f'{stat.st_mtime_ns}:{self.short_side}')
        entry = self.cache_dir / f'{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy'
        try:
            return np.load(entry, mmap_mode='r')
        except (OSError, ValueError):  # absent, or cut short by a full disk
            array = self.decode(filename)
            with atomic_path(entry) as temporary:
                np.save(temporary, array)
            return array

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(short_side={self.short_side}, '
                f'cache_dir={self.cache_dir})')
