"""Clips that are in two splits are found; clips that are alike are not reported."""

import os
import shutil
from itertools import combinations

import av
import cv2
import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, run_tool

from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.doctor import examine, fingerprints, leaks
from hri30_ext.doctor.fingerprints import FingerprintStore, near_distance
from hri30_ext.doctor.leaks import check_config, check_leaks, find_leaks, load_splits
from hri30_ext.doctor.reading import inspect_clips
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import write_dataset
from hri30_ext.synthetic.video import write_video


@pytest.fixture
def root(clips_root, tmp_path):
    """A copy of the clips, to change; validation is SID 1."""
    shutil.copytree(clips_root / 'train_set', tmp_path / 'data' / 'train_set')
    shutil.copytree(clips_root / 'test_set', tmp_path / 'data' / 'test_set')
    return tmp_path / 'data'


@pytest.fixture
def check(root, options):
    """Returns a function that compares the splits as a training does."""
    def run(**changes):
        cfg = load_config(DEMO_CONFIG, {**options, 'data_root': str(root),
                                        'split.val_groups': [1], 'leak_check': True,
                                        **changes})
        log = []
        check_leaks(load_splits(cfg), cfg, log.append, log.append)
        return log
    return run


def write_copy(source, target, size=(80, 48), trim=3, codec='mjpeg'):
    """Writes a clip again: another size (width, height) and codec, less at the start."""
    with av.open(str(source)) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    write_video(np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                          for frame in frames[trim:]]), target, codec=codec)


def clip(path, split='train', group=-1):
    return dict(filename=str(path), video_id=path.stem, group=group)


def test_clean_splits_pass_with_one_line(check):
    assert [line.split(' (')[0] for line in check()] == ['No clip is in two splits']
    assert check(leak_check=None) == []


@pytest.mark.parametrize('target', ['train_set/CID01_SID02_VID09.avi',
                                    'test_set/any name.avi'])
def test_the_same_file_under_another_name(root, check, target):
    shutil.copy(root / 'train_set' / 'CID01_SID01_VID01.avi', root / target)
    with pytest.raises(HRI30Error, match='1 clips are in two splits') as error:
        check(leak_check='exact')
    assert f'{root / target}' in str(error.value) and 'same content' in str(error.value)
    assert 'CID01_SID01_VID01.avi' in str(error.value)
    check(leak_check='names')


def test_the_same_name_in_two_splits(root, check):
    shutil.copy(root / 'test_set' / 'testvideo001.avi',
                root / 'test_set' / 'CID02_SID03_VID01.AVI')
    (root / 'test_set' / 'testvideo001.avi').unlink()
    with pytest.raises(HRI30Error, match='same name'):
        check(leak_check='names')


@pytest.mark.parametrize('change', [
    dict(size=(80, 48), trim=3, codec='mjpeg'),
    dict(size=(192, 128), trim=6, codec='mpeg4')])
def test_a_changed_copy_is_found(root, check, change):
    write_copy(root / 'train_set' / 'CID02_SID02_VID01.avi',
               root / 'test_set' / 'other.avi', **change)
    with pytest.raises(HRI30Error, match='1 clips are changed copies') as error:
        check()
    assert 'CID02_SID02_VID01.avi' in str(error.value) and 'other.avi' in str(error.value)
    check(leak_check='exact')  # the setting to go on


def test_different_clips_of_a_group_are_no_copies(tmp_path):
    # The nearest that there are: a worker who drills in one place, twice.
    write_dataset(tmp_path, train_groups=1, test_groups=1, clips=2, size=(360, 240),
                  classes=(25, 26), progress=False)
    clips = inspect_clips(tmp_path / 'train_set', os.listdir(tmp_path / 'train_set'))
    distances = [near_distance(a.hashes, b.hashes)
                 for a, b in combinations(clips.values(), 2)]
    assert len(distances) == 6 and min(distances) > fingerprints.NEAR_BITS


@pytest.mark.parametrize('block', [1024, 5])
def test_hand_computed_distance(monkeypatch, block):
    monkeypatch.setattr(fingerprints, '_BLOCK', block)

    def distance(a_TB, b_TB):
        return near_distance(np.packbits(a_TB, axis=1), np.packbits(b_TB, axis=1))
    clip_TB = np.eye(16, 256, dtype=bool)
    changed_TB = clip_TB.copy()
    changed_TB[7, 100:105] = True  # one frame decides
    assert distance(clip_TB, clip_TB[3:]) == distance(clip_TB[3:], clip_TB) == 0
    assert distance(clip_TB, changed_TB) == 5
    # Cut by more than a quarter, it is another clip.
    assert distance(clip_TB, clip_TB[6:]) == 2


