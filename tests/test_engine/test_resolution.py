"""Small clips first: what an epoch sees, at which rate, and what resuming changes."""

import math

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.datasets.transforms import UniformSample
from mmaction.registry import HOOKS
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope

from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.engine.resolution import (
    ProgressiveSizeHook,
    SharedUniformSample,
    find_resizable,
    share_clip_len,
    try_size,
)
from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import UniformSegments

#: Half the width and height in half of the epochs.
HALF = [dict(begin=0, scale=0.5), dict(begin=0.5, scale=1)]


def make_hook(schedule=HALF, **changes):
    return ProgressiveSizeHook(**{
        'schedule': schedule, 'input_size': (224, 224), 'num_frames': 8, **changes})


@pytest.mark.parametrize('name, expected', [
    # 224 * 0.71 = 159 is 20 * 8 pixels; 16 * (224 / 160)^2 = 31.4 clips are as large.
    ('size', {0: (112, 112, 8, 64, 4), 34: (112, 112, 8, 64, 4),
              35: (160, 160, 8, 31, 31 / 16), 69: (160, 160, 8, 31, 31 / 16),
              70: (224, 224, 8, 16, 1), 99: (224, 224, 8, 16, 1)}),
    ('multigrid', {0: (112, 112, 4, 128, 8), 25: (160, 160, 4, 62, 62 / 16),
                   50: (160, 160, 8, 31, 31 / 16), 70: (224, 224, 8, 16, 1)}),
])
def test_size_of_each_epoch(name, expected):
    init_default_scope('mmaction')
    cfg = load_config(DEMO_CONFIG, {'input_size': (224, 224), 'num_frames': 8})
    hook = HOOKS.build(cfg.progressive_sizes[name])
    for epoch, (width, height, frames, batch, factor) in expected.items():
        size = hook.size_of(epoch, 100, 16)
        assert (size.width, size.height, size.frames, size.batch) == (
            width, height, frames, batch), epoch
        assert size.lr_factor == pytest.approx(factor)


@pytest.mark.parametrize('input_size', [(224, 224), (112, 72), (160, 160), (171, 97)])
def test_no_batch_takes_more_memory_than_a_full_one(input_size):
    for scale in np.linspace(0.2, 1, 33):
        for frames in (1, 3, 8):
            hook = make_hook([dict(begin=0, scale=float(scale), num_frames=frames),
                              dict(begin=1, scale=1)], input_size=input_size)
            size = hook.size_of(0, 2, 7)
            pixels = size.batch * size.width * size.height * size.frames
            assert size.batch == 7 or pixels <= 7 * np.prod(input_size) * 8
            # One more clip would not fit.
            assert pixels + size.width * size.height * size.frames > (
                7 * np.prod(input_size) * 8)


@pytest.mark.parametrize('optimizer, clips, batch, factor', [
    ('SGD', None, 64, 4), ('AdamW', None, 64, 2), ('Adam', None, 64, 2),
    # No batch is larger than the epoch.
    ('SGD', 1000, 64, 4), ('SGD', 64, 64, 4), ('SGD', 40, 40, 2.5), ('SGD', 10, 16, 1)])
def test_rule_of_batch_and_learning_rate(optimizer, clips, batch, factor):
    size = make_hook().size_of(0, 2, 16, optimizer, clips)
    assert (size.batch, size.lr_factor) == (batch, factor)


@pytest.mark.parametrize('schedule, message', [
    ([], 'last entry of the schedule is missing'),
    ([dict(begin=0, scale=0.5)], 'last entry.*expected full clips'),
    ([dict(begin=0, scale=1, num_frames=4)], 'last entry.*expected full clips'),
    ([dict(begin=0, size=0.5)], 'expected dict'),
    ([dict(begin=0, scale=1.5)], r'SIZE in \(0, 1\]'),
    ([dict(begin=0, scale=0)], r'SIZE in \(0, 1\]'),
    ([dict(begin=-1, scale=1)], 'EPOCH a number from 0'),
    ([dict(begin=1.5, scale=1)], 'fraction of all'),
    ([dict(begin=0, scale=1, num_frames=16)], 'FRAMES in 1 to 8'),
])
def test_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(HRI30Error, match=message):
        make_hook(schedule)


@pytest.mark.parametrize('begins', [(1, 2), (0, 10), (0, 3, 2)])
def test_schedule_that_does_not_fit_the_epochs(begins):
    hook = make_hook([dict(begin=begin, scale=1) for begin in begins])
    with pytest.raises(HRI30Error, match=r'begins at epochs \[.*of 10'):
        hook.size_of(0, 10, 16)


