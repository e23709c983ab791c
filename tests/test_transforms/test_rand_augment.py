"""RandAugment and random erasing of the recipe: one draw for all frames of a clip."""

import numpy as np
import pytest
from conftest import PRIMITIVE
from mmaction.registry import TRANSFORMS
from timm.data.auto_augment import _RAND_INCREASING_TRANSFORMS

from hri30_ext.config import load_config
from hri30_ext.datasets.randomness import seeded

FRAME = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def build(name, choice):
    """Returns the steps of the training pipeline that a setting adds."""
    steps = load_config(PRIMITIVE, {name: choice}).train_pipeline
    plain = load_config(PRIMITIVE).train_pipeline
    added = [step for step in steps if step not in plain]
    assert len(steps) == len(plain) + 1 and len(added) == 1
    return TRANSFORMS.build(added[0])


def draw(transform, seed):
    with seeded(seed):
        frames = transform(dict(imgs=np.stack(4 * [FRAME])))['imgs']
    return np.stack(frames)


@pytest.mark.parametrize('name, choice, share', [
    ('rand_augment', 'm7-n2', (0.5, 0.9)), ('rand_augment', 'm7-n4', (0.75, 1)),
    ('random_erasing', 'quarter', (0.1, 0.4))])
def test_one_draw_for_all_frames(name, choice, share):
    transform = build(name, choice)
    draws = [draw(transform, seed) for seed in range(40)]
    for frames in draws:
        assert frames.shape == (4, *FRAME.shape) and frames.dtype == np.uint8
        # The noise of an erased box is of each frame; the box is one.
        changed = (frames != FRAME).any(axis=-1) if name == 'random_erasing' else frames
        assert (changed == changed[0]).all()
    assert share[0] <= np.mean([(frames != FRAME).any() for frames in draws]) <= share[1]
    assert (draw(transform, 7) == draws[7]).all()


def test_nothing_mirrors():
    """Neither by name of an operation nor by what it does to an asymmetric frame."""
    assert not any('flip' in name.lower() for name in _RAND_INCREASING_TRANSFORMS)
    transform = build('rand_augment', 'm7-n4')
    mirrored = FRAME[:, ::-1].astype(float)
    for seed in range(40):
        frame = draw(transform, seed)[0].astype(float)
        similar = [np.corrcoef(frame.ravel(), other.ravel())[0, 1]
                   for other in (FRAME, mirrored)]
        assert abs(similar[1]) < 0.2, (seed, similar)
