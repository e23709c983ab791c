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
from conftest import run_tool

from hri30_ext.apis.caching import find_clips
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error
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


# ---- Pixels -----------------------------------------------------------------------------


@pytest.mark.parametrize('short_side', [32, 256, None])
def test_raw_frames_are_those_of_the_clip(clips, tmp_path, short_side):
    cache = ClipCache(tmp_path / 'cache', short_side)
    assert cache.open(clips[0]) is None
    cache.add(clips[0])
    clip = cache.open(clips[0])
    assert_serves(clip, clips[0], short_side)
    np.testing.assert_array_equal(clip.array, clip.read_all())
    with pytest.raises(ValueError, match='read-only'):
        clip.array[0] = 0
    assert not np.shares_memory(clip.read([0]), clip.array)


def test_raw_entry_can_be_read_by_anything(clips, tmp_path):
    clip = ClipCache(tmp_path / 'cache', 32).add(clips[0])
    frames = np.memmap(clip.filename, np.uint8, 'r', offset=4096, shape=clip.array.shape)
    np.testing.assert_array_equal(frames, Video(clips[0], 32).read_all())


@pytest.mark.parametrize('codec', ['mpeg4', 'dv'])
def test_bound_on_the_error_of_jpeg(tmp_path, codec):
    frames = render_clip('Walking', group=1, clip=1, fields=codec == 'dv')[:8]
    write_video(frames, tmp_path / 'clip.avi', codec)
    clip = ClipCache(tmp_path / 'cache', form='jpeg').add(tmp_path / 'clip.avi')
    assert clip.array is None and clip.size == (384, 256)
    expected = Video(tmp_path / 'clip.avi', 256).read_all()
    error = np.abs(clip.read(range(8)).astype(int) - expected)
    assert error.mean() < 2 and np.percentile(error, 99) <= 12
    assert clip.nbytes < expected.nbytes / 10


def test_jpeg_of_a_lower_quality_is_smaller_and_another_entry(clips, tmp_path):
    sizes = [ClipCache(tmp_path / 'cache', 64, 'jpeg', quality).add(clips[0]).nbytes
             for quality in (95, 50)]
    assert sizes[0] > 1.3 * sizes[1] and len(os.listdir(tmp_path / 'cache')) == 2


def test_interlaced_clip_is_kept_without_its_combs(tmp_path):
    path = tmp_path / 'dv.avi'
    write_video(render_clip('Walking', 1, 1, fields=True)[:3], path, 'dv')
    clip = ClipCache(tmp_path / 'cache', None).get(path)
    np.testing.assert_array_equal(clip.read_all(), Video(path).read_all())


@pytest.mark.parametrize('indices', [[0], [9, 3, 3, 0, 9], np.array([4, 5]), range(2, 7)])
def test_frames_come_in_the_order_asked_for(clips, cache, indices):
    clip = cache.get(clips[0])
    np.testing.assert_array_equal(clip.read(indices), clip.read_all()[list(indices)])


@pytest.mark.parametrize('indices', [[], [-1], [0, 60]])
def test_frames_that_are_not_there(clips, cache, indices):
    with pytest.raises(IndexError, match=r'\.clip: frames .* of \d\d'):
        cache.get(clips[0]).read(indices)


# ---- Entries that may not be served -----------------------------------------------------


def truncate(entry, other):
    entry.write_bytes(entry.read_bytes()[:-1])


def truncate_to_nothing(entry, other):
    entry.write_bytes(b'')


def append(entry, other):
    entry.write_bytes(entry.read_bytes() + b'\0')


def rename_other(entry, other):
    shutil.copy(other, entry)


def write_text(entry, other):
    entry.write_text('foreign\n' * 1000)


@pytest.mark.parametrize('spoil', [truncate, truncate_to_nothing, append, rename_other,
                                   write_text])
def test_bad_entry_is_made_again(clips, cache, spoil):
    entry, other = (Path(cache.add(name).filename) for name in clips)
    spoil(entry, other)
    assert cache.open(clips[0]) is None and cache.open(clips[1]) is not None
    assert_serves(cache.get(clips[0]), clips[0])
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


def test_entry_of_a_source_that_changed_is_made_again(clips, cache):
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
    assert_serves(cache.get(clips[0]), clips[0])
    assert len(files(cache)) == 1  # the old entry is replaced


def test_source_that_is_gone(clips, cache):
    cache.add(clips[0])
    os.remove(clips[0])
    assert cache.open(clips[0]) is None
    with pytest.raises(HRI30Error, match='cannot be decoded'):
        cache.get(clips[0])


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
              ClipCache(folder, 32, 'jpeg'), ClipCache(folder, 32, 'jpeg', 80)]
    monkeypatch.setattr(module, '_VERSION', 3)
    caches.append(ClipCache(folder, 32))
    for cache in caches:
        assert cache.open(clips[0]) is None
        cache.add(clips[0])
    assert len(os.listdir(folder)) == len(caches)


def test_relative_and_absolute_paths_are_one_clip(clips, cache, monkeypatch):
    cache.add(clips[0])
    monkeypatch.chdir(Path(clips[0]).parent)
    assert_serves(cache.open(Path(clips[0]).name), clips[0])


def test_names_that_are_no_text(clips, cache):
    path = os.fsdecode(os.fsencode(Path(clips[0]).parent) + b'/\xff line\nend.avi')
    shutil.copy(clips[0], path)
    cache.add(path)
    assert_serves(cache.open(path), clips[0])
    entry, = list_entries(cache.folder)
    assert entry.source == path and entry.current


