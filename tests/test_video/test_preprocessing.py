"""The torch-free preprocessing against mmaction2's own test pipeline."""

import json

import msgspec
import numpy as np
import pytest
from conftest import DEMO_CONFIG, PRIMITIVE
from mmaction.datasets.transforms import SampleFrames
from mmengine.config import ConfigDict
from mmengine.dataset import Compose

from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.video.preprocessing import (
    CenterCrop,
    Preprocessing,
    Resize,
    ResizeShortSide,
    Shrink,
    check_frame,
    interval_indices,
)

CONFIGS = [DEMO_CONFIG, *(PRIMITIVE.replace('uniform8', pipeline) for pipeline in (
    'uniform8', 'uniform8-centercrop', '8x4x1-256px'))]

UNIFORM = dict(type='UniformViews', clip_len=4, test_mode=True, sampling='mmaction2')
RESIZE = dict(type='ResizeClip', scale=(32, 24))


@pytest.mark.parametrize('config, crops', [*((config, 1) for config in CONFIGS),
                                           (PRIMITIVE, 3)])
def test_as_the_test_pipeline_of_a_config(config, crops):
    cfg = load_config(config, {'load_from': None, 'num_frames': 8, 'test_crops': crops})
    preprocessing = Preprocessing.from_config(cfg)
    assert preprocessing.num_frames == 8 and preprocessing.size == tuple(cfg.input_size)
    frames = np.random.default_rng(0).integers(0, 256, (37, 300, 450, 3), np.uint8)
    # Loading is left out of the pipeline: its frames are given.
    shrink = next((step for step in preprocessing.steps if isinstance(step, Shrink)), None)
    steps = [step for step in cfg.test_pipeline
             if not step.type.endswith(('Init', 'Decode'))
             and step.type not in ('FormatShape', 'PackActionInputs')]
    indices = Compose(steps[:1])(dict(total_frames=37, start_index=0))['frame_inds']
    imgs = [shrink(frames[i]) if shrink else frames[i] for i in indices]
    expected = Compose(steps[1:])(dict(imgs=imgs, img_shape=imgs[0].shape[:2],
                                       modality='RGB', num_clips=1, clip_len=8))['imgs']
    expected = np.stack(expected).reshape(crops, 8, *expected[0].shape)
    np.testing.assert_array_equal(preprocessing.clip(frames), expected)
    assert msgspec.convert(json.loads(json.dumps(preprocessing.to_json())), Preprocessing
                           ) == preprocessing


@pytest.mark.parametrize('views', [1, 2, 3])
@pytest.mark.parametrize('clip_len', [1, 8])
def test_intervals_as_mmaction2(clip_len, views):
    step = SampleFrames(clip_len, frame_interval=4, num_clips=views, test_mode=True)
    for total in (1, 7, 29, 30, 47, 60):
        expected = step.transform(dict(total_frames=total, start_index=0))['frame_inds']
        found = interval_indices(total, clip_len, 4, views)
        assert found.tolist() == expected.tolist()


def test_times_in_a_stream():
    segments = Preprocessing(4, 1, 'segments', (Resize(32, 24), ))
    # The middles of four half seconds.
    np.testing.assert_allclose(segments.sample_times(2), [0.25, 0.75, 1.25, 1.75])
    assert segments.span_seconds == 0
    interval = Preprocessing(4, 1, 'interval', (Resize(32, 24), ), frame_interval=6)
    # 0.2 s apart, 0.6 s from first to last, in the middle of one second.
    assert interval.span_seconds == pytest.approx(0.6)
    np.testing.assert_allclose(interval.sample_times(1), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(interval.sample_times(0.1), [0, 0.2, 0.4, 0.6])


def test_shrinking_never_enlarges_and_crops_need_their_size():
    small = np.zeros((20, 30, 3), np.uint8)
    assert Shrink(40)(small) is small
    assert Shrink(10)(small).shape == (10, 15, 3)
    assert ResizeShortSide(40)(small).shape == (40, 60, 3)
    with pytest.raises(HRI30Error, match='frame of 30 x 20 pixels, expected at least 32 x'):
        CenterCrop(32, 16)(np.zeros((20, 30, 3), np.uint8))


@pytest.mark.parametrize('frame', [
    np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)),
    np.zeros((0, 8, 3), np.uint8), None])
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(HRI30Error, match='expected RGB as uint8'):
        check_frame(frame)


@pytest.mark.parametrize(('steps', 'message'), [
    ([UNIFORM, dict(type='FrameOrder', order='still'), RESIZE], 'FrameOrder is not supp'),
    ([UNIFORM, RESIZE, dict(type='ThreeCrop', crop_size=8)], 'ThreeCrop is not supported'),
    ([UNIFORM, dict(type='Resize', scale=(32, 24), keep_ratio=False)],
     r'Resize is not supported outside MMAction2.\nExpected ResizeClip'),
    ([dict(UNIFORM, test_mode=False), RESIZE], 'UniformViews with test_mode=False'),
    ([dict(type='SampleFrames', clip_len=8, test_mode=True, twice_sample=True), RESIZE],
     'SampleFrames with twice_sample=True'),
    ([RESIZE], 'no step chooses frames'),
    ([UNIFORM, dict(type='ResizeClip', scale=(-1, 24))], 'or a crop, last'),
    ([], 'no step chooses frames')])
def test_pipelines_that_cannot_be_done_here(steps, message):
    with pytest.raises(HRI30Error, match=message):
        Preprocessing.from_config(ConfigDict(test_pipeline=steps))


GOOD = Preprocessing(8, 1, 'interval', (Shrink(256), CenterCrop(8, 8)), 4).to_json()


@pytest.mark.parametrize('change', [
    dict(num_frames=0), dict(num_frames=True), dict(num_views='1'),
    dict(sampling='random'), dict(sampling='uniform'), dict(frame_interval=None),
    dict(steps=[]), dict(steps='Resize'), dict(steps=[dict(type='Shrink', short_side=9)]),
    dict(steps=[dict(type='__class__')]), dict(steps=[dict(type=['Resize'])]),
    dict(steps=[dict(type='Resize', width=8, height=-1)]),
    dict(steps=[dict(type='Resize', width=8, height=8, depth=8)]), dict(surplus=1)])
def test_json_is_validated(change):
    with pytest.raises(msgspec.ValidationError, match=next(iter(change))):
        msgspec.convert({**GOOD, **change}, Preprocessing)
