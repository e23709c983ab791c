"""Which checkpoints are believed."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG, PRIMITIVE
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import amp

from hri30_ext import hardware
from hri30_ext.checkpoints import META_KEY
from hri30_ext.config import load_config
from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.deploy.torch_backend import TorchBackend
from hri30_ext.engine import HRI30Runner
from hri30_ext.engine import runner as runner_module
from hri30_ext.engine.runner import fit_weights
from hri30_ext.errors import HRI30Error

STOCK = ("_base_ = 'mmaction::recognition/slowonly/"
         "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py'\n")


@pytest.fixture(scope='module')
def kinetics_checkpoint(tmp_path_factory):
    """A checkpoint of exactly the published form: the stock model with 400 classes."""
    folder = tmp_path_factory.mktemp('kinetics')
    (folder / 'stock.py').write_text(STOCK)
    cfg = Config.fromfile(str(folder / 'stock.py'))
    cfg.model.backbone.pretrained = None
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    path = folder / 'slowonly_kinetics400.pth'
    torch.save({'state_dict': model.state_dict(),
                'meta': {'epoch': 256, 'dataset_meta': {'classes': ['abseiling'] * 400}}},
               path)
    return path


def make_runner(cfg, work_dir, **changes):
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict(changes)
    return HRI30Runner.from_cfg(cfg)


def test_kinetics_backbone_is_loaded_and_the_head_is_new(
        kinetics_checkpoint, clips_root, tmp_path, capfd):
    cfg = load_config(PRIMITIVE, {'data_root': str(clips_root)})
    runner = make_runner(cfg, tmp_path)
    head = {name: tensor.clone() for name, tensor in runner.model.state_dict().items()
            if name.startswith('cls_head')}
    capfd.readouterr()
    runner.load_checkpoint(str(kinetics_checkpoint))
    stock = torch.load(kinetics_checkpoint, weights_only=True)['state_dict']
    backbone = 0
    for name, tensor in runner.model.state_dict().items():
        if name.startswith('backbone'):
            assert torch.equal(tensor, stock[name]), name
            backbone += 1
        elif name in head:
            assert torch.equal(tensor, head[name]), name
    assert backbone == sum(name.startswith('backbone') for name in stock) > 300
    assert tuple(head['cls_head.fc_cls.weight'].shape) == (30, 2048)
    lines = [line for line in capfd.readouterr().out.splitlines()
             if 'Loads checkpoint by' not in line]
    lines += (tmp_path / runner.timestamp / f'{runner.timestamp}.log'
              ).read_text().splitlines()
    said = [line for line in lines if 'head new' in line]
    assert said and f'{backbone} backbone tensors' in said[0]
    assert not [line for line in lines if 'do not match' in line]


def test_stock_checkpoint_is_not_tested_as_if_it_were_ours(
        kinetics_checkpoint, tmp_path):
    cfg = load_config(PRIMITIVE)
    cfg.update(train_dataloader=None, train_cfg=None, optim_wrapper=None,
               param_scheduler=None, val_dataloader=None, val_cfg=None,
               val_evaluator=None)
    runner = make_runner(cfg, tmp_path)
    with pytest.raises(HRI30Error, match='is of another model: 2 weights do not fit'):
        runner.load_checkpoint(str(kinetics_checkpoint))


class Tiny(torch.nn.Module):
    def __init__(self, classes=2, width=3):
        super().__init__()
        self.backbone = torch.nn.Linear(width, width)
        self.cls_head = torch.nn.Linear(width, classes)


def test_same_number_of_other_classes_is_refused():
    swapped = list(HRI30_CLASSES)
    swapped[27], swapped[28] = swapped[28], swapped[27]
    checkpoint = {'state_dict': Tiny(30).state_dict(),
                  'meta': {'dataset_meta': {'classes': swapped}}}
    with pytest.raises(HRI30Error, match='id 28: WalkingWithDrill in the checkpoint'):
        fit_weights(checkpoint, Tiny(30), 'swapped.pth', new_head_allowed=False,
                    classes=HRI30_CLASSES)


def test_frames_that_were_normalised_in_another_way_are_refused():
    model = Tiny()
    model.data_preprocessor = torch.nn.Module()
    for name in ('mean', 'std'):
        model.data_preprocessor.register_buffer(name, torch.full((3, 1, 1), 5.0))
    for mean in (5.0, 6.0):
        checkpoint = dict(state_dict={**Tiny().state_dict()}, meta={
            META_KEY: dict(mean=[mean] * 3, std=[5.0] * 3)})
        with pytest.raises(HRI30Error, match='x.pth') if mean == 6.0 else (
                contextlib.nullcontext()):
            fit_weights(checkpoint, model, 'x.pth', new_head_allowed=True)


@pytest.mark.parametrize('content, message', [
    ([1, 2], 'holds a list'), ({'meta': {}}, 'another model'),
    ({'state_dict': Tiny(width=4).state_dict()}, 'another model')])
def test_another_backbone_is_refused_even_for_fine_tuning(content, message):
    with pytest.raises(HRI30Error, match=rf'x\.pth: .*{message}'):
        fit_weights(content, Tiny(), 'x.pth', new_head_allowed=True)


def test_weights_of_a_wrapped_model_fit():
    weights = {f'module.{name}': tensor for name, tensor in Tiny().state_dict().items()}
    message = fit_weights({'state_dict': weights}, Tiny(), 'x.pth', new_head_allowed=False)
    assert message == 'Loaded x.pth: 2 backbone tensors, and the head'


def test_computed_buffer_may_be_missing_and_batch_statistics_may_not():
    model = Tiny()
    model.backbone = torch.nn.BatchNorm1d(3)
    model.backbone.register_buffer('pos_embed', torch.ones(3))
    weights = model.state_dict()
    del weights['backbone.pos_embed']
    fit_weights({'state_dict': dict(weights)}, model, 'x.pth', new_head_allowed=False)
    del weights['backbone.running_var']
    with pytest.raises(HRI30Error, match=r'running_var'):
        fit_weights({'state_dict': dict(weights)}, model, 'x.pth', new_head_allowed=True)
    weights['backbone.pos_embed'] = torch.ones(4)
    with pytest.raises(HRI30Error, match=r'pos_embed'):
        fit_weights({'state_dict': dict(weights)}, model, 'x.pth', new_head_allowed=True)


@pytest.mark.parametrize(('precision', 'expected'), [
    ('bf16', torch.bfloat16), ('fp16', torch.float16)])
def test_validation_and_test_compute_in_the_precision_of_the_training(
        precision, expected, options, tmp_path, monkeypatch):
    """On CUDA, mmengine's loops would take torch's default, which is fp16."""
    for module in (hardware, runner_module, amp):
        monkeypatch.setattr(module, 'get_device', lambda: 'cuda', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_, **__: True)
    used = []
    monkeypatch.setattr(torch, 'autocast', lambda device_type, dtype, **_: (
        used.append((device_type, dtype)) or contextlib.nullcontext()))
    before = torch.get_autocast_dtype('cuda')
    try:
        torch.set_autocast_dtype('cuda', torch.float16)
        cfg = load_config(DEMO_CONFIG, {**options, 'precision': precision})
        runner = HRI30Runner(torch.nn.Linear(1, 1), str(tmp_path), cfg=cfg,
                             experiment_name=f'precision-{tmp_path.name}')
        with amp.autocast(enabled=cfg.val_cfg.fp16):
            pass
        backend = SimpleNamespace(
            device=torch.device('cpu'), dtype=hardware.autocast_dtype(cfg, 'cpu'),
            parts={'whole': torch.nn.Identity()})
        TorchBackend.run(backend, 'whole', np.zeros(1))
        assert used == [('cuda', expected), ('cpu', torch.bfloat16)]
        assert hardware.autocast_dtype(cfg, 'cuda:0') == expected
        log = Path(runner._log_dir, f'{runner.timestamp}.log').read_text()
        assert f'compute in {str(expected)[6:]}' in log
    finally:
        torch.set_autocast_dtype('cuda', before)


def test_the_option_is_as_deterministic_as_the_flag(tmp_path, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', '')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')
    try:
        HRI30Runner(torch.nn.Linear(1, 1), str(tmp_path),
                    randomness=dict(seed=1, deterministic=True))
        assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


@pytest.mark.parametrize('classes', [
    ['c', 'a', 'b'], ['b', 'new', 'a'], ['a', 'b', 'c', 'new'], ['x', 'y', 'z']])
def test_the_head_of_an_own_checkpoint_is_mapped_by_class_name(classes):

    def build(number):
        model = torch.nn.Module()
        model.backbone = torch.nn.Linear(2, 2)
        model.cls_head = MODELS.build(dict(type='I3DHead', num_classes=number,
                                           in_channels=5))
        return model

    old, model = build(3), build(len(classes))
    torch.nn.init.normal_(model.cls_head.fc_cls.bias)
    torch.nn.init.normal_(old.cls_head.fc_cls.bias)
    checkpoint = dict(state_dict=old.state_dict(),
                      meta=dict(dataset_meta=dict(classes=['a', 'b', 'c'])))
    message = fit_weights(checkpoint, model, 'own.pth', new_head_allowed=True,
                          classes=classes)
    for name in ('cls_head.fc_cls.weight', 'cls_head.fc_cls.bias'):
        for i, one in enumerate(classes):
            expected = (old.state_dict()[name]['abc'.index(one)] if one in 'abc'
                        else model.state_dict()[name][i])
            assert torch.equal(checkpoint['state_dict'][name][i], expected), (name, one)
    if classes[0] == 'x':
        assert 'head new: cls_head.fc_cls.weight (3, 5)' in message
        return
    known = f'{len(set(classes) & {*"abc"})} of its {len(classes)} classes by name'
    assert message.endswith(f'{known}, the others new')
