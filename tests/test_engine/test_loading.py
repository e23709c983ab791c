"""Batches on their way from the loading processes to the device."""

import os
import resource
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO_CONFIG, PRIMITIVE
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

from hri30_ext import config, hardware
from hri30_ext.config import load_config, unresolved
from hri30_ext.engine import CurvesHook, HRI30Runner, LearningRatesHook, hooks
from hri30_ext.engine.loading import send
from hri30_ext.utils.curves import read_curves


class Clips:
    """Clip i is full of i and has the label i."""

    def __len__(self):
        return 256

    def __getitem__(self, i):
        sample = ActionDataSample(metainfo=dict(video_id=str(i))).set_gt_label(i)
        return dict(inputs=torch.full((1, 3, 2, 4, 4), i, dtype=torch.uint8),
                    data_samples=sample)


@pytest.fixture
def few_files():
    """Allows 200 files more than are open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir('/proc/self/fd'))) + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def collate(options):
    cfg = load_config(DEMO_CONFIG, options)
    return FUNCTIONS.get(cfg.train_dataloader.get('collate_fn', {'type': 'pseudo_collate'})
                         ['type'])


def test_batches_of_128_need_few_files(few_files, options):
    loader = DataLoader(Clips(), batch_size=128, num_workers=16, timeout=60,
                        collate_fn=collate(options))
    batches = list(loader)
    inputs = torch.cat([batch['inputs'] for batch in batches])
    assert inputs.shape == (256, 1, 3, 2, 4, 4)
    assert inputs[:, 0, 0, 0, 0, 0].tolist() == list(range(256))
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert [sample.gt_label.tolist() for sample in samples] == [[i] for i in range(256)]
    assert [sample.video_id for sample in samples] == list(map(str, range(256)))


def test_repeated_clips_stand_side_by_side(options):
    clips = Clips()
    batch = collate(options)([[clips[3], clips[4]], [clips[5], clips[6]]])
    assert batch['inputs'][:, 0, 0, 0, 0, 0].tolist() == [3, 4, 5, 6]
    assert [int(sample.gt_label) for sample in batch['data_samples']] == [3, 4, 5, 6]


def test_clips_of_different_sizes_stay_apart(options):
    items = [dict(Clips()[i], inputs=torch.zeros(1, i)) for i in (1, 2)]
    assert [clip.shape for clip in collate(options)(items)['inputs']] == [(1, 1), (1, 2)]


def test_a_run_may_open_as_many_files_as_the_system_allows(few_files, tmp_path):
    HRI30Runner.from_cfg(Config(dict(model=torch.nn.Linear(1, 1), work_dir=str(tmp_path))))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard > few_files


@pytest.mark.parametrize('smoothing', [0, 0.1])
def test_a_step_never_waits_for_its_device(options, smoothing):
    """The device is torch's meta device, whose values nobody can read."""
    cfg = load_config(DEMO_CONFIG, {**options, 'label_smoothing': smoothing})
    model = MODELS.build(cfg.model).to('meta')
    cfg.optim_wrapper.optimizer.fused = False  # not on this device
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    hub = MessageHub.get_instance('meta')
    wrapper.message_hub = hub
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=wrapper, iter=0)
    curves, scalars = CurvesHook(), LearningRatesHook()
    for _ in range(2):
        batch = collate(options)([
            dict(inputs=torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8),
                 data_samples=ActionDataSample().set_gt_label(i)) for i in (0, 2)])
        send(batch, torch.device('meta'))
        outputs = model.train_step(batch, wrapper)
        for hook in (curves, scalars):
            hook.before_train_iter(runner, 0)
            hook.after_train_iter(runner, 0, batch, outputs)
    assert {'loss', 'top1_acc', 'top5_acc'} <= set(outputs)
    with pytest.raises((NotImplementedError, RuntimeError), match='meta'):
        hub.get_scalar('train/grad_norm')


