"""Several views of a clip at test time.

Shapes: V views of a clip, T frames of a view.
"""

import numpy as np
from mmaction.datasets.transforms import UniformSample
from mmaction.registry import TRANSFORMS

from ..errors import HRI30Error
from ..video.preprocessing import uniform_indices


@TRANSFORMS.register_module()
class UniformViews(UniformSample):
    """Samples ``num_clips`` different views, each over the whole clip.

    As in mmaction2's ``UniformSample`` in test mode, the clip is divided into ``clip_len``
    segments, and a view takes a frame from each; a single view is that of
    ``UniformSample``. mmaction2's several views are often equal: a segment of HRI30's clips
    (30-60 frames) has 4-7 frames, and ten fractions of it, rounded down, repeat. Here each
    segment rounds at another point, so that up to ten views of a clip of 30 frames or more
    differ: see :func:`~hri30_ext.video.preprocessing.uniform_indices`.

    Required Keys:

        - total_frames
        - start_index

    Added Keys:

        - frame_inds, (V * T, ) int32, view by view
        - clip_len
        - frame_interval
        - num_clips

    Args:
        clip_len (int): T, frames of a view.
        num_clips (int): V, 1 or more. Defaults to 1.
        test_mode (bool): Must be True: in training, ``UniformSample`` is random.

    Raises:
        HRI30Error: an invalid number of views.
    """

    def __init__(self, clip_len: int, num_clips: int = 1, test_mode: bool = True) -> None:
        check_num_views(num_clips)
        if not test_mode:
            raise HRI30Error('UniformViews is for testing; train with UniformSample.')
        super().__init__(clip_len, num_clips, test_mode=True)

    def _get_sample_clips(self, num_frames: int) -> np.ndarray:
        return uniform_indices(num_frames, self.clip_len, self.num_clips)


def check_num_views(num_clips: int) -> None:
    """Validates a number of views.

    Raises:
        HRI30Error: not a whole number, 1 or more.
    """
    if type(num_clips) is not int or num_clips < 1:
        raise HRI30Error(f'test_clips={num_clips!r}: expected the number of views of a '
                         'clip, 1 or more, such as test_clips=3.')