class Pipeline:
    """As much of a dataset as the hook looks at."""

    def __init__(self, *steps):
        init_default_scope('mmaction')
        self.pipeline = Compose(steps)


def test_pipeline_that_cannot_change():
    dataset = Pipeline(dict(type='SampleFrames', clip_len=8),
                       dict(type='Resize', scale=(32, 32), keep_ratio=False))
    with pytest.raises(HRI30Error, match='found SampleFrames, Resize(.|\n)*CropResize'):
        find_resizable(dataset)
    with pytest.raises(HRI30Error, match='UniformSegments(.|\n)*progressive_size=size'):
        share_clip_len(dataset)


@pytest.mark.parametrize('kind', [UniformSample, UniformSegments])
def test_shared_sampling_is_that_of_the_step(kind):
    for frames in (8, 4):
        shared, plain = SharedUniformSample(kind(8)), kind(frames)
        shared.clip_len_T.fill_(frames)
        found = []
        for step in (shared, plain):
            np.random.seed(1)
            found.append(step.transform(dict(total_frames=45, start_index=0)))
        assert found[0]['clip_len'] == frames
        assert found[0]['frame_inds'].tolist() == found[1]['frame_inds'].tolist()


def test_model_that_takes_one_size_only():
    class Fixed(torch.nn.Linear):
        backbone = 'fixed'

        def forward(self, clip, mode, stage):
            assert clip.shape == (1, 1, 3, 8, 224, 224), f'no clip of {clip.shape}'

    model = Fixed(1, 1)
    try_size(model, make_hook().size_of(1, 2, 16))
    assert model.training
    with pytest.raises(HRI30Error, match='does not accept clips of 8 frames of 112 x 112'):
        try_size(model, make_hook().size_of(0, 2, 16))


@HOOKS.register_module()
class RecordBatches(Hook):
    """Keeps what each step of training and validation saw."""

    priority = 'LOWEST'
    steps: list = []
    end: tuple = ()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        clips = data_batch['inputs']
        assert len({clip.shape for clip in clips}) == 1
        rates = {group['lr'] for group in runner.optim_wrapper.optimizer.param_groups}
        self.steps.append((runner.epoch, len(clips), tuple(clips[0].shape[2:]), *rates))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.steps.append(('val', *map(tuple, {
            clip.shape[2:] for clip in data_batch['inputs']})))

    def after_train(self, runner):
        type(self).end = (runner.iter, runner.max_iters,
                          runner.optim_wrapper._max_counts)


def run(folder, options, schedule=HALF, **changes):
    """Trains 4 epochs of 6 clips; returns what the steps of both loops saw."""
    RecordBatches.steps.clear()
    train(DEMO_CONFIG, work_dir=str(folder), options={
        **options, 'max_epochs': 4, 'batch_size': 2, 'optimizer': 'sgd', 'lr': 0.01,
        'warmup_epochs': 0, 'early_stopping': None, 'precision': 'fp32',
        'progressive_size': 'size',
        'progressive_sizes.size.schedule': schedule,
        'custom_hooks': ['${progressive_sizes[progressive_size]}',
                         dict(type='RecordBatches')], **changes})
    return ([step for step in RecordBatches.steps if step[0] != 'val'],
            [step for step in RecordBatches.steps if step[0] == 'val'])


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_batches_and_rates_of_a_training(options, tmp_path, workers):
    schedule = [dict(begin=0, scale=0.5, num_frames=0.5), dict(begin=1, scale=0.5),
                dict(begin=2, scale=1)]
    trained, validated = run(tmp_path, options, schedule, num_workers=workers)
    # 16 and 8 clips would fit, and there are 6: one batch, and then three of 2. The cosine
    # goes on as in 4 x 3 steps.
    expected = [(0, 6, (2, 16, 16), 3, 0), (1, 6, (4, 16, 16), 3, 3)] + [
        (2 + i // 3, 2, (4, 32, 32), 1, 6 + i) for i in range(6)]
    assert [step[:3] for step in trained] == [step[:3] for step in expected]
    assert [step[3] for step in trained] == pytest.approx(
        [0.01 * factor * (1 + math.cos(math.pi * at / 12)) / 2
         for *_, factor, at in expected])
    assert set(validated) == {('val', (4, 32, 32))}
    assert RecordBatches.end == (8, 8, 8)


@pytest.mark.slow
def test_accumulated_batches(options, tmp_path):
    """Of 1 + 1 + 3 + 3 batches, three make a step: the last two are one as well."""
    run(tmp_path, options, accumulate=3, optimizer='adam')
    state = torch.load(tmp_path / 'epoch_4.pth', weights_only=True)
    assert {int(one['step']) for one in state['optimizer']['state'].values()} == {3}
