"""Each part of the recipe does what its setting says."""

import json
import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmaction.models.losses import CrossEntropyLoss
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, set_random_seed

from hri30_ext.apis import train
from hri30_ext.apis.common import describe_device, explain_out_of_memory
from hri30_ext.config import load_config
from hri30_ext.engine import ClassWeightsHook
from hri30_ext.errors import HRI30Error


def run(folder, options, **changes):
    """Trains; returns the last checkpoint and the logged training steps."""
    resume = changes.pop('resume', False)
    train(DEMO_CONFIG, work_dir=str(folder), resume=resume,
          options={**options, 'default_hooks.logger.interval': 1, **changes})
    last = (folder / 'last_checkpoint').read_text()
    log = sorted(folder.glob('*/vis_data/scalars.json'))[-1]
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    return torch.load(last, weights_only=True), [step for step in steps if 'lr' in step]


@pytest.mark.parametrize('decay, warmup, expected', [
    ('constant', 0, [1] * 8),
    # 2 epochs of warm-up of 2 steps each from a tenth: 0.1, 0.4, 0.7, then 1.
    ('constant', 2, [.1, .4, .7, 1, 1, 1, 1, 1]),
    ('step', 2, [.1, .4, .7, 1, .5, .5, .5, .5]),
    ('exponential', 2, [.1, .4, .7 * .5, .5, .25, .25, .125, .125]),
    ('cosine', 2, [w * (1 + math.cos(math.pi * i / 8)) / 2 for i, w in
                   enumerate([.1, .4, .7, 1, 1, 1, 1, 1])]),
])
def test_decay_after_a_linear_warm_up(options, tmp_path, decay, warmup, expected):
    _, steps = run(tmp_path, options, decay=decay, max_epochs=4, warmup_epochs=warmup,
                   lr=0.01, **{'decays.step.step_size': 2, 'decays.step.gamma': .5,
                      'decays.exponential.gamma': .5, 'early_stopping': None})
    assert [step['lr'] / 0.01 for step in steps] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('name, kind, chosen, defaults', [
    ('sgd', torch.optim.SGD, {}, dict(momentum=0.9, weight_decay=1e-4)),
    ('sgd', torch.optim.SGD, dict(momentum=0.8, weight_decay=0), {}),
    ('adam', torch.optim.Adam, {}, dict(weight_decay=1e-4)),
    ('adamw', torch.optim.AdamW, dict(betas=(0.8, 0.9)), dict(weight_decay=0.05))])
def test_optimizers(name, kind, chosen, defaults):
    cfg, settings = load_config(PRIMITIVE, {'optimizer': name, 'lr': 0.02, **chosen}), {
        **defaults, **chosen}
    optimizer = build_optim_wrapper(torch.nn.Sequential(torch.nn.Linear(2, 2)),
                                    cfg.optim_wrapper).optimizer
    assert type(optimizer) is kind and optimizer.defaults['lr'] == 0.02
    assert {key: optimizer.defaults[key] for key in settings} == settings


def test_accumulated_batches_make_the_step_of_a_large_one(options, tmp_path):
    """Two batches of 3 and one of 6 give the same gradient without BatchNorm's batch
    statistics and without augmentation."""
    options = {**options, 'optimizer': 'sgd', 'lr': 0.1, 'max_epochs': 1, 'flip': None,
               'random_crop': None, 'clip_grad': None, 'precision': 'fp32',
               'model.backbone.norm_eval': True, 'model.cls_head.dropout_ratio': 0,
               'warmup_epochs': 0, 'decay': 'constant'}
    one = run(tmp_path / 'one', options, batch_size=6)[0]['state_dict']
    two = run(tmp_path / 'two', options, batch_size=3, accumulate=2)[0]['state_dict']
    each = run(tmp_path / 'each', options, batch_size=3)[0]['state_dict']
    key = 'cls_head.fc_cls.weight'
    torch.testing.assert_close(one[key], two[key], atol=2e-5, rtol=1e-3)
    assert (one[key] - each[key]).abs().max() > 1e-3


def test_clipping_bounds_the_step(options, tmp_path):
    options = {**options, 'optimizer': 'sgd', 'lr': 1.0, 'max_epochs': 1, 'batch_size': 6,
               'warmup_epochs': 0, 'decay': 'constant', 'precision': 'fp32',
               'optimizers.sgd.weight_decay': 0}

    def length(folder, **changes):
        state = run(tmp_path / folder, options, **changes)[0]['state_dict']
        return torch.cat([(state[name] - init[name]).flatten() for name in names]).norm()

    init = run(tmp_path / 'init', options, lr=0.)[0]['state_dict']
    names = [name for name in init if name.endswith(('weight', 'bias'))]
    assert length('clipped', **{'clip_grad.max_norm': .01}) == pytest.approx(.01, rel=.02)
    assert length('free', clip_grad=None) > 0.1


