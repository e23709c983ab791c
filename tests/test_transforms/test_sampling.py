"""Which frames a training sees."""

import numpy as np
import pytest
from conftest import DEMO_CONFIG
from mmaction.registry import TRANSFORMS

from hri30_ext.config import load_config
from hri30_ext.video.preprocessing import Preprocessing


def draw(options, num_frames, clip_len, draws):
    """Returns how often each frame is drawn, and all draws."""
    cfg = load_config(DEMO_CONFIG, {**options, 'num_frames': clip_len})
    step = TRANSFORMS.build(cfg.train_pipeline[1])
    np.random.seed(7)
    drawn = np.stack([step.transform(dict(total_frames=num_frames, start_index=0))
                      ['frame_inds'] for _ in range(draws)])
    return np.bincount(drawn.ravel(), minlength=num_frames), drawn


def test_every_frame_is_drawn_equally_often(options):
    counts, drawn = draw(options, 30, 8, draws=6000)  # 1600 of each, deviation 40 or less
    assert len(counts) == 30 and counts.min() > 1400 and counts.max() < 1800
    assert (np.diff(drawn, axis=1) >= 0).all()
    counts, _ = draw({**options, 'sampling': 'mmaction2'}, 30, 8, draws=6000)
    assert counts.max() > 1.7 * counts.min()


@pytest.mark.parametrize(('length', 'repeats'), [(1, 1), (8, 1), (13, 1), (4, 2)])
def test_each_frame_equally_often_in_a_clip_of_that_length_or_less(options, length,
                                                                   repeats):
    _, drawn = draw(options, length, length * repeats, draws=20)
    assert (drawn == np.repeat(np.arange(length), repeats)).all()


@pytest.mark.parametrize(('sampling', 'length', 'expected'), [
    # Middles of segments of 3.75 frames.
    ('segments', 30, [1, 5, 9, 13, 16, 20, 24, 28]), ('segments', 8, [*range(8)]),
    ('segments', 4, [0, 0, 1, 1, 2, 2, 3, 3]), ('segments', 1, [0] * 8),
    ('mmaction2', 30, [1, 5, 8, 12, 15, 19, 23, 26]),
    ('mmaction2', 8, [0, 1, 2, 3, 4, 4, 5, 6])])
def test_frames_of_a_test(options, sampling, length, expected):
    """In mmaction2's pipeline, without MMAction2, and from a stream by time."""
    cfg = load_config(DEMO_CONFIG, {**options, 'num_frames': 8, 'sampling': sampling})
    step = TRANSFORMS.build(cfg.test_pipeline[1])
    found = step.transform(dict(total_frames=length, start_index=0))['frame_inds']
    preprocessing = Preprocessing.from_config(cfg)
    assert found.tolist() == preprocessing.indices(length).tolist() == expected
    if sampling == 'segments':
        times = preprocessing.sample_times(length / 30)
        assert (times * 30).astype(int).tolist() == expected
