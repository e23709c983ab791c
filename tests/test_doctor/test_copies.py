"""Distances of clips by the hashes of their frames; clips that are alike are no copies."""

import os
from itertools import combinations

import numpy as np

from hri30_ext.doctor.copies import NEAR_BITS, near_distance, near_pairs
from hri30_ext.doctor.reading import inspect_clips
from hri30_ext.synthetic import write_dataset


def test_different_clips_of_a_group_are_no_copies(tmp_path):
    # The nearest that there are: a worker who drills in one place, twice.
    write_dataset(tmp_path, train_groups=1, test_groups=1, clips=2, size=(360, 240),
                  classes=(25, 26), progress=False)
    clips = inspect_clips(tmp_path / 'train_set', os.listdir(tmp_path / 'train_set'))
    distances = [near_distance(a.hashes, b.hashes)
                 for a, b in combinations(clips.values(), 2)]
    assert len(distances) == 6 and min(distances) > NEAR_BITS


def test_hand_computed_distance():
    def distance(a_TB, b_TB):
        return near_distance(np.packbits(a_TB, axis=1), np.packbits(b_TB, axis=1))
    clip_TB = np.eye(16, 256, dtype=bool)
    changed_TB = clip_TB.copy()
    changed_TB[7, 100:105] = True  # one frame decides
    assert distance(clip_TB, clip_TB[3:]) == distance(clip_TB[3:], clip_TB) == 0
    assert distance(clip_TB, changed_TB) == 5
    # Cut by more than a quarter, it is another clip.
    assert distance(clip_TB, clip_TB[6:]) == 2
    clips = {'a': np.packbits(clip_TB, axis=1).tobytes()}
    assert near_pairs({}, clips) == near_pairs(clips, {}) == near_pairs(clips, clips) == []
    assert near_pairs(clips, {'b': clips['a'][64:]}) == [(0, 'a', 'b')]
