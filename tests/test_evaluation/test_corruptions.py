"""Corruptions of frames: by hand where numbers are simple, elsewhere by properties."""

import numpy as np
import pytest

from hri30_ext.evaluation import corruptions


@pytest.fixture
def frames():
    """A coloured pattern that moves by 3 pixels a frame, (10, 240, 360, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    pattern = noise.repeat(20, axis=0).repeat(20, axis=1)
    return np.stack([np.roll(pattern, 3 * t, axis=1) for t in range(10)])


@pytest.mark.parametrize('name', corruptions.CORRUPTIONS)
def test_is_pure_repeatable_and_stronger_by_strength(name, frames):
    apply, strengths, _ = corruptions.CORRUPTIONS[name]
    before, damage = frames.copy(), []
    for strength in strengths:
        changed = apply(frames, strength, 7)
        assert changed.dtype == np.uint8
        np.testing.assert_array_equal(changed, apply(frames, strength, 7))
        if name != 'frame rate':
            assert changed.shape == frames.shape
            damage.append(np.abs(changed.astype(int) - frames).mean())
    np.testing.assert_array_equal(frames, before)
    assert damage == sorted(set(damage)) and 0 not in damage
    assert apply(frames[:1], strengths[-1], 0).shape == frames[:1].shape
    # The seed, which is the number of the clip, matters where chance does.
    other = apply(frames, strengths[-1], 8)
    assert (other != changed).any() == (name in ('noise', 'frame drops', 'shaken camera'))


def test_noise_has_its_deviation():
    grey = np.full((2, 50, 50, 3), 128, np.uint8)
    assert corruptions.add_noise(grey, 10, 0).std() == pytest.approx(10, rel=.03)
    assert corruptions.add_noise(np.zeros_like(grey), 10, 0).max() < 80  # does not wrap


def test_a_stop_less_of_light():
    # In linear light, (128 / 255)^2.2 / 2 is that of 93.4 / 255; 255 becomes 186.1.
    bright = np.uint8([[[[0, 128, 255]]]])
    assert corruptions.darken(bright, 1, 0).tolist() == [[[[0, 93, 186]]]]


def test_a_lost_frame_is_the_last_one_that_came():
    frames = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(3, axis=3)
    assert corruptions.drop_frames(frames, 1, 0).max() == 0
    lost = np.random.default_rng(5).random(10) < .5
    found, expected = corruptions.drop_frames(frames, .5, 5)[:, 0, 0, 0], [0]
    for t in range(1, 10):
        expected.append(expected[-1] if lost[t] else t)
    assert found.tolist() == expected and 2 < len(set(expected)) < 9


def test_rates():
    frames = np.uint8([0, 10, 20, 30, 40]).reshape(5, 1, 1, 1).repeat(3, axis=3)
    for rate, expected in ((15, range(0, 41, 20)), (60, range(0, 41, 5)),
                           (30, range(0, 41, 10))):
        found = corruptions.change_rate(frames, rate, 0)[:, 0, 0, 0]
        assert found.tolist() == list(expected)


def test_a_shaken_frame_is_shifted_as_a_whole(frames):
    # 8 pixels of 480 lines are 4 of 240.
    x, y = np.rint(np.random.default_rng(3).normal(0, 4, (10, 2)))[6].astype(int)
    assert 0 < max(abs(x), abs(y)) < 20
    shifted = np.roll(frames[6], (y, x), axis=(0, 1))
    inside = np.s_[max(y, 0):240 + min(y, 0), max(x, 0):360 + min(x, 0)]
    shaken = corruptions.shake(frames, 8, 3)[6]
    np.testing.assert_array_equal(shaken[inside], shifted[inside])
