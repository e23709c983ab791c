"""Cropping and resizing.

Shapes: T frames, H height and W width in pixels.
"""

from collections.abc import Sequence

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import HRI30Error
from ..video.preprocessing import cut_views, to_scale
from ..video.resize import resize

_ATTEMPTS = 10


@TRANSFORMS.register_module()
class ResizeClip(BaseTransform):
    """Resizes the frames of a clip, with the same pixels as exported models and streams.

    mmaction2's ``Resize`` interpolates with OpenCV, which skips pixels of larger frames.

    Required Keys: imgs.
    Modified Keys: imgs, (T, H, W, 3) uint8 of one array, three times as many with three
        crops: the whole clip in the middle, then at the start and at the end of the longer
        side; img_shape.

    Args:
        scale (tuple[int, int]): Width and height in pixels, whatever the aspect ratio; or
            -1 and the length of the shorter side, which keeps the aspect ratio.
        crops (int): 3: views of width and height that cover the frame along its longer
            side, with the aspect ratio kept. Defaults to 1: the whole frame.

    Raises:
        HRI30Error: an invalid scale, or another number of crops.
    """

    def __init__(self, scale: Sequence[int], crops: int = 1) -> None:
        if len(scale) != 2 or max(scale) < 1 or min(scale) < 1 and min(scale) != -1:
            raise HRI30Error(f'ResizeClip: scale={scale!r}, expected width and height in '
                             'pixels, such as (224, 224), or -1 and the short side.')
        if crops not in (1, 3) or crops == 3 and -1 in scale:
            raise HRI30Error(f'ResizeClip: crops={crops!r} of scale={scale!r}, expected 1, '
                             'or 3 of a width and height in pixels.')
        self._resize = to_scale(scale, crops)

    def transform(self, results: dict) -> dict:
        """Resizes the frames."""
        results['imgs'] = cut_views(results['imgs'], self._resize, 1)[:, 0]
        results['img_shape'] = results['imgs'].shape[1:3]
        return results


@TRANSFORMS.register_module()
class CropResize(BaseTransform):
    """Crops the same random part of all frames and resizes it, in one step.

    Equivalent to ``Resize`` to a square, ``RandomResizedCrop`` and ``Resize`` of mmaction2
    without the first: pixels outside the crop are never read, and those within are
    interpolated once.

    Required Keys: imgs.
    Added Keys: crop_quadruple (np.ndarray): x, y, width and height of the crop as
        fractions of the frame, (4, ) float32.
    Modified Keys: imgs, (T, H, W, 3) uint8 of one array; img_shape.

    Args:
        scale (tuple[int, int]): Width and height of the result in pixels. The aspect
            ratio of the crop is not kept.
        area_range (tuple[float, float], optional): Fraction of the frame's area that is
            kept, within (0, 1]. None: the whole frame.
        aspect_ratio_range (tuple[float, float], optional): Aspect ratio of the crop divided
            by that of the frame: 1 keeps the frame's. None: (3/4, 4/3), as mmaction2's
            crop of a square.

    Raises:
        HRI30Error: an invalid range or scale.
    """

    def __init__(self, scale: Sequence[int], area_range: Sequence[float] | None = None,
                 aspect_ratio_range: Sequence[float] | None = None) -> None:
        self.area_range = low, high = tuple(area_range or (1, 1))
        self.aspect_ratio_range = narrow, wide = tuple(aspect_ratio_range or (3 / 4, 4 / 3))
        for name, value, is_valid, expected in (
                ('scale', scale, len(scale) == 2 and min(scale) > 0,
                 'width and height in pixels, such as (224, 224)'),
                ('area_range', area_range, 0 < low <= high <= 1,
                 'two fractions of the area, such as (0.6, 1.0)'),
                ('aspect_ratio_range', aspect_ratio_range, 0 < narrow <= wide,
                 'two ratios, such as (0.75, 1.33)')):
            if not is_valid:
                raise HRI30Error(f'CropResize: {name}={value!r}, expected {expected}.')
        self.scale = tuple(scale)

    def transform(self, results: dict) -> dict:
        """Crops and resizes."""
        frames = results['imgs']
        height, width = frames[0].shape[:2]
        part_w, part_h = self._draw_parts()
        crop_w = max(1, round(part_w * width))
        crop_h = max(1, round(part_h * height))
        left = np.random.randint(width - crop_w + 1)
        top = np.random.randint(height - crop_h + 1)
        new_width, new_height = self.scale
        results['imgs'] = np.stack([
            resize(frame[top:top + crop_h, left:left + crop_w], new_width, new_height)
            for frame in frames])
        results['img_shape'] = (new_height, new_width)
        results['crop_quadruple'] = np.array(
            [left / width, top / height, crop_w / width, crop_h / height], np.float32)
        return results

    def _draw_parts(self) -> tuple[float, float]:
        """Draws which fractions of width and height are kept."""
        if self.area_range == (1, 1):
            return 1, 1
        low, high = np.log(self.aspect_ratio_range)
        for _ in range(_ATTEMPTS):
            area = np.random.uniform(*self.area_range)
            ratio = np.exp(np.random.uniform(low, high))
            part_w, part_h = np.sqrt(area * ratio), np.sqrt(area / ratio)
            if max(part_w, part_h) <= 1:
                return part_w, part_h
        return np.sqrt(area), np.sqrt(area)
