import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import CropResize, ResizeClip
from hri30_ext.video.preprocessing import Preprocessing, ThreeCrops
from hri30_ext.video.resize import resize


@pytest.fixture
def frames():
    """Two frames of 40 x 30; red grows by 6 a column, green by 8 a row."""
    frame = np.zeros((30, 40, 3), np.uint8)
    frame[..., 0] = 6 * np.arange(40)
    frame[..., 1] = 8 * np.arange(30)[:, None]
    return [frame, 255 - frame]


def test_without_a_range_the_whole_frame_is_resized(frames):
    results = CropResize((20, 10)).transform(dict(imgs=frames))
    assert results['imgs'].shape == (2, 10, 20, 3) and results['img_shape'] == (10, 20)
    for frame, resized in zip(frames, results['imgs'], strict=True):
        np.testing.assert_array_equal(resized, resize(frame, 20, 10))
    assert results['crop_quadruple'].tolist() == [0, 0, 1, 1]


def test_all_frames_are_cropped_alike_and_as_it_says(frames):
    step = CropResize((20, 20), area_range=(0.3, 0.5), aspect_ratio_range=(0.75, 1.33))
    corners = set()
    for _ in range(50):
        results = step.transform(dict(imgs=frames))
        x, y, w, h = results['crop_quadruple']
        left, top = round(x * 40), round(y * 30)
        width, height = round(w * 40), round(h * 30)
        # Rounded to whole pixels of a small frame.
        assert 0.27 <= w * h <= 0.54 and 0.70 <= w / h <= 1.43
        for frame, resized in zip(frames, results['imgs'], strict=True):
            np.testing.assert_array_equal(resized, resize(
                frame[top:top + height, left:left + width], 20, 20))
        corners.add((left, top))
    assert len(corners) > 20


def test_area_and_position_are_spread_evenly():
    step = CropResize((4, 4), area_range=(0.2, 0.6))
    frames = [np.zeros((480, 720, 3), np.uint8)]
    drawn = np.array([step.transform(dict(imgs=frames))['crop_quadruple']
                      for _ in range(400)])
    areas = drawn[:, 2] * drawn[:, 3]
    assert areas.mean() == pytest.approx(0.4, abs=0.02)
    assert (drawn[:, 0] / (1 - drawn[:, 2])).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(('scale', 'size'), [((20, 10), (20, 10)), ((-1, 15), (20, 15))])
def test_clip_is_resized(frames, scale, size):
    results = ResizeClip(scale).transform(dict(imgs=frames))
    assert results['img_shape'] == size[::-1]
    for frame, resized in zip(frames, results['imgs'], strict=True):
        np.testing.assert_array_equal(resized, resize(frame, *size))
    for scale in ((0, 10), (-2, 10), (-1, -1), (5,)):
        with pytest.raises(HRI30Error, match='ResizeClip: scale='):
            ResizeClip(scale)


@pytest.mark.parametrize('arguments', [
    dict(scale=(0, 10)), dict(scale=(10, 10), area_range=(0.5, 1.5)),
    dict(scale=(10, 10), area_range=(0.8, 0.5)),
    dict(scale=(10, 10), aspect_ratio_range=(2, 1))])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(HRI30Error, match='CropResize'):
        CropResize(**arguments)


@pytest.mark.parametrize('size, whole, corners', [
    ((20, 20), (27, 20), [(3, 0), (0, 0), (7, 0)]),  # 40 x 30: wider than a square
    ((24, 12), (24, 18), [(0, 3), (0, 0), (0, 6)])])
def test_three_crops_cover_the_longer_side(frames, size, whole, corners):
    results = ResizeClip(size, crops=3).transform(dict(imgs=frames))
    width, height = size
    assert results['imgs'].shape == (6, height, width, 3)
    assert results['img_shape'] == (height, width)
    resized = [resize(frame, *whole) for frame in frames]
    expected = [frame[y:y + height, x:x + width] for x, y in corners for frame in resized]
    np.testing.assert_array_equal(results['imgs'], expected)
    preprocessing = Preprocessing(2, 1, 'segments', (ThreeCrops(*size), ))
    assert preprocessing.total_views == 3
    np.testing.assert_array_equal(preprocessing.clip(frames).reshape(6, height, width, 3),
                                  expected)
    np.testing.assert_array_equal(preprocessing.frame(frames[0]), expected[0])


@pytest.mark.parametrize('scale, crops', [((20, 20), 2), ((-1, 20), 3)])
def test_crops_that_cannot_be(scale, crops):
    with pytest.raises(HRI30Error, match=f'crops={crops}'):
        ResizeClip(scale, crops=crops)
