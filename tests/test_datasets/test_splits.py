"""Training and validation, folds, and lists of clips."""

from collections import Counter
from itertools import product

import pytest

from hri30_ext.datasets.splits import group_folds, random_folds, split_clips
from hri30_ext.errors import HRI30Error

CLIPS = [dict(video_id=f'CID{c:02}_SID{s:02}_VID{v:02}', label=c - 1, group=s, clip=v)
         for c, s, v in product(range(1, 4), range(1, 11), range(1, 8))]


def ids(clips):
    return {clip['video_id'] for clip in clips}


def groups_of(names):
    return {int(name[9:11]) for name in names}


@pytest.mark.parametrize('val_groups, size', [(2, 2), ([3, 9], 2)])
def test_groups_are_held_out_whole(val_groups, size):
    train, val = split_clips(CLIPS, val_groups=val_groups)
    assert not groups_of(ids(train)) & groups_of(ids(val))
    assert len(val) == size * 3 * 7 and len(train) + len(val) == len(CLIPS)


def test_choice_of_groups_is_the_same_everywhere():
    # SHA-256 of '42:<group>' puts these first; a change here changes every result.
    assert groups_of(ids(split_clips(CLIPS, val_groups=2, seed=42)[1])) == {1, 6}
    assert groups_of(ids(split_clips(CLIPS, val_groups=2, seed=1)[1])) != {1, 6}
    assert split_clips(CLIPS[::-1], val_groups=2)[1] == (
        split_clips(CLIPS, val_groups=2)[1][::-1])


def test_random_is_stratified_and_warns_that_it_leaks():
    with pytest.warns(UserWarning, match='leaks'):
        train, val = split_clips(CLIPS, type='random', val_ratio=0.1)
        # Where a class has few clips, one of them validates, but not its only one.
        few = split_clips([CLIPS[0], CLIPS[-1], {**CLIPS[-2], 'video_id': '\udcff'}],
                          type='random')[1]
        one = split_clips(CLIPS, type='random', val_ratio=1 / len(CLIPS), stratified=False)
    assert Counter(clip['label'] for clip in val) == {0: 7, 1: 7, 2: 7}
    assert not ids(train) & ids(val) and ids(train) | ids(val) == ids(CLIPS)
    assert [clip['label'] for clip in few] == [2]
    assert len(one[1]) == 1  # of all classes together


def test_file(tmp_path):
    val_file, train_file = tmp_path / 'val.txt', tmp_path / 'train.txt'
    clips = [dict(video_id=f'{folder}/{name}', group=1, label=0)
             for folder in 'ab' for name in ('one', 'left, right')]
    val_file.write_text('a/one.mp4\nb/left, right\n')
    _, val = split_clips(clips, type='file', val_file=val_file)
    assert [clip['video_id'] for clip in val] == ['a/one', 'b/left, right']
    val_file.write_text('CID01_SID01_VID01\n\ntrain_set/CID02_SID01_VID01.avi\n'
                        'CID03_SID01_VID01,MoveBackwardsWhilePolishing,3\n')
    train, val = split_clips(CLIPS, type='file', val_file=val_file)
    assert ids(val) == {f'CID0{c}_SID01_VID01' for c in (1, 2, 3)}
    assert len(train) == len(CLIPS) - 3
    train_file.write_text('CID01_SID01_VID01\nCID01_SID02_VID01\n')
    with pytest.raises(HRI30Error, match='(?s)1 clips.*CID01_SID01_VID01'):
        split_clips(CLIPS, type='file', val_file=val_file, train_file=train_file)
    train_file.write_text('CID01_SID02_VID01\n')
    with pytest.raises(HRI30Error, match='206 clips'):
        split_clips(CLIPS, type='file', val_file=val_file, train_file=train_file)


@pytest.mark.parametrize('rule, message', [
    (dict(val_groups=10), 'cannot hold that out of 10 groups'),
    (dict(val_groups=0), 'Expected a number from 1 to 9'),
    (dict(val_groups=[77]), 'a list of some of the groups'),
    (dict(val_groups=list(range(1, 11))), 'a list of some of the groups'),
    (dict(val_groups=[]), 'a list of some of the groups'),
    (dict(type='random', val_ratio=1), 'or for training'),
    (dict(type='file'), 'expected split.val_file=PATH'),
    (dict(type='file', val_file='absent.txt'), 'absent.txt'),
])
def test_wrong_rules(rule, message):
    with pytest.raises(HRI30Error, match=message):
        split_clips(CLIPS, **rule)


@pytest.mark.parametrize('folds, sizes', [(None, [1] * 10), (5, [2] * 5), (3, [3, 3, 4])])
def test_folds_are_whole_groups_and_cover_each_clip_once(folds, sizes):
    found = group_folds(CLIPS, folds, seed=1)
    assert sorted(len(groups_of(fold)) for fold in found) == sizes
    assert sorted(sum(found, [])) == sorted(ids(CLIPS))
    assert found == group_folds(CLIPS[::-1], folds, seed=1)
    if folds:
        assert found != group_folds(CLIPS, folds, seed=2)


def test_random_folds_have_each_class_evenly():
    found = random_folds(CLIPS, 7, seed=1)
    assert sorted(sum(found, [])) == sorted(ids(CLIPS))
    for fold in found:
        assert Counter(name[:5] for name in fold) == dict(CID01=10, CID02=10, CID03=10)
        assert len(groups_of(fold)) > 5  # that is the leak


@pytest.mark.parametrize('divide', [group_folds, random_folds])
@pytest.mark.parametrize('folds', [1, 0, 5000])
def test_impossible_folds_are_refused(divide, folds):
    with pytest.raises(HRI30Error, match=f'folds={folds}: expected 2 to'):
        divide(CLIPS, folds, 1)


@pytest.mark.parametrize('group, found', [(-1, 'no groups'), (3, 'one group')])
def test_fewer_than_two_groups_cannot_be_divided(group, found):
    clips = [{**clip, 'group': group} for clip in CLIPS]
    for divide in (split_clips, lambda clips: group_folds(clips, None, 1)):
        with pytest.raises(HRI30Error, match=f'have {found}.*\nSet group_pattern'):
            divide(clips)
