"""What trainings and torch write is loaded as it was saved, in both formats."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.optim import scheduler
from mmengine.runner import Runner
from same_training import assert_same

from hri30_ext.checkpoints import load_from_local
from hri30_ext.errors import HRI30Error

FORMATS = {'zip': True, 'legacy': False}

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def trained(make):
    model = net()
    optimizer = make(model.parameters())
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer


def scheduled(name, **arguments):
    return getattr(scheduler, name)(trained(torch.optim.SGD), **arguments).state_dict()


def message_hub():
    hub = MessageHub.get_instance('honest')
    for value in (1., 2.):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float64(0.5))
    return hub.state_dict()


def averaged():
    model = ExponentialMovingAverage(net())
    model.update_parameters(net())
    return model.state_dict()


# Written out one by one: the table is what is tested.
HONEST = {
    'state dict': lambda: net().state_dict(),  # not in the order of the alphabet
    'AdamW': lambda: trained(torch.optim.AdamW).state_dict(),
    'MultiStepLR': lambda: scheduled('MultiStepLR', milestones=[1, 2, 2]),
    'CosineAnnealingLR': lambda: scheduled('CosineAnnealingLR', T_max=3),
    'message hub': message_hub,
    'empty history': HistoryBuffer,
    'moving average': averaged,
    'numbers of numpy': lambda: [np.float64(.5), np.float32(1), np.int64(3),
                                 np.bool_(True)],
    'arrays': lambda: [np.arange(3.), np.zeros((2, 3), 'i8').T, np.zeros(()),
                       np.zeros((0, 2), 'f4'), np.array([True])],
    'random state': lambda: [torch.get_rng_state(), random.getstate(),
                             np.random.RandomState(0).get_state()],
    'other values': lambda: [1j, 2**70, -2**70, float('inf'), None, True, b'\xff\0', 'é',
                             torch.float32, torch.device('cuda:0'), (), (1, (2, ))],
    'meta of mmcv': lambda: {
        'mmcv_version': '1.3.9', 'time': 'Mon Aug 2 2021', 'env_info': 'linux\nGCC: 7',
        'CLASSES': ('a', 'b'), 'PALETTE': None, 'epoch': 2, 'iter': 7, 'seed': np.int32(0),
        'hook_msgs': {'best_score': np.float64(0.5), 'best_ckpt': 'best.pth'}},
}


@pytest.mark.parametrize('kind', list(FORMATS))
@pytest.mark.parametrize('name', list(HONEST))
def test_honest_checkpoint_is_loaded_as_it_was_saved(name, kind, tmp_path):
    path, content = tmp_path / 'a.pth', {'content': HONEST[name]()}
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[kind])
    assert_same(load_from_local(str(path)), content)


def test_copies_of_what_was_loaded_are_of_numpy_and_mmengine(tmp_path):
    """Stand-ins are in no file that is written from a loaded checkpoint."""
    torch.save({'message_hub': message_hub(), 'array': np.arange(3)}, tmp_path / 'a.pth')
    torch.save(load_from_local(str(tmp_path / 'a.pth')), tmp_path / 'b.pth')
    assert b'stand_ins' not in (tmp_path / 'b.pth').read_bytes()
    assert load_from_local(str(tmp_path / 'b.pth'))['array'].tolist() == [0, 1, 2]


NOT_READ = {
    'other object': lambda: Path('a'),
    'array of objects': lambda: np.array([None]),
    'structured array': lambda: np.zeros(1, 'f8,i4'),
    'array with another order of bytes': lambda: np.zeros(1, '>f8'),
    'text of numpy': lambda: np.str_('a'),
}


@pytest.mark.parametrize('name', list(NOT_READ))
def test_other_content_is_refused(name, tmp_path):
    torch.save({'a': NOT_READ[name]()}, tmp_path / 'a.pth')
    with pytest.raises(HRI30Error, match=r'a\.pth: refused'):
        load_from_local(str(tmp_path / 'a.pth'))


class TinyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, *inputs, mode):
        outputs = self.layer(torch.stack(inputs))
        return {'loss': outputs.square().mean()} if mode == 'loss' else list(outputs)


class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'mean': float(torch.stack(results).mean())}


def test_stock_checkpoint_is_loaded_and_resumed(tmp_path):
    def runner_of(epochs, **resuming):  # of stock mmengine
        loader = dict(dataset=[torch.ones(2)] * 4, batch_size=2,
                      sampler=dict(type='DefaultSampler', shuffle=True),
                      collate_fn=dict(type='pseudo_collate'))
        return Runner(
            TinyModel(), str(tmp_path), loader, loader, experiment_name=f'{epochs}',
            train_cfg=dict(by_epoch=True, max_epochs=epochs), val_cfg={},
            val_evaluator=Evaluator(Mean()), default_scope='mmengine',
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=dict(type='CosineAnnealingLR', T_max=3), **resuming,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', rule='less',
                                               save_best='mean')))

    runner_of(1).train()
    path = str(tmp_path / 'epoch_1.pth')
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer|getattr'):
        torch.load(path, weights_only=True)
    checkpoint = load_from_local(path)
    assert {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'} == set(
        checkpoint)
    loss = checkpoint['message_hub']['log_scalars']['train/loss']
    assert type(loss) is HistoryBuffer and len(loss.data[0]) == 2 and loss.mean() > 0
    runner = runner_of(3, resume=True, load_from=path)
    runner.train()
    assert (runner.epoch, runner.iter) == (3, 6)
    _, counts = runner.message_hub.get_scalar('train/loss').data
    assert len(counts) == 6
