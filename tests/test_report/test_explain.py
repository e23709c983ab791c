"""Where a model looks."""

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.apis import init_recognizer

from hri30_ext.config import load_config
from hri30_ext.names import VIDEO_SUFFIXES
from hri30_ext.report.explain import explain_clips, find_target_layer
from hri30_ext.report.frames import read_clip


@pytest.fixture
def cfg(options):
    # Large enough that a map has several places.
    return load_config(DEMO_CONFIG, {**options, 'input_size': (128, 96)})


@pytest.fixture
def model(cfg):
    """Random weights."""
    torch.manual_seed(0)
    return init_recognizer(cfg, device='cpu')


@pytest.fixture
def read(clips_root, cfg):
    """Returns a function that reads a clip for a class."""
    path = next(file for file in sorted(clips_root.rglob('*'))
                if file.suffix in VIDEO_SUFFIXES)
    return lambda label: read_clip(str(path), label, cfg).sample


def test_overlays_have_the_frames_of_the_model(model, read):
    (first, second), reason = explain_clips(model, [read(0), read(2)])
    assert reason == ''
    assert first.shape == (4, 96, 128, 3) and first.dtype == np.uint8
    # What speaks for one class is not what speaks for another.
    assert (first != second).any()


def test_frozen_stages_are_explained_as_well(cfg, read):
    cfg.model.backbone.frozen_stages = 4
    (overlay, ), reason = explain_clips(init_recognizer(cfg, device='cpu'), [read(1)])
    assert reason == '' and overlay is not None


def test_what_cannot_be_explained_has_a_reason(model, read):
    assert explain_clips(torch.nn.Identity(), []) == ([], '')
    overlays, reason = explain_clips(Nested('backbone.blocks'), [{}])
    assert overlays == [None] and 'Grad-CAM needs' in reason
    sample = read(0)
    sample['inputs'] = sample['inputs'][:, :2]
    overlays, reason = explain_clips(model, [sample])
    assert overlays == [None] and 'Grad-CAM failed' in reason


class Nested(torch.nn.Module):
    """A module with the submodules of the names given."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            first, _, rest = name.partition('.')
            self.add_module(first, Nested(rest) if rest else torch.nn.Identity())


@pytest.mark.parametrize('name, layer', [
    ('backbone.layer4', 'backbone/layer4'),
    ('backbone.slow_path.layer4', 'backbone/slow_path/layer4'),
    ('backbone.blocks', None)])
def test_target_layer(name, layer):
    assert find_target_layer(Nested(name)) == layer