def test_scalars_are_those_of_each_step():
    hub = MessageHub.get_instance('scalars')
    for i in range(3):
        hub.update_scalar('train/loss', torch.tensor(i / 3))
    hub.update_scalar('train/loss', 7.0)
    expected = [torch.tensor(i / 3).item() for i in range(3)] + [7.0]
    assert hub.log_scalars['train/loss'].data[0].tolist() == expected
    assert hub.state_dict()['log_scalars']['train/loss'].data[0].tolist() == expected


def test_accuracy_is_counted_as_by_mmaction():
    from mmaction.evaluation import top_k_accuracy
    head = MODELS.build(dict(type='I3DHead', num_classes=7, in_channels=4, topk=(1, 5)))
    scores = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    labels = [0, 1, 2, 3, 4, 5, 6, 0, 1]
    losses = head.loss_by_feat(scores, [ActionDataSample().set_gt_label(i) for i in labels])
    expected = top_k_accuracy(scores.numpy(), labels, (1, 5))
    assert [losses['top1_acc'].item(), losses['top5_acc'].item()] == expected
    assert 0 < expected[0] < expected[1] < 1
    assert losses['loss_cls'] == torch.nn.functional.cross_entropy(
        scores, torch.tensor(labels))


@pytest.mark.parametrize(('cores', 'processes', 'workers'), [
    (1, None, 1), (12, None, 11), (64, None, 16), (64, '8', 7), (8, '8', 1)])
def test_loading_processes_share_the_cores(monkeypatch, options, cores, processes, workers):
    monkeypatch.setattr(hardware, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(config, 'get_device', lambda: 'cuda', raising=False)
    monkeypatch.setattr(hardware, 'available_cores', lambda: cores)
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    if processes:
        monkeypatch.setenv('LOCAL_WORLD_SIZE', processes)
    cfg = load_config(DEMO_CONFIG, {**options, 'num_workers': None})
    assert cfg.train_dataloader.num_workers == cfg.val_dataloader.num_workers == workers
    assert cfg.train_dataloader.pin_memory and cfg.val_dataloader.pin_memory


def test_curves_are_drawn_every_30_seconds_and_at_the_end(monkeypatch, tmp_path):
    drawn, now = [], iter([100, 100, 120, 131, 131, 140]).__next__
    monkeypatch.setattr(hooks, 'plot_training_curves', lambda path, history, title:
                        drawn.append(len(history)))
    hook, runner = CurvesHook(), SimpleNamespace(
        work_dir=str(tmp_path), cfg=SimpleNamespace(filename='config.py'))
    monkeypatch.setattr(hooks, 'time', SimpleNamespace(monotonic=now))
    for epoch in range(1, 4):  # at 100, 120 and 131 seconds
        hook._curves.history.append(dict(epoch=epoch))
        hook.after_val(runner)
    hook.after_train(runner)
    assert drawn == [1, 3, 3]
    assert len(read_curves(tmp_path / 'training_curves.csv')) == 3


@pytest.mark.parametrize('device, free, stored, form', [
    ('cuda', 10e9, False, 'jpeg'), ('cuda', 9.9e9, False, None),
    ('cuda', 9.9e9, True, 'jpeg'), ('cpu', 1e12, True, None)])
def test_a_gpu_gets_a_cache_where_there_is_room(device, free, stored, form, tmp_path,
                                                monkeypatch):
    monkeypatch.setattr(hardware, 'get_device', lambda: device)
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: SimpleNamespace(free=free))
    folder = tmp_path / 'new' / 'cache'
    if stored:
        folder.mkdir(parents=True)
        (folder / 'a.jpegs').touch()
    cfg = load_config(PRIMITIVE, {'cache_dir': str(folder)})
    assert cfg.train_pipeline[0].cache == form
    assert unresolved(cfg).clip_cache == 'auto'
    assert config.default_clip_cache(None) is None
