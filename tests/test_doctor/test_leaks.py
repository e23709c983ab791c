"""Clips that are in two splits are found, by name and by content."""

import shutil

import pytest
from conftest import DEMO_CONFIG, as_arguments, call_hri30

from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.doctor.leaks import check_leaks, load_splits
from hri30_ext.errors import HRI30Error


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
                                        'split.val_groups': [1], **changes})
        log = []
        check_leaks(load_splits(cfg), cfg, log.append, log.append)
        return log
    return run


def test_clean_splits_pass_with_one_line(check):
    assert len(check()) == 1 and check(leak_check=None) == []


@pytest.mark.parametrize('target', ['train_set/CID01_SID02_VID09.avi',
                                    'test_set/any name.avi'])
@pytest.mark.parametrize('content', [None, b'no video'])
def test_the_same_file_under_another_name(root, check, target, content):
    source = root / 'train_set' / 'CID01_SID01_VID01.avi'
    if content:  # what cannot be decoded can still be the same file
        source.write_bytes(content)
    shutil.copy(source, root / target)
    with pytest.raises(HRI30Error, match='same content') as error:
        check()
    assert str(source) in str(error.value) and str(root / target) in str(error.value)


def test_the_same_name_in_two_splits(root, check):
    (root / 'test_set' / 'testvideo001.avi').rename(
        root / 'test_set' / 'CID02_SID03_VID01.AVI')
    with pytest.raises(HRI30Error, match='same name'):
        check()


def test_a_random_split_is_warned_of_and_no_error(check):
    log = check(**{'split.type': 'random', 'split.val_ratio': 0.34})
    assert log[0].startswith('3 groups') and len(log) == 2


def test_training_does_not_begin(root, options, tmp_path, capsys):
    options = {**options, 'data_root': str(root)}
    assert call_hri30('leaks', DEMO_CONFIG, *as_arguments(options)) == 0
    leak = root / 'test_set' / 'a.avi'
    shutil.copy(root / 'train_set' / 'CID01_SID01_VID01.avi', leak)
    assert call_hri30('leaks', DEMO_CONFIG, *as_arguments(options)) == 1
    assert str(leak) in capsys.readouterr().out
    with pytest.raises(HRI30Error, match='same content'):
        train(DEMO_CONFIG, work_dir=str(tmp_path / 'run'), options=options)
    (root / 'train_set' / 'CID01_SID01_VID09.avi').symlink_to(leak)
    with pytest.raises(HRI30Error, match='CID01_SID01_VID09'):
        train(DEMO_CONFIG, work_dir=str(tmp_path / 'run'),
              options={**options, 'leak_check': None})
    assert not list((tmp_path / 'run').glob('*.pth'))
