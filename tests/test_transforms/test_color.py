"""One matrix against the three changes one after the other."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from hri30_ext.datasets.randomness import seeded
from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import ClipColorJitter, ClipRandAugment
from hri30_ext.transforms.color import color_matrix


def test_matrix_of_one_colour_by_hand():
    # Luma of (100, 50, 200) is 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05.
    rgb = np.array([100, 50, 200, 1])
    np.testing.assert_allclose(color_matrix(1, 1, 1, 90) @ rgb, [100, 50, 200])
    np.testing.assert_allclose(color_matrix(1.2, 1, 1, 90) @ rgb, [120, 60, 240])
    # From the mean 90: 90 + 0.5 * (100 - 90) and so on.
    np.testing.assert_allclose(color_matrix(1, 0.5, 1, 90) @ rgb, [95, 70, 145])
    np.testing.assert_allclose(color_matrix(1, 1, 0, 90) @ rgb, [82.05] * 3)


def test_jitter_is_what_pillow_does_in_three_steps(monkeypatch):
    """Within the rounding of its steps, where nothing is cut off."""
    frame = np.random.default_rng(0).integers(60, 180, (4, 4, 3), np.uint8)
    frame = frame.repeat(16, 0).repeat(16, 1)
    factors = iter([1.15, 0.85, 1.1])
    monkeypatch.setattr(np.random, 'uniform', lambda *args: next(factors))
    results = ClipColorJitter(0.2, 0.2, 0.2).transform(dict(imgs=frame[None].copy()))
    expected = Image.fromarray(frame)
    for enhance, factor in ((ImageEnhance.Brightness, 1.15), (ImageEnhance.Contrast, 0.85),
                            (ImageEnhance.Color, 1.1)):
        expected = enhance(expected).enhance(factor)
    assert np.abs(results['imgs'][0].astype(int) - np.asarray(expected)).max() <= 3


def test_frames_of_a_clip_change_alike_and_clips_do_not():
    jitter = ClipColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.random.seed(1)
    results = []
    for _ in range(2):
        clip = jitter.transform(dict(imgs=[frame.copy(), frame.copy()]))['imgs']
        assert clip.dtype == np.uint8 and clip.shape == (2, 16, 16, 3)
        np.testing.assert_array_equal(clip[0], clip[1])
        results.append(clip[0].astype(int))
    assert np.abs(results[0] - frame).max() > 3
    assert np.abs(results[0] - results[1]).max() > 3


@pytest.mark.parametrize('value', [1.5, (1.2, 0.8), -0.1])
def test_impossible_range_is_refused(value):
    with pytest.raises(HRI30Error, match='contrast'):
        ClipColorJitter(contrast=value)


def test_rand_augment_draws_once_for_a_clip():
    step = ClipRandAugment('rand-m7-n4-mstd0.5-inc1')
    frame = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    changed = []
    for seed in (0, 0, 1, 2):
        with seeded(seed):
            imgs = step.transform(dict(imgs=[frame, frame, frame]))['imgs']
        assert imgs.shape == (3, 24, 36, 3) and imgs.dtype == np.uint8
        assert (imgs == imgs[0]).all()
        changed.append(imgs[0])
    np.testing.assert_array_equal(changed[0], changed[1])
    assert len({image.tobytes() for image in changed}) == 3


def test_rand_augment_of_no_policy():
    with pytest.raises(HRI30Error, match="policy='augmix-m7'"):
        ClipRandAugment('augmix-m7')
