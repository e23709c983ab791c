import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import ClipDecode, ClipInit, FrameOrder
from hri30_ext.video.cache import CachedClip, ClipCache
from hri30_ext.video.decode import ClipError, Video


@pytest.fixture
def clip(clips_root, tmp_path):
    """A copy that may be changed."""
    path = tmp_path / 'clip.avi'
    path.write_bytes(next((clips_root / 'train_set').iterdir()).read_bytes())
    return path


def read(filename, indices, **arguments):
    results = ClipInit(**arguments).transform(dict(filename=str(filename)))
    results['frame_inds'] = np.array(indices)
    return results['total_frames'], np.stack(ClipDecode().transform(results)['imgs'])


@pytest.mark.parametrize('cache', [None, 'memmap', 'jpeg'])
def test_frames_are_those_of_the_clip(clip, tmp_path, cache):
    video = Video(clip, 32)
    indices = [20, 3, 3, len(video) - 1]
    for _ in range(2):  # kept, and read again
        total, frames = read(clip, indices, short_side=32, cache=cache,
                             cache_dir=str(tmp_path / 'cache'))
        assert total == len(video) and frames.dtype == np.uint8
        assert frames.shape == (4, 32, 48, 3)
        error = np.abs(frames.astype(int) - video.read(indices))
        assert error.mean() < 4 if cache == 'jpeg' else error.max() == 0
    assert bool(cache) == (tmp_path / 'cache').is_dir()


def test_clip_that_is_too_long_for_the_cache_is_decoded_each_time(clip, tmp_path,
                                                                  monkeypatch):
    def too_long(*_):
        raise ClipError(str(clip), '9,999 frames take more than 1 GiB', 'too_long')
    expected = read(clip, [1, 2])[1]
    monkeypatch.setattr(ClipCache, 'add', too_long)
    frames = read(clip, [1, 2], cache='jpeg', cache_dir=str(tmp_path))[1]
    np.testing.assert_array_equal(frames, expected)


def test_clip_that_is_seen_once_is_not_kept_but_read_from_the_cache(clip, tmp_path):
    arguments = dict(short_side=64, cache='memmap', cache_dir=str(tmp_path / 'cache'))
    expected = read(clip, [1, 2], **arguments, keep=False)[1]
    assert not list(tmp_path.glob('cache/**/*.*'))
    read(clip, [1, 2], **arguments)
    kept = ClipInit(**arguments, keep=False).transform(dict(filename=str(clip)))
    assert isinstance(kept['video_reader'], CachedClip)
    np.testing.assert_array_equal(kept['video_reader'].read([1, 2]), expected)


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
