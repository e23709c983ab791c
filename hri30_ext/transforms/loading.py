"""Reading clips."""

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from ..utils.parallel import available_cores
from ..video.cache import ClipCache
from ..video.decode import Clip, ClipError, Video, time_limit
from ..video.resize import shrunk_size


class BlankClip(Clip):
    """A black clip of HRI30's size, instead of one that cannot be read."""

    total_frames = 32

    def __init__(self, short_side: int | None) -> None:
        self.size = shrunk_size(720, 480, short_side)

    def _read(self, positions: list[int]) -> np.ndarray:
        return np.zeros((len(positions), *self.size[::-1], 3), np.uint8)


@TRANSFORMS.register_module()
class ClipInit(BaseTransform):
    """Opens a clip, or its decoded frames in the cache.

    Replaces mmaction2's ``DecordInit``; :class:`ClipDecode` reads from it.

    Required Keys: filename; failed (str, optional): The clip cannot be read; a blank
        one is opened.
    Added Keys: video_reader: a :class:`~hri30_ext.video.decode.Video`,
        :class:`~hri30_ext.video.cache.CachedClip` or :class:`BlankClip`; total_frames
        (int).

    Args:
        short_side (int, optional): Larger frames are scaled down to this height or width in
            pixels, whichever is less, with and without a cache; the aspect ratio is kept.
            None: no scaling.
        cache (str, optional): ``'memmap'``, raw and as quick to read as memory, or
            ``'jpeg'``, about a twentieth of the size. None: no cache.
        cache_dir (str, optional): Folder of the cache.
        keep (bool): Whether a clip that is not in the cache is added. False where clips
            are read once, as in testing. Defaults to True.

    Raises:
        HRI30Error: the clip cannot be decoded, or an invalid argument.
    """

    def __init__(self, short_side: int | None = 256, cache: str | None = None,
                 cache_dir: str | None = None, keep: bool = True) -> None:
        time_limit()  # an invalid one would fail every clip
        self.short_side, self.keep = short_side, keep
        self.cache = cache and ClipCache(cache_dir, short_side, cache)

    def transform(self, results: dict) -> dict:
        """Opens the clip."""
        reader = (BlankClip(self.short_side) if 'failed' in results
                  else self._open(results['filename']))
        results['video_reader'] = reader
        results['total_frames'] = reader.total_frames
        return results

    def _open(self, filename: str) -> Clip:
        if self.cache and (reader := self.cache.open(filename)):
            return reader
        # More take more address space than the decoding process has for large frames.
        threads = 1 if get_worker_info() else min(16, available_cores())
        if self.cache and self.keep:
            try:
                return self.cache.add(filename, threads)
            except ClipError as error:
                if error.code != 'too_long':
                    raise  # of a longer clip, a few frames can be read
        return Video(filename, self.short_side, threads)


@TRANSFORMS.register_module()
class ClipDecode(BaseTransform):
    """Reads the frames that were sampled.

    Replaces mmaction2's ``DecordDecode``.

    Required Keys: video_reader; frame_inds.
    Added Keys: imgs, (T, H, W, 3) uint8 RGB, or T of (H, W, 3); not to be changed in
        place; original_shape, img_shape.

    Raises:
        HRI30Error: the clip is damaged.
    """

    def transform(self, results: dict) -> dict:
        """Reads the frames, and closes the clip."""
        reader = results.pop('video_reader')
        indices_T = results['frame_inds'].ravel() + results.get('offset', 0)
        # Mapped frames are not copied: pixels outside a crop need not be read.
        array_THWC = getattr(reader, 'array', None)
        results['imgs'] = (reader.read(indices_T) if array_THWC is None
                           else [array_THWC[index] for index in indices_T])
        results['original_shape'] = results['img_shape'] = results['imgs'][0].shape[:2]
        return results
