"""What is served from the cache is what the clip holds now, or nothing."""

import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import call_hri30

from hri30_ext.apis.caching import find_clips
from hri30_ext.errors import HRI30Error
from hri30_ext.names import name_part
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video import cache as module
from hri30_ext.video.cache import FORMS, ClipCache
from hri30_ext.video.decode import Video


@pytest.fixture
def clips(clips_root, tmp_path):
    """Copies of two clips, to change."""
    (tmp_path / 'clips').mkdir()
    sources = sorted((clips_root / 'train_set').iterdir())
    return [shutil.copy(source, tmp_path / 'clips') for source in (sources[0], sources[-1])]


@pytest.fixture(params=FORMS)
def cache(request, tmp_path):
    return ClipCache(tmp_path / 'cache', short_side=32, form=request.param)


def files(cache):
    """Names of all files of the cache, temporary ones too."""
    return sorted(os.listdir(cache.folder)) if os.path.isdir(cache.folder) else []


def assert_serves(clip, filename, short_side=32):
    """Checks all frames of a cached clip against those of its source."""
    expected = Video(filename, short_side).read_all()
    frames = clip.read(range(len(expected)))
    assert clip.total_frames == len(clip) == len(expected)
    assert clip.size == expected.shape[2:0:-1]
    assert frames.dtype == np.uint8 and frames.shape == expected.shape
    if clip.array is not None:
        np.testing.assert_array_equal(frames, expected)
    else:  # other clips differ by more than 20
        assert np.abs(frames.astype(int) - expected).mean() < 5
    np.testing.assert_array_equal(clip.read([9, 3, 3, 0]), frames[[9, 3, 3, 0]])


# ---- Pixels -----------------------------------------------------------------------------


@pytest.mark.parametrize('short_side', [32, 256, None])
def test_raw_frames_are_those_of_the_clip_and_numpy_reads_them(clips, tmp_path, short_side):
    cache = ClipCache(tmp_path / 'cache', short_side)
    assert cache.open(clips[0]) is None
    cache.add(clips[0])
    clip = cache.open(clips[0])
    assert_serves(clip, clips[0], short_side)
    np.testing.assert_array_equal(np.load(clip.filename), clip.array)
    with pytest.raises(ValueError, match='read-only'):
        clip.array[0] = 0
    assert not np.shares_memory(clip.read([0]), clip.array)


@pytest.mark.parametrize('codec', ['mpeg4', 'dv'])
def test_bound_on_the_error_of_jpeg(tmp_path, codec):
    frames = render_clip('Walking', group=1, clip=1, fields=codec == 'dv')[:8]
    write_video(frames, tmp_path / 'clip.avi', codec)
    clip = ClipCache(tmp_path / 'cache', 256, 'jpeg').add(tmp_path / 'clip.avi')
    assert clip.array is None and clip.size == (384, 256)
    expected = Video(tmp_path / 'clip.avi', 256).read_all()
    error = np.abs(clip.read(range(8)).astype(int) - expected)
    assert error.mean() < 2 and np.percentile(error, 99) <= 12
    assert os.path.getsize(clip.filename) < expected.nbytes / 10


# ---- Files that may not be served -------------------------------------------------------


