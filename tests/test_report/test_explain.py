"""Where a model looks."""

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.apis import init_recognizer

from hri30_ext.config import load_config
from hri30_ext.names import VIDEO_SUFFIXES
from hri30_ext.report.explain import explain_clips, find_target_layer


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
def clip(clips_root):
    return str(next(file for file in sorted(clips_root.rglob('*'))
                    if file.suffix in VIDEO_SUFFIXES))


def test_overlays_have_the_frames_of_the_model(cfg, model, clip):
    (first, second), reason = explain_clips(model, cfg, [clip, clip], [0, 2])
    assert reason == ''
    assert first.shape == (4, 96, 128, 3) and first.dtype == np.uint8
    # What speaks for one class is not what speaks for another.
    assert (first != second).any()


def test_frozen_stages_are_explained_as_well(cfg, clip):
    cfg.model.backbone.frozen_stages = 4
    model = init_recognizer(cfg, device='cpu')
    (overlay, ), reason = explain_clips(model, cfg, [clip], [1])
    assert reason == '' and overlay is not None


def test_a_clip_that_cannot_be_read_is_left_out(cfg, model, clip, tmp_path):
    (tmp_path / 'broken.avi').write_bytes(b'not a video')
    overlays, reason = explain_clips(
        model, cfg, [str(tmp_path / 'broken.avi'), clip], [0, 0])
    assert overlays[0] is None and overlays[1] is not None
    assert 'broken.avi' in reason


def test_no_clips_need_no_layer(cfg):
    assert explain_clips(torch.nn.Identity(), cfg, [], []) == ([], '')


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


def test_a_model_without_stages_has_a_reason(cfg, clip):
    overlays, reason = explain_clips(Nested('backbone.blocks'), cfg, [clip], [0])
    assert overlays == [None] and 'Grad-CAM needs' in reason
