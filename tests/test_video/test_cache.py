"""What is served from the cache is what the clip holds now, or nothing."""

import os
import resource
import runpy
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hri30_ext.apis.caching import find_clips
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error
from hri30_ext.names import name_part, split_part
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video import cache as module
from hri30_ext.video.cache import (
    FORMS,
    ClipCache,
    cache_clips,
    describe_folder,
    estimate_size,
    list_entries,
    prune,
)
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
def test_raw_frames_are_those_of_the_clip_and_anything_can_read_them(
        clips, tmp_path, short_side):
    cache = ClipCache(tmp_path / 'cache', short_side)
    assert cache.open(clips[0]) is None
    cache.add(clips[0])
    clip = cache.open(clips[0])
    assert_serves(clip, clips[0], short_side)
    frames = np.memmap(clip.filename, np.uint8, 'r', offset=4096, shape=clip.array.shape)
    np.testing.assert_array_equal(frames, clip.array)
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


# ---- Entries that may not be served -----------------------------------------------------


@pytest.mark.parametrize('spoil', [
    lambda whole, other: whole[:-1], lambda whole, other: b'',
    lambda whole, other: whole + b'\0', lambda whole, other: other,
    lambda whole, other: b'foreign\n' * 1000])
def test_bad_entry_is_made_again(clips, cache, spoil):
    entry, other = (Path(cache.add(name).filename) for name in clips)
    entry.write_bytes(spoil(entry.read_bytes(), other.read_bytes()))
    assert cache.open(clips[0]) is None and cache.open(clips[1]) is not None
    cache.add(clips[0])
    assert_serves(cache.open(clips[0]), clips[0])


def test_no_byte_of_the_header_may_change(clips, cache):
    clip = cache.add(clips[0])
    whole = Path(clip.filename).read_bytes()
    for position in range(4096):
        with open(clip.filename, 'r+b') as file:
            file.seek(position)
            file.write(bytes([whole[position] ^ 1]))
        assert cache.open(clips[0]) is None, position
        with open(clip.filename, 'r+b') as file:
            file.seek(position)
            file.write(whole[position:position + 1])
    assert_serves(cache.open(clips[0]), clips[0])


def test_entry_of_a_source_that_changed_or_is_gone(clips, cache):
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
    assert len(files(cache)) == 1  # the old entry is replaced
    os.remove(clips[0])
    assert cache.open(clips[0]) is None
    with pytest.raises(HRI30Error, match='cannot be decoded'):
        cache.add(clips[0])


def test_source_that_changes_while_it_is_decoded(clips, cache, monkeypatch):
    class Changing(Video):
        def read_all(self):
            frames = super().read_all()
            shutil.copy(clips[1], clips[0])
            return frames
    monkeypatch.setattr(module, 'Video', Changing)
    cache.add(clips[0])
    assert cache.open(clips[0]) is None


def test_other_parameters_and_versions_are_other_entries(clips, tmp_path, monkeypatch):
    folder = tmp_path / 'cache'
    caches = [ClipCache(folder, 32), ClipCache(folder, 48), ClipCache(folder, None),
              ClipCache(folder, 32, 'jpeg')]
    monkeypatch.setattr(module, '_VERSION', 0)
    caches.append(ClipCache(folder, 32))
    for cache in caches:
        assert cache.open(clips[0]) is None
        cache.add(clips[0])
    assert len(os.listdir(folder)) == len(caches)


def test_part_that_an_earlier_version_cached_is_made_again(clips, cache, monkeypatch):
    part = name_part(clips[0], .2, .6)
    monkeypatch.setattr(module, 'split_part', lambda path: (split_part(path)[0], None))
    cache.add(part)
    monkeypatch.undo()
    assert cache.open(part) is None and not next(list_entries(cache.folder)).current
    cache.add(part)
    assert_serves(cache.open(part), part)
    assert prune(cache) == (0, 0)


def test_names_that_are_relative_or_no_text(clips, cache, monkeypatch):
    monkeypatch.chdir(Path(clips[0]).parent)
    for path in (clips[0], os.fsdecode(os.fsencode(os.getcwd()) + b'/\xff line\nend.avi')):
        shutil.copy(clips[1], path)
        cache.add(path)
        assert_serves(cache.open(Path(path).name), path)
    assert [entry.current for entry in list_entries(cache.folder)] == [True, True]


