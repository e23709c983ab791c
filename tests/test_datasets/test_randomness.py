"""A sample's randomness is a function of seed, epoch and index."""

import random

import numpy as np
import pytest
import torch
from conftest import CLASSES
from mmengine.dataset import ConcatDataset, RepeatDataset
from torch.utils.data import DataLoader

from hri30_ext.datasets import HRI30Dataset
from hri30_ext.datasets.randomness import seeded
from hri30_ext.engine.features import _Draws


def draw_three(results=None):
    """A transform, or not: a number of each generator."""
    return dict(found=(random.random(), np.random.rand(), torch.rand(1).item()))


@pytest.fixture
def dataset(clips_root):
    return HRI30Dataset(data_root=str(clips_root), pipeline=[draw_three],
                        metainfo=dict(classes=CLASSES), split=dict(val_groups=1))


def samples(dataset, order, **loader):
    """What the indices give, made in this order; returned in theirs."""
    items = [item['found'] for batch in DataLoader(
        dataset, sampler=order, collate_fn=list, **loader) for item in batch]
    return [found for _, found in sorted(zip(order, items, strict=True))]


def test_all_generators_are_seeded_and_given_back():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw_three(), draw_three()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw_three()
    with seeded(1, 2, 3):
        inner = draw_three()
    assert (first, draw_three()) == expected
    with pytest.raises(KeyError), seeded(1, 2, 3):
        assert draw_three() == inner
        raise KeyError
    others = []
    for numbers in ((3, 2, 1), (1, 2), (1, 2, 3, 0), (1, 2, 2**32 + 3), (-1, 2, 3)):
        with seeded(*numbers):
            others.append(draw_three()['found'])
    assert len({*others, inner['found']}) == 6


def test_neither_order_nor_processes_matter(dataset):
    dataset.set_epoch(7, 3)
    order = list(range(len(dataset)))
    expected = samples(dataset, order)
    assert len(set(expected)) == len(order) == 6
    assert samples(dataset, order[::-1]) == expected
    assert samples(dataset, order[3:]) == expected[3:]
    for workers in (1, 2):
        assert samples(dataset, order, num_workers=workers, batch_size=2) == expected
    assert dataset[-1] == dataset[5]
    with pytest.raises(IndexError):
        dataset[6]


def test_seed_and_epoch_matter(dataset):
    found = []
    for position in ((0, 0), (0, 1), (1, 0), (1, 1)):
        dataset.set_epoch(*position)
        found += samples(dataset, [0, 1, 2, 3, 4, 5])
    assert len(set(found)) == 24
    dataset.set_epoch(0, 1)
    assert samples(dataset, [0, 1, 2, 3, 4, 5]) == found[6:12]


def test_without_an_epoch_transforms_draw_as_ever(dataset):
    np.random.seed(5)
    found = [dataset[0]['found'][1], dataset[0]['found'][1]]
    np.random.seed(5)
    assert found == [np.random.rand(), np.random.rand()]


def test_loading_processes_that_live_on_see_the_epoch(dataset):
    loader = DataLoader(dataset, num_workers=2, persistent_workers=True, collate_fn=list)
    found = []
    for epoch in range(3):
        dataset.set_epoch(0, epoch)
        found.append([item['found'] for batch in loader for item in batch])
    for epoch in range(3):
        dataset.set_epoch(0, epoch)
        assert found[epoch] == samples(dataset, list(range(6)))


def test_wrapped_datasets(dataset):
    dataset.set_epoch(0, 1)
    assert ConcatDataset([dataset, dataset])[6] == dataset[0]
    # Which repeats a clip within an epoch, with what is random drawn again: it sets none.
    assert not hasattr(RepeatDataset(dataset, 2), 'set_epoch')


def test_repeated_draws_of_a_clip_differ_and_are_reproducible(clips_root, dataset):
    repeated = HRI30Dataset(data_root=str(clips_root), pipeline=[draw_three], repeats=3,
                            metainfo=dict(classes=CLASSES), split=dict(val_groups=1))
    found = []
    for epoch in range(2):
        dataset.set_epoch(7, epoch), repeated.set_epoch(7, epoch)
        found += [[one['found'] for one in sample] for sample in map(
            repeated.__getitem__, range(6))]
        # The first draw is that without repeats.
        assert [draws[0] for draws in found[-6:]] == samples(dataset, list(range(6)))
    assert len({draw for draws in found for draw in draws}) == 2 * 6 * 3
    assert [one['found'] for one in repeated[5]] == found[-1]


def test_draws_of_a_clip_differ_and_are_reproducible(dataset):
    everything = [_Draws(dataset, range(18), seed=3)[i]['found'] for i in range(18)]
    assert len(set(everything)) == 18
    some = _Draws(dataset, range(18)[1::2], seed=3)
    dataset.set_epoch(9, 9)  # which does not matter, and stays
    assert [some[i]['found'] for i in reversed(range(9))] == everything[1::2][::-1]
    assert dataset._position.tolist() == [9, 9, 1]
    assert _Draws(dataset, range(18), seed=4)[0]['found'] != everything[0]
