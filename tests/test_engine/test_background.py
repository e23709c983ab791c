"""Checkpoints are written in a thread while the next epoch runs."""

import copy
import errno
import os
import signal
import threading

import pytest
import torch
from conftest import DEMO_CONFIG
from mmengine.hooks import Hook
from same_training import assert_same, load

from hri30_ext.apis import train
from hri30_ext.errors import HRI30Error
from hri30_ext.utils.background import Background, later, wait


def test_work_is_done_in_order_on_copies_and_not_after_a_failure():
    gate, done, seen = threading.Event(), [], []
    later(done.append, 'now')
    assert done == ['now']
    with pytest.raises(ZeroDivisionError), Background():
        later(gate.wait, 60)
        later(seen.append, done)
        wait(until_done=False)
        done.append('changed')
        gate.set()
        wait()
        assert seen == [['now']]
        later(divmod, 1, 0)
        later(seen.append, 'after a failure')
    assert seen == [['now']]


class Watch(Hook):
    """Keeps the state at the end of epoch 1; writing begins after the next step."""

    priority = 'LOWEST'

    def __init__(self, folder):
        self.folder, self.stepped, self.found = folder, threading.Event(), []

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == 1:
            self.state = copy.deepcopy(dict(
                state_dict=runner.model.state_dict(),
                optimizer=runner.optim_wrapper.state_dict(),
                param_schedulers=[schedule.state_dict()
                                  for schedule in runner.param_schedulers]))
            self.iter = runner.iter

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == 1:
            self.found.append(list(self.folder.glob('[!.]*.pth')))
            self.stepped.set()


def test_the_next_epoch_runs_while_the_last_is_saved_as_it_was(
        options, tmp_path, monkeypatch):
    watch, save = Watch(tmp_path), torch.save

    def save_late(*args):
        assert watch.stepped.wait(60)
        save(*args)

    monkeypatch.setattr(torch, 'save', save_late)
    train(DEMO_CONFIG, work_dir=str(tmp_path), options=options, hooks=[watch])
    assert watch.found[0] == []
    saved, last = load(tmp_path / 'epoch_1.pth'), load(tmp_path / 'epoch_2.pth')
    for state in watch.state['param_schedulers']:
        for name in [name for name, value in state.items() if callable(value)]:
            del state[name]
    for name, state in watch.state.items():
        assert_same(state, saved[name], name)
    assert not torch.equal(*(one['state_dict']['cls_head.fc_cls.weight']
                             for one in (saved, last)))
    losses = saved['message_hub']['log_scalars']['train/loss']['log']
    assert saved['meta']['iter'] == len(losses) == watch.iter
    assert len(saved['curves']['history']) == 1 and len(last['curves']['history']) == 2


class Stop(Hook):
    """Asks the training to stop when the second epoch was handed over."""

    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize('hooks', [[], [Stop()]], ids=['runs', 'stopped'])
def test_full_disk_in_the_thread_is_the_error_of_the_training(
        options, tmp_path, monkeypatch, heeded_signals, hooks):
    save = torch.save

    def fail(checkpoint, file):
        if os.path.basename(file.name).startswith('.epoch_2-'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(checkpoint, file)

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(HRI30Error) as error:
        train(DEMO_CONFIG, work_dir=str(tmp_path), hooks=hooks,
              options={**options, 'max_epochs': 4})
    first, second = str(error.value).split('\n')
    assert first.startswith(f'{tmp_path / "epoch_2.pth"}: cannot be written: the disk is')
    assert second.startswith(f'{tmp_path / "epoch_1.pth"} is whole')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert not (tmp_path / 'epoch_3.pth').exists()
    assert not list(tmp_path.glob('.*.pth'))
    # As it says: after some room was made, it goes on.
    monkeypatch.setattr(torch, 'save', save)
    train(DEMO_CONFIG, work_dir=str(tmp_path), resume=True, options=options)
    assert load(tmp_path / 'epoch_2.pth')['meta']['epoch'] == 2