def head_loss(cfg, scores, labels):
    head = MODELS.build(cfg.model.cls_head)
    samples = []
    for label in labels:
        sample = ActionDataSample()
        samples.append(sample.set_gt_label(label))
    return head, lambda: head.loss_by_feat(scores, samples)['loss_cls'].item()


def test_label_smoothing_is_torchs():
    scores = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = [0, 2, 1, 1, 0]
    cfg = load_config(PRIMITIVE, {'classes': CLASSES, 'label_smoothing': 0.1})
    _, loss = head_loss(cfg, scores, labels)
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(labels),
                                                 label_smoothing=0.1)
    assert loss() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights_are_those_of_the_training_split():
    clips = [dict(label=label) for label in (0, 0, 0, 1, 1, 4)]
    dataset = MagicMock(classes='ABCDEF', get_data_info=clips.__getitem__,
                        __len__=lambda self: len(clips))
    loss = CrossEntropyLoss()
    ClassWeightsHook().before_train(SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset), logger=MagicMock(),
        model=SimpleNamespace(cls_head=SimpleNamespace(loss_cls=loss))))
    # 6 clips, 3 classes that occur: 6 / (3 * 3), 6 / (3 * 2), 6 / (3 * 1).
    assert loss.class_weight.tolist() == pytest.approx([2 / 3, 1, 1, 1, 2, 1])


@pytest.mark.parametrize('weights', [None, [1., 2., 4.]])
def test_mixed_labels_with_smoothing_and_class_weights(weights):
    """A row of shares: the mean of the classes' losses, by share and by weight."""
    cfg = load_config(PRIMITIVE, {'classes': CLASSES, 'label_smoothing': 0.1})
    scores = torch.tensor([[0., 0., 0.], [math.log(2), 0., 0.]])
    head, loss = head_loss(cfg, scores, [torch.tensor([.7, .3, 0.]),
                                         torch.tensor([0., 0., 1.])])
    head.loss_cls.class_weight = weights and torch.tensor(weights)
    # Smoothed shares; -log of the probabilities 1/3 and 1/2, 1/4, 1/4.
    shares = np.array([[.63, .27, 0], [0, 0, .9]]) + .1 / 3
    costs = np.log([[3, 3, 3], [2, 4, 4]])
    by = shares * (weights or [1, 1, 1])
    assert loss() == pytest.approx((by * costs).sum() / by.sum(), rel=1e-6)


@pytest.mark.parametrize('mixing', ['mixup', 'cutmix', 'both'])
def test_mixing_blends_clips_and_their_labels_by_the_same_share(mixing):
    cfg = load_config(PRIMITIVE, {'classes': CLASSES, 'mixing': mixing})
    preprocessor = MODELS.build({**cfg.model.data_preprocessor, 'mean': [0], 'std': [1]})
    set_random_seed(0)
    # Clip i is full of 100 i and has the label i: its mean tells the shares.
    clips_NCTHW = torch.arange(3.).mul(100).view(3, 1, 1, 1, 1, 1).expand(3, 1, 3, 2, 8, 8)
    batch = preprocessor(dict(inputs=clips_NCTHW.clone(), data_samples=[
        ActionDataSample().set_gt_label(i) for i in range(3)]), training=True)
    rows = torch.stack([sample.gt_label for sample in batch['data_samples']])
    assert rows.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert ((rows > 0) & (rows < 1)).any()
    means = batch['inputs'].flatten(1).mean(1)
    assert means.tolist() == pytest.approx((rows @ torch.tensor([0., 100, 200])).tolist())
    still = preprocessor(dict(inputs=clips_NCTHW, data_samples=None), training=False)
    assert torch.equal(still['inputs'], clips_NCTHW)


def test_averaged_weights_are_validated_and_saved(options, tmp_path):
    state, _ = run(tmp_path, options, weight_averaging='ema')
    key = 'cls_head.fc_cls.weight'
    averaged, raw = state['state_dict'][key], state['ema_state_dict'][f'module.{key}']
    assert state['ema_state_dict']['steps'] == 4 and not torch.equal(averaged, raw)


def test_averages_follow_steps_and_include_statistics(options, tmp_path):
    options = {**options, 'weight_averaging': 'ema', 'batch_size': 3, 'accumulate': 2}
    first, _ = run(tmp_path / 'first', options, max_epochs=1)
    second, steps = run(tmp_path / 'second', options, max_epochs=2)
    counts = [state['ema_state_dict']['steps'].item() for state in (first, second)]
    assert counts[1] == 2 * counts[0] == len(steps) // 2
    key = 'backbone.conv1.bn.running_mean'
    assert not torch.equal(second['state_dict'][key],
                           second['ema_state_dict'][f'module.{key}'])