def test_a_random_split_is_warned_of_and_no_error(check):
    log = check(**{'split.type': 'random', 'split.val_ratio': 0.34})
    assert log[0].startswith('3 groups of recordings are in train and in val')


def test_copies_within_a_group_are_known_as_such(root, tmp_path):
    source, copy = root / 'train_set' / 'CID01_SID01_VID01.avi', tmp_path / 'copy.avi'
    write_copy(source, copy)
    for group, found in ((1, 0), (2, 1)):
        splits = dict(train=[clip(source, group=1)], val=[clip(copy, group=group)])
        assert len(find_leaks(splits, True, tmp_path / 'leaks.json').copies) == found


def test_a_broken_clip_is_not_compared(root, check):
    for i, folder in enumerate(('train_set/CID01_SID02_VID09.avi', 'test_set/broken.avi')):
        (root / folder).write_bytes(b'RIFF' + bytes(100 + i))
    log = check()
    assert log[0].startswith('2 clips cannot be decoded, and were not compared')
    assert 'CID01_SID02_VID09.avi' in log[0] or 'broken.avi' in log[0]


def test_clips_are_read_once_by_doctor_and_leak_check(root, check, options, monkeypatch):
    file = leaks.cache_file(load_config(DEMO_CONFIG, options))
    found = examine(root, CLASSES, progress=False, store=file)
    monkeypatch.setattr(fingerprints, 'inspect_clips', lambda _, paths, seconds:
                        read.extend(paths) or inspect_clips('', paths))
    read = []
    check()
    assert read == []
    paths = sorted(map(str, (root / 'train_set').iterdir()))
    os.utime(paths[0], ns=(1, 1))  # as of another file
    store = FingerprintStore(file)
    store.read(paths)
    assert read == paths[:1]
    stored = store.get(paths[1])
    clip = found.clips[os.path.relpath(paths[1], root)]
    assert (stored.sha256, stored.hashes) == (clip.facts.sha256, clip.hashes)
    assert len(clip.hashes) == 32 * clip.facts.frames
    os.unlink(paths[0])
    os.utime(paths[1], ns=(1, 1))
    store.read(paths[1:])
    assert len(FingerprintStore(file).clips) == len(found.clips) - 1
    file.write_text('{"version"')  # cut short
    assert FingerprintStore(file).clips == {}
    # What cannot be stored is compared all the same.
    assert FingerprintStore(file / 'x').read(paths[1:2])[0].keys() == {paths[1]}


def test_training_does_not_begin(root, options, tmp_path):
    options = {**options, 'data_root': str(root)}
    leak = root / 'test_set' / 'a.avi'
    shutil.copy(root / 'train_set' / 'CID01_SID01_VID01.avi', leak)
    with pytest.raises(HRI30Error, match='are in two splits'):
        train(DEMO_CONFIG, work_dir=str(tmp_path / 'run'), options=options)
    (root / 'train_set' / 'CID01_SID01_VID09.avi').symlink_to(leak)
    with pytest.raises(HRI30Error, match='trained on or validated with'):
        train(DEMO_CONFIG, work_dir=str(tmp_path / 'run'),
              options={**options, 'leak_check': None})
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_the_tool_prints_a_table(root, options, tmp_path):
    arguments = [DEMO_CONFIG, '--cfg-options', f'data_root={root}',
                 f'classes={",".join(CLASSES)}', f'cache_dir={tmp_path / "cache"}',
                 'split.val_groups=1']
    shutil.copy(root / 'train_set' / 'CID01_SID01_VID01.avi', root / 'test_set' / 'a.avi')
    result = run_tool('leaks', *arguments, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert 'same content       1 pairs' in result.stdout
    assert 'test_set/a.avi' in result.stdout
    (root / 'test_set' / 'a.avi').unlink()
    cfg = load_config(DEMO_CONFIG, {**options, 'data_root': str(root)})
    assert not check_config(cfg).found


def test_exact_compares_contents_without_decoding(tmp_path):
    """What cannot be decoded can still be the same file."""
    for name, content in (('a', b'no video'), ('b', b'no video'), ('c', b'another')):
        (tmp_path / f'{name}.avi').write_bytes(content)
    splits = {split: [dict(video_id=name, group=group,
                           filename=str(tmp_path / f'{name}.avi'))]
              for split, name, group in (
                  ('train', 'a', 1), ('val', 'c', 2), ('test', 'b', -1))}
    found = find_leaks(splits, 'exact', tmp_path / 'leaks.json')
    assert len(found.contents) == 1 and 'a.avi' in found.contents[0]
    assert not found.not_compared and not found.names
    assert len(find_leaks(splits, True, tmp_path / 'leaks.json').not_compared) == 3
