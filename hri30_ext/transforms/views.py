"""Which frames of a clip: in training, several views in testing, and without motion.

Shapes: V views of a clip, T frames of a view.
"""

import numpy as np
from mmaction.datasets.transforms import UniformSample
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import HRI30Error
from ..video.preprocessing import linspace_indices, segment_indices, uniform_indices


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
class UniformViews(UniformSample):
    """Samples ``num_clips`` different views, each over the whole clip.

    The clip is divided into ``clip_len`` segments, and a view takes a frame from each; a
    single view takes the middles, see
    :func:`~hri30_ext.video.preprocessing.segment_indices`.

    Required Keys: total_frames; start_index.
    Added Keys: frame_inds, (V * T, ) int32, view by view; clip_len; frame_interval;
        num_clips.

    Args:
        clip_len (int): T, frames of a view.
        num_clips (int): V, 1 or more. Defaults to 1.
        test_mode (bool): Must be True.
        sampling (str): How training chooses frames. ``mmaction2``: so does a view, as
            ``UniformSample`` in test mode; ``linspace``: so does a view, and training
            with this class; otherwise from equal segments.
    """

    def __init__(self, clip_len: int, num_clips: int = 1, test_mode: bool = True,
                 sampling: str = 'segments') -> None:
        if not test_mode:
            raise HRI30Error('UniformViews is for testing; train with UniformSegments.')
        self.choose = dict(mmaction2=uniform_indices, linspace=linspace_indices).get(
            sampling, segment_indices)
        super().__init__(clip_len, num_clips, test_mode=True)

    def _get_sample_clips(self, num_frames: int) -> np.ndarray:
        return self.choose(num_frames, self.clip_len, self.num_clips)


@TRANSFORMS.register_module()
class FrameOrder(BaseTransform):
    """Removes the motion from the sampled frames, or reverses it.

    A control: the score of a model on ``still`` clips does not come from motion, and on
    ``reversed`` clips it should predict the opposite direction.

    Required Keys: frame_inds.
    Modified Keys: frame_inds.

    Args:
        order (str): ``reversed``, or ``still``: one of the frames, repeated.
        test_mode (bool): For ``still``: the middle frame instead of a random one.
    """

    def __init__(self, order: str, test_mode: bool = False) -> None:
        if order not in ('reversed', 'still'):
            raise HRI30Error(f'FrameOrder: order={order!r}, expected reversed or still.')
        self.order, self.test_mode = order, test_mode

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