def test_damaged_jpeg_is_an_error_that_says_what_to_do(clips, tmp_path):
    cache = ClipCache(tmp_path / 'cache', 32, 'jpeg')
    clip = cache.add(clips[0])
    content = bytearray(Path(clip.filename).read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    Path(clip.filename).write_bytes(content)
    with pytest.raises(HRI30Error, match=r'frame 3 is damaged\.\nRemove this file'):
        cache.open(clips[0]).read([3])


def test_arguments_are_checked(tmp_path):
    for arguments, message in ((dict(form='png'), 'expected one of memmap, jpeg'),
                               (dict(short_side=0), 'short_side=0'),
                               (dict(form='jpeg', quality=101), 'quality=101')):
        with pytest.raises(HRI30Error, match=message):
            ClipCache(tmp_path, **arguments)


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


def test_interrupted_writing_leaves_nothing(clips, cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(module.os, 'replace', interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.add(clips[0])
    assert files(cache) == []


def test_folder_that_cannot_be_made(clips, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(HRI30Error, match='cannot be written'):
        ClipCache(tmp_path / 'file' / 'cache').add(clips[0])


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
    with pytest.raises(HRI30Error, match='no such data folder'):
        find_clips(tmp_path / 'nowhere')
    with pytest.raises(HRI30Error, match='no videos'):
        find_clips(Path(clips_root) / 'annotations')


def test_clips_that_are_there_are_only_looked_at(clips_root, cache):
    names, said = find_clips(clips_root), []
    built = cache_clips(cache, names, workers=1, report=said.append)
    assert (built.kept, built.added, built.broken) == (0, 12, [])
    assert said[0].startswith('12 clips: 0 are in the cache, 12 to do, which take about ')
    for name in names:
        assert_serves(cache.open(name), name)
    written = {name: os.stat(cache.entry(name)).st_mtime_ns for name in names}
    os.remove(cache.entry(names[4]))
    built = cache_clips(cache, names, workers=1, report=said.append)
    assert (built.kept, built.added) == (11, 1)
    built = cache_clips(cache, names, workers=1, report=said.append)
    assert (built.kept, built.added) == (12, 0)
    assert said[-1] == '12 clips: 12 are in the cache, 0 to do'
    changed = [name for name in names
               if os.stat(cache.entry(name)).st_mtime_ns != written[name]]
    assert changed == [names[4]]


def test_estimated_size_is_near_that_of_the_files(clips_root, cache):
    names = find_clips(clips_root)
    told = estimate_size(cache, names)
    cache_clips(cache, names, workers=1)
    taken = sum(os.stat(cache.entry(name)).st_size for name in names)
    assert .8 < told / taken < 1.25
    assert estimate_size(cache, []) == 0


def test_disk_that_is_too_small_is_refused_before_anything_is_written(
        clips_root, cache, monkeypatch):
    names = find_clips(clips_root)
    usage = shutil.disk_usage(clips_root)._replace(free=50_000)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(HRI30Error, match=r'GB are needed and 0\.000 GB are free'):
        cache_clips(cache, names, workers=1)
    assert files(cache) == []


def test_clips_that_cannot_be_decoded_do_not_stop_the_others(clips, cache):
    folder = Path(clips[0]).parent
    (folder / 'text.avi').write_text('no video')
    built = cache_clips(cache, [clips[0], str(folder / 'text.avi'), clips[1]], workers=1)
    assert built.added == 2
    assert len(built.broken) == 1 and 'text.avi: cannot be decoded' in built.broken[0]


def test_interrupted_building_goes_on_where_it_was(clips_root, cache, monkeypatch):
    names, original = find_clips(clips_root), ClipCache.add
    done = []

    def interrupted(cache, name):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(name)
        return original(cache, name)
    monkeypatch.setattr(ClipCache, 'add', interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_clips(cache, names, workers=1)
    assert len(files(cache)) == 5
    monkeypatch.setattr(ClipCache, 'add', original)
    assert cache_clips(cache, names, workers=1).added == 7


@pytest.mark.slow
def test_several_threads_write_what_one_does(clips_root, tmp_path):
    names = find_clips(clips_root)
    folders = []
    for workers in (1, 2):
        cache = ClipCache(tmp_path / f'cache{workers}', 32)
        assert cache_clips(cache, names, workers).added == 12
        folders.append({name: (Path(cache.folder) / name).read_bytes()
                        for name in files(cache)})
    assert folders[0] == folders[1] and len(folders[0]) == 12


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
    (['.', '--short-side', '0'], 'short_side=0'),
    (['.', '--workers', '0'], '--workers is 0: expected 1 or more'),
    (['.', '--all-parameters'], '--all-parameters goes with --prune')])
def test_mistakes_at_the_tool(clips, tmp_path, tool, arguments, message):
    shutil.copy(clips[0], tmp_path)
    (tmp_path / 'file').touch()
    code, _, messages = tool(*arguments)
    assert code == 2 and message in messages


@pytest.mark.slow
def test_tool_in_a_process_of_its_own(clips, tmp_path):
    # The processes find the package of this clone, whatever else is installed.
    done = run_tool('data/cache.py', 'clips', '--form', 'jpeg', '--cache-dir', 'cache',
                    '--workers', 2, cwd=tmp_path, PYTHONPATH=str(PROJECT_ROOT))
    assert done.returncode == 0, done.stderr
    assert 'jpeg, short side 256, q90: 2 clips' in done.stdout
    assert 'Caching: 100%' in done.stderr