def test_averaging_starts_from_what_fine_tuning_starts_from(options, tmp_path):
    """The checkpoint has a head for other classes, which no average may take up."""
    source, _ = run(tmp_path / 'a', options, max_epochs=1)
    weights = source['state_dict']
    weights['cls_head.fc_cls.weight'] = torch.zeros(7, 128)
    weights['cls_head.fc_cls.bias'] = torch.zeros(7)
    torch.save({'state_dict': weights}, tmp_path / 'other.pth')
    state, _ = run(tmp_path / 'b', options, max_epochs=1, lr=0.,
                   load_from=str(tmp_path / 'other.pth'), weight_averaging='ema')
    assert state['state_dict']['cls_head.fc_cls.weight'].shape == (3, 128)
    key = 'backbone.layer4.0.conv1.conv.weight'
    torch.testing.assert_close(state['state_dict'][key], weights[key])


def test_bf16_trains_and_fp16_says_what_it_needs(options, tmp_path, monkeypatch):
    state, steps = run(tmp_path, options, precision='bf16', max_epochs=1)
    assert all(tensor.dtype != torch.bfloat16 for tensor in state['state_dict'].values())
    assert all(np.isfinite(step['loss']) for step in steps)
    monkeypatch.setattr('hri30_ext.apis.common.get_device', lambda: 'cpu')
    with pytest.raises(HRI30Error, match='precision=fp16: needs CUDA(.|\n)*bf16'):
        run(tmp_path / 'fp16', options, precision='fp16')


def first_batch(loader, seed):
    set_random_seed(seed)
    batch = next(iter(Runner.build_dataloader(loader, seed=seed)))
    return batch['inputs']


def test_augmentation_is_seeded_and_testing_has_none(clips_root):
    options = {'data_root': str(clips_root), 'classes': CLASSES, 'num_workers': 0,
               'split.val_groups': 1, 'batch_size': 6, 'input_size': (32, 32)}
    cfg = load_config(PRIMITIVE, options)
    assert torch.equal(first_batch(cfg.train_dataloader, 3),
                       first_batch(cfg.train_dataloader, 3))
    assert not torch.equal(first_batch(cfg.train_dataloader, 3),
                           first_batch(cfg.train_dataloader, 4))
    assert torch.equal(first_batch(cfg.val_dataloader, 3),
                       first_batch(cfg.val_dataloader, 4))
    random = {'ClipColorJitter', 'CropResize', 'LabelAwareFlip', 'Flip'}
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert not random & {step.type for step in loader.dataset.pipeline}
    assert not random & {step.type for step in cfg.test_pipeline}
    off = load_config(PRIMITIVE, {**options, 'flip': None, 'color_jitter': None,
                                  'random_crop': None})
    steps = {step.type: step for step in off.train_dataloader.dataset.pipeline}
    assert random & set(steps) == {'CropResize'}
    assert steps['CropResize'].area_range is None


def test_tensorboard_gets_the_curves(options, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run(tmp_path, options, tracker='tensorboard', strategy='backbone_tenth', max_epochs=1)
    events = EventAccumulator(str(next(tmp_path.glob('*/vis_data'))))
    events.Reload()
    assert {'loss', 'top1', 'backbone_lr', 'cls_head_lr'} <= set(events.Tags()['scalars'])


@pytest.mark.parametrize('error', [
    lambda: torch.empty(10 ** 15), lambda: (_ for _ in ()).throw(MemoryError()),
    lambda: (_ for _ in ()).throw(torch.OutOfMemoryError('CUDA out of memory.')),
    lambda: (_ for _ in ()).throw(RuntimeError(
        'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')),
    lambda: (_ for _ in ()).throw(RuntimeError('cuDNN: CUDNN_STATUS_ALLOC_FAILED'))])
def test_out_of_memory_names_the_batch_and_what_to_set(error):
    cfg = load_config(PRIMITIVE, {'batch_size': 12, 'precision': 'fp32'})
    with (pytest.raises(HRI30Error, match='batch_size=12 clips of 8 frames of 224 x 224')
          as caught, explain_out_of_memory(cfg, 'train_dataloader')):
        next(iter(error()))
    assert 'batch_size=6 accumulate=2' in str(caught.value)
    assert 'precision=bf16' in str(caught.value)
    assert 'model.backbone.with_cp=True' in str(caught.value)


def test_unused_gpus_are_named(monkeypatch):
    monkeypatch.setattr('hri30_ext.apis.common.get_device', lambda: 'cuda')
    monkeypatch.setattr('torch.cuda.get_device_name', lambda: 'a GPU')
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    assert describe_device().startswith('a GPU; 3 more GPUs are visible and unused')
    monkeypatch.setattr('torch.cuda.device_count', lambda: 1)
    assert describe_device() == 'a GPU'


def test_other_errors_keep_their_traceback():
    cfg = load_config(PRIMITIVE)
    with (pytest.raises(RuntimeError, match='shape'),
          explain_out_of_memory(cfg, 'train_dataloader')):
        raise RuntimeError('shape mismatch')