def test_damaged_jpeg_is_an_error_that_says_what_to_do(clips, tmp_path):
    cache = ClipCache(tmp_path / 'cache', 32, 'jpeg')
    clip = cache.add(clips[0])
    content = bytearray(Path(clip.filename).read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    Path(clip.filename).write_bytes(content)
    with pytest.raises(HRI30Error, match=r'frame 3 is damaged\.\nRemove this file'):
        cache.open(clips[0]).read([3])


def test_arguments_are_checked(tmp_path):
    for folder, arguments, message in (
            (tmp_path, dict(form='png'), "form='png', .*: expected .* one of memmap, jpeg"),
            (tmp_path, dict(short_side=0), 'short_side=0'), (None, {}, 'cache_dir=None')):
        with pytest.raises(HRI30Error, match=message):
            ClipCache(folder, **arguments)


# ---- Writing ----------------------------------------------------------------------------


def test_full_disk_leaves_nothing(clips, cache):
    cache.add(clips[1])
    before = files(cache)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # no file may be larger
    try:
        with pytest.raises(HRI30Error, match=r'\.clip: cannot be written: the disk is '
                           r'full(.|\n)*clip_cache=jpeg'):
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


def test_clips_that_are_there_are_only_looked_at(clips_root, cache):
    names, said = find_clips(clips_root), []
    told = estimate_size(cache, names)
    assert cache_clips(cache, names, workers=1, report=said.append) == []
    taken = sum(os.stat(cache.entry(name)).st_size for name in names)
    assert .8 < told / taken < 1.25
    for name in names:
        assert_serves(cache.open(name), name)
    written = {name: os.stat(cache.entry(name)).st_mtime_ns for name in names}
    os.remove(cache.entry(names[4]))
    for _ in range(2):
        cache_clips(cache, names, workers=1, report=said.append)
    assert [line.split(', which')[0] for line in said] == [
        '12 clips: 0 are in the cache, 12 to do', '12 clips: 11 are in the cache, 1 to do',
        '12 clips: 12 are in the cache, 0 to do']
    changed = [name for name in names
               if os.stat(cache.entry(name)).st_mtime_ns != written[name]]
    assert changed == [names[4]]


def test_disk_that_is_too_small_is_refused_before_anything_is_written(
        clips_root, cache, monkeypatch):
    names = find_clips(clips_root)
    usage = shutil.disk_usage(clips_root)._replace(free=50_000)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(HRI30Error, match=r'GB are needed and 0\.000 GB are free'):
        cache_clips(cache, names, workers=1)
    assert files(cache) == []


def test_interrupted_building_goes_on_where_it_was(clips_root, cache, monkeypatch):
    names, original, said = find_clips(clips_root), ClipCache.add, []

    def interrupted(cache, name):
        if len(files(cache)) == 5:
            raise KeyboardInterrupt
        return original(cache, name)
    monkeypatch.setattr(ClipCache, 'add', interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_clips(cache, names, workers=1)
    assert len(files(cache)) == 5
    monkeypatch.setattr(ClipCache, 'add', original)
    cache_clips(cache, names, 2, said.append)
    assert '5 are in the cache, 7 to do' in said[0] and len(files(cache)) == 12


# ---- Old entries ------------------------------------------------------------------------


def test_prune_removes_what_nothing_reads(clips, cache):
    kept, gone = cache.add(clips[0]).filename, cache.add(clips[1]).filename
    other = ClipCache(cache.folder, 48).add(clips[0]).filename
    folder = Path(cache.folder)
    (folder / f'{"0" * 32}.clip').write_bytes(b'damaged')
    (folder / f'.{"1" * 32}-abc.clip').write_bytes(b'left by a killed process')
    old = time.time() - 10_000
    os.utime(folder / f'.{"1" * 32}-abc.clip', (old, old))
    foreign = ['leaks.json', 'mine.clip', f'.{"2" * 32}-being-written.clip']
    for name in foreign:
        (folder / name).touch()
    os.remove(clips[1])
    size = os.stat(gone).st_size + len('damaged' 'left by a killed process')
    assert prune(cache) == (3, size)
    assert files(cache) == sorted([*foreign, Path(kept).name, Path(other).name])
    assert prune(cache, all_parameters=True)[0] == 1
    assert files(cache) == sorted([*foreign, Path(kept).name])
    assert_serves(cache.open(clips[0]), clips[0])


def test_folder_is_described(clips, tmp_path):
    folder = tmp_path / 'cache'
    assert describe_folder(folder) == f'{folder}: no clips'
    ClipCache(folder, 32).add(clips[0])
    ClipCache(folder, None, 'jpeg').add(clips[0])
    ClipCache(folder, None, 'jpeg').add(clips[1])
    (folder / f'{"0" * 32}.clip').touch()
    lines = describe_folder(folder).splitlines()
    assert [line.rsplit(',', 1)[0] for line in lines] == [
        f'{folder}:', '  damaged, or of an earlier version: 1 clips',
        '  jpeg, short side as-is, q90: 2 clips',
        '  memmap, short side 32: 1 clips']


# ---- The tool ---------------------------------------------------------------------------


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the tool here: exit code, output, messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['cache.py', *arguments])
        try:
            runpy.run_path(str(PROJECT_ROOT / 'tools' / 'data' / 'cache.py'),
                           run_name='__main__')
            code = 0
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()
    return run


OPTIONS = ['--cache-dir', 'cache', '--short-side', '32']


def test_tool(clips, tmp_path, tool):
    shutil.copy(clips[0], tmp_path / 'clips' / 'any name.mp4')
    code, output, _ = tool('clips', *OPTIONS)
    assert code == 0
    assert '3 clips: 0 are in the cache, 3 to do, which take about 0.00' in output
    assert 'memmap, short side 32: 3 clips, 0.00' in output
    # Where a config looks for it.
    assert_serves(ClipCache(tmp_path / 'cache', 32).open(clips[0]), clips[0])

    (tmp_path / 'clips' / 'text.avi').write_text('no video')
    os.remove(clips[1])
    code, output, messages = tool('clips', '--prune', *OPTIONS)
    assert code == 1
    assert 'removed 1 files' in output
    assert '3 clips: 2 are in the cache, 1 to do' in output
    assert '1 clips are not in the cache:' in messages
    assert 'text.avi: cannot be decoded' in messages

    code, output, _ = tool('--cache-dir', 'cache')
    assert code == 0 and 'memmap, short side 32: 2 clips, 0.00' in output


@pytest.mark.parametrize(('arguments', 'message'), [
    (['nowhere'], 'nowhere: no such data folder'),
    (['.', '--cache-dir', 'file/cache'], 'file/cache: cannot be written'),
    (['.', '--workers', '0'], '--workers is 0: expected 1 or more'),
    (['.', '--all-parameters'], '--all-parameters goes with --prune')])
def test_mistakes_at_the_tool(clips, tmp_path, tool, arguments, message):
    shutil.copy(clips[0], tmp_path)
    (tmp_path / 'file').touch()
    code, _, messages = tool(*arguments)
    assert code == 2 and message in messages
