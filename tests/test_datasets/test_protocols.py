"""Folds and lists of clips."""

from collections import Counter

import pytest

from hri30_ext.datasets.protocols import (
    group_folds,
    random_folds,
    write_list,
)
from hri30_ext.datasets.splits import split_clips
from hri30_ext.errors import HRI30Error


def clips(groups, per_class=7, classes=30):
    return [dict(video_id=f'CID{c:02}_SID{g:02}_VID{v:02}', group=g, label=c - 1, clip=v)
            for c in range(1, classes + 1) for g in range(1, groups + 1)
            for v in range(1, per_class + 1)]


def groups_of(names):
    return {int(name[9:11]) for name in names}


@pytest.mark.parametrize('folds, sizes', [(None, [1] * 10), (5, [2] * 5), (3, [3, 3, 4])])
def test_folds_are_whole_groups_and_cover_each_clip_once(folds, sizes):
    data = clips(10)
    found = group_folds(data, folds, seed=1)
    assert sorted(len(groups_of(fold)) for fold in found) == sizes
    assert sorted(name for fold in found for name in fold) == sorted(
        clip['video_id'] for clip in data)
    assert sum(len(groups_of(fold)) for fold in found) == 10  # no group in two folds
    assert found == group_folds(list(reversed(data)), folds, seed=1)
    if folds:
        assert found != group_folds(data, folds, seed=2)


def test_random_folds_have_each_class_evenly():
    found = random_folds(clips(10), 7, seed=1)
    assert [len(fold) for fold in found] == [300] * 7
    for fold in found:
        assert set(Counter(name[:5] for name in fold).values()) == {10}
        assert len(groups_of(fold)) == 10  # that is the leak


@pytest.mark.parametrize('divide', [group_folds, random_folds])
@pytest.mark.parametrize('folds', [1, 0, 5000])
def test_impossible_folds_are_refused(divide, folds):
    with pytest.raises(HRI30Error, match=f'folds={folds}: expected 2 to'):
        divide(clips(3), folds, 1)


def test_a_list_is_what_a_split_reads(tmp_path):
    data = clips(4, per_class=1, classes=2)
    names = group_folds(data, 4, 1)[0]
    path = write_list(tmp_path / 'lists' / 'val.txt', names)
    train, val = split_clips(data, type='file', val_file=str(path))
    assert sorted(clip['video_id'] for clip in val) == names and len(train) == 6