def test_clip_that_changed_or_is_gone(clips, cache):
    cache.add(clips[0])
    stat = os.stat(clips[0])
    # The same size and another time.
    os.utime(clips[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert cache.open(clips[0]) is None
    cache.add(clips[0])
    # The same time and another size.
    shutil.copy(clips[1], clips[0])
    os.utime(clips[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert os.stat(clips[0]).st_size != stat.st_size
    assert cache.open(clips[0]) is None
    assert_serves(cache.add(clips[0]), clips[0])
    assert len(files(cache)) == 1  # the old file is deleted
    os.remove(clips[0])
    assert cache.open(clips[0]) is None
    with pytest.raises(HRI30Error, match='cannot be decoded'):
        cache.add(clips[0])


def test_clip_that_changes_while_it_is_decoded(clips, cache, monkeypatch):
    class Changing(Video):
        def read_all(self):
            frames = super().read_all()
            shutil.copy(clips[1], clips[0])
            return frames
    monkeypatch.setattr(module, 'Video', Changing)
    cache.add(clips[0])
    assert cache.open(clips[0]) is None


def test_other_parameters_parts_and_versions_are_other_files(clips, tmp_path, monkeypatch):
    folder = tmp_path / 'cache'
    caches = [ClipCache(folder, 32), ClipCache(folder, 48), ClipCache(folder, None),
              ClipCache(folder, 32, 'jpeg')]
    for cache in caches:
        for name in (clips[0], name_part(clips[0], .2, .6)):
            assert cache.open(name) is None
            assert_serves(cache.add(name), name, cache.short_side)
    names = files(cache)
    assert len(names) == 8
    monkeypatch.setattr(module, '_VERSION', 0)
    assert cache.open(clips[0]) is None
    cache.add(clips[0])
    assert len({*names} & {*files(cache)}) == 7 and len(files(cache)) == 8


def test_names_that_are_relative_or_no_text(clips, cache, monkeypatch):
    monkeypatch.chdir(Path(clips[0]).parent)
    for path in (clips[0], os.fsdecode(os.fsencode(os.getcwd()) + b'/\xff line\nend.avi')):
        shutil.copy(clips[1], path)
        cache.add(path)
        assert_serves(cache.open(Path(path).name), path)


def test_arguments_are_checked(tmp_path):
    for folder, arguments in ((tmp_path, dict(form='png')), (tmp_path, dict(short_side=0)),
                              (None, {})):
        with pytest.raises(HRI30Error, match='clip cache'):
            ClipCache(folder, **arguments)


# ---- Writing ----------------------------------------------------------------------------


def test_full_disk_leaves_nothing(clips, cache):
    cache.add(clips[1])
    before = files(cache)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # no file may be larger
    try:
        with pytest.raises(HRI30Error, match=r'the disk is full(.|\n)*clip_cache=jpeg'):
            cache.add(clips[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(cache) == before
    assert cache.open(clips[0]) is None and cache.open(clips[1]) is not None


def test_clip_stays_as_it_is_while_others_write_it(clips, cache):
    first = cache.add(clips[0])
    expected = first.read_all()
    with ThreadPoolExecutor(4) as pool:
        for clip in pool.map(cache.add, [clips[0]] * 12):
            np.testing.assert_array_equal(clip.read_all(), expected)
    shutil.copy(clips[1], clips[0])
    cache.add(clips[0])
    np.testing.assert_array_equal(first.read_all(), expected)
    assert len(files(cache)) == 1


# ---- A data folder ----------------------------------------------------------------------


def test_every_video_is_found_whatever_its_name(clips_root, tmp_path, name_clips):
    assert len(find_clips(clips_root)) == 12  # 3 classes x 3 groups, and 3 to test
    root = name_clips('train/any.mp4', 'train/7/CID01_SID01_VID01.avi', 'train/.hidden.avi',
                      'train/notes.txt', 'test/ü.MOV')
    assert [Path(name).relative_to(root).as_posix() for name in find_clips(root)] == [
        'train/7/CID01_SID01_VID01.avi', 'train/any.mp4', 'test/ü.MOV']
    with pytest.raises(HRI30Error, match='no videos'):
        find_clips(Path(clips_root) / 'annotations')


def test_building_continues_where_it_was_interrupted(clips_root, cache, monkeypatch):
    names, original, lines = find_clips(clips_root), ClipCache.add, []
    estimate = module.estimate_size(cache, names)

    def interrupted(cache, name):
        if len(files(cache)) == 5:
            raise KeyboardInterrupt
        return original(cache, name)
    monkeypatch.setattr(ClipCache, 'add', interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.cache_clips(cache, names, workers=1)
    assert len(files(cache)) == 5
    written = {name: os.stat(cache.folder / name).st_mtime_ns for name in files(cache)}
    monkeypatch.setattr(ClipCache, 'add', original)
    for _ in range(2):
        assert module.cache_clips(cache, names, 2, lines.append) == []
    assert [line.split(', which')[0] for line in lines] == [
        '12 clips: 5 are in the cache, 7 to do', '12 clips: 12 are in the cache, 0 to do']
    for name in names:
        assert_serves(cache.open(name), name)
    assert all(os.stat(cache.folder / name).st_mtime_ns == time
               for name, time in written.items())
    count, nbytes = module.folder_size(cache.folder)
    assert count == 12 and .8 < estimate / nbytes < 1.25


def test_disk_that_is_too_small_is_refused_before_anything_is_written(
        clips_root, cache, monkeypatch):
    usage = shutil.disk_usage(clips_root)._replace(free=50_000)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(HRI30Error, match=r'GB are needed and 0\.000 GB are free'):
        module.cache_clips(cache, find_clips(clips_root), workers=1)
    assert files(cache) == []


# ---- The tool ---------------------------------------------------------------------------


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the tool here: exit code, output, messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return call_hri30('cache', *arguments), *capsys.readouterr()
    return run


OPTIONS = ['--cache-dir', 'cache', '--short-side', '32']


def test_tool(clips, tmp_path, tool):
    shutil.copy(clips[0], tmp_path / 'clips' / 'any name.mp4')
    code, output, _ = tool('clips', *OPTIONS)
    assert code == 0
    assert '3 clips: 0 are in the cache, 3 to do, which take about 0.00' in output
    assert 'cache: 3 clips, 0.00' in output
    # Where a config looks for it.
    assert_serves(ClipCache(tmp_path / 'cache', 32).open(clips[0]), clips[0])

    (tmp_path / 'clips' / 'text.avi').write_text('no video')
    code, output, messages = tool('clips', *OPTIONS)
    assert code == 1
    assert '4 clips: 3 are in the cache, 1 to do' in output
    assert 'text.avi: cannot be decoded' in messages

    code, output, _ = tool('--cache-dir', 'cache')
    assert code == 0 and 'cache: 3 clips, 0.00' in output


@pytest.mark.parametrize(('arguments', 'message'), [
    (['nowhere'], 'nowhere: no such data folder'),
    (['.', '--cache-dir', 'file/cache'], 'file/cache: cannot be written'),
    (['.', '--workers', '0'], 'argument --workers: 0: expected 1 or more')])
def test_mistakes_at_the_tool(clips, tmp_path, tool, arguments, message):
    shutil.copy(clips[0], tmp_path)
    (tmp_path / 'file').touch()
    code, _, messages = tool(*arguments)
    assert code == 2 and message in messages
