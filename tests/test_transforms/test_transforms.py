import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import ClipInit, FrameOrder


@pytest.fixture
def clip(clips_root, tmp_path):
    """A copy that may be changed."""
    path = tmp_path / 'clip.avi'
    path.write_bytes(next((clips_root / 'train_set').iterdir()).read_bytes())
    return path


def test_whole_clip_is_decoded_at_the_short_side(clip):
    results = ClipInit(short_side=64).transform(dict(filename=str(clip)))
    assert results['array'].shape == (results['total_frames'], 64, 96, 3)
    assert results['array'].dtype == np.uint8 and 30 <= results['total_frames'] <= 60


def test_cache_serves_the_same_frames_and_notices_changes(clip, clips_root, tmp_path):
    cached = ClipInit(short_side=64, cache_dir=str(tmp_path / 'cache'))
    first = cached.transform(dict(filename=str(clip)))['array']
    second = cached.transform(dict(filename=str(clip)))['array']
    assert isinstance(second, np.memmap) and len(list((tmp_path / 'cache').iterdir())) == 1
    np.testing.assert_array_equal(second, ClipInit(64).decode(str(clip)))
    np.testing.assert_array_equal(first, second)
    other = sorted((clips_root / 'train_set').iterdir())[-1]
    clip.write_bytes(other.read_bytes())
    third = cached.transform(dict(filename=str(clip)))['array']
    np.testing.assert_array_equal(third, ClipInit(64).decode(str(other)))


def test_truncated_entry_of_the_cache_is_decoded_again(clip, tmp_path):
    cached = ClipInit(short_side=64, cache_dir=str(tmp_path / 'cache'))
    expected = cached.transform(dict(filename=str(clip)))['array'].copy()
    entry = next((tmp_path / 'cache').iterdir())
    entry.write_bytes(entry.read_bytes()[:-1000])
    np.testing.assert_array_equal(
        cached.transform(dict(filename=str(clip)))['array'], expected)


@pytest.mark.parametrize('content', [b'', b'RIFF' + bytes(200)])
def test_broken_clip_is_named(tmp_path, content):
    path = tmp_path / 'broken.avi'
    path.write_bytes(content)
    with pytest.raises(HRI30Error, match=r'broken\.avi: cannot be decoded'):
        ClipInit(short_side=64).transform(dict(filename=str(path)))


def test_frame_order():
    indices = np.arange(0, 40, 5)
    reverse = FrameOrder('reversed').transform(dict(frame_inds=indices.copy()))
    assert reverse['frame_inds'].tolist() == indices[::-1].tolist()
    still = FrameOrder('still', test_mode=True).transform(dict(frame_inds=indices.copy()))
    assert still['frame_inds'].tolist() == [20] * 8
    np.random.seed(0)
    seen = {int(FrameOrder('still').transform(dict(frame_inds=indices))['frame_inds'][0])
            for _ in range(200)}
    assert seen == set(indices.tolist())
    with pytest.raises(HRI30Error, match='expected reversed or still'):
        FrameOrder('shuffled')
