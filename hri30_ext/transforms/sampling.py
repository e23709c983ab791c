"""Which frames a training sees, and in which order."""

import numpy as np
from mmaction.datasets.transforms import UniformSample
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import HRI30Error


@TRANSFORMS.register_module()
class UniformSegments(UniformSample):
    """Samples a random frame from each of T segments, every frame equally often.

    The segments divide the clip without rounding. In mmaction2's ``UniformSample`` they
    share their ends, so that some frames of a clip are drawn twice as often as others.
    With as many frames as the clip has, each is seen once.

    Keys and arguments are those of ``UniformSample``, for training only.
    """

    def _get_sample_clips(self, num_frames: int) -> np.ndarray:
        starts_T = np.arange(self.clip_len) + np.random.random(self.clip_len)
        indices_T = (starts_T * num_frames / self.clip_len).astype(int)
        return np.minimum(indices_T, num_frames - 1)  # a product may round up to the end


@TRANSFORMS.register_module()
class FrameOrder(BaseTransform):
    """Removes the motion from the sampled frames, or reverses it.

    A control: the score of a model on ``still`` clips does not come from motion, and on
    ``reversed`` clips it should predict the opposite direction.

    Required Keys:

        - frame_inds

    Modified Keys:

        - frame_inds

    Args:
        order (str): ``reversed``, or ``still``: one of the frames, repeated.
        test_mode (bool): For ``still``: the middle frame instead of a random
            one. Defaults to False.
    """

    def __init__(self, order: str, test_mode: bool = False) -> None:
        if order not in ('reversed', 'still'):
            raise HRI30Error(f'FrameOrder: order={order!r}, expected reversed or still.')
        self.order = order
        self.test_mode = test_mode

    def transform(self, results: dict) -> dict:
        """Changes the frame indices, (T, ) int."""
        indices_T = results['frame_inds']
        if self.order == 'reversed':
            results['frame_inds'] = indices_T[::-1].copy()
        else:
            length = len(indices_T)
            kept = length // 2 if self.test_mode else np.random.randint(length)
            results['frame_inds'] = np.full_like(indices_T, indices_T[kept])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(order={self.order}, test_mode={self.test_mode})'
