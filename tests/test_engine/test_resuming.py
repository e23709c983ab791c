"""A training that is stopped ends with the very weights of one that was not."""

import logging
import os
import resource
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from same_training import STATE, assert_same, assert_same_training, load

from hri30_ext.apis import train
from hri30_ext.apis.training import explain_full_disk
from hri30_ext.engine import ValidatedCheckpointHook
from hri30_ext.engine.checkpoint import remove_leftovers
from hri30_ext.engine.recovery import find_newest, lock_folder
from hri30_ext.engine.runner import _end_on_full_disk
from hri30_ext.engine.signals import StopRequest
from hri30_ext.errors import HRI30Error, Interrupted
from hri30_ext.utils.fileio import DiskFull, atomic_path, atomic_write_text

pytestmark = pytest.mark.usefixtures('heeded_signals')
SMALL = {'batch_size': 2, 'weight_averaging': 'ema', 'leak_check': None, 'report': False}


class Crash(Exception):
    """Stands for whatever ends a program without asking it."""


@HOOKS.register_module(force=True)
class StopAt(Hook):
    """Sends signals to this process and those that load for it, or crashes.

    Args:
        iteration (int): How many were trained.
        number (int, optional): Of the signal; None: crashes.
        stage (str): ``train``, or ``val``: in the validation after that iteration, or
            ``start``: before the first iteration of the process.
    """

    priority = 'LOWEST'

    def __init__(self, iteration, number=int(signal.SIGTERM), stage='train'):
        self.iteration, self.number, self.stage = iteration, number, stage

    def before_train_epoch(self, runner):
        if self.stage == 'start':
            self.stop(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.stage == 'train' and runner.iter + 1 == self.iteration:
            self.stop(runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.stage == 'val' and runner.iter == self.iteration:
            self.stop(runner)

    def stop(self, runner):
        if self.number is None:
            raise Crash
        workers = getattr(runner.train_dataloader._iterator, '_workers', ())
        # From elsewhere: from this process, workers take SIGTERM as the end.
        subprocess.run(['kill', f'-{self.number}', str(os.getpid()),
                        *(str(worker.pid) for worker in workers)], check=True)


def run(folder, options, stop=None, resume=False):
    """Trains; returns the message of the stop where one is asked for."""
    if not stop:
        train(DEMO_CONFIG, work_dir=str(folder), options=options, resume=resume)
        return None
    options = {**options, 'default_hooks.stop': dict(type='StopAt', **stop)}
    with pytest.raises((Interrupted, Crash)) as caught:
        train(DEMO_CONFIG, work_dir=str(folder), options=options, resume=resume)
    if stop.get('number', 0) is not None:
        assert caught.value.exit_code == 128 + stop.get('number', signal.SIGTERM)
    return str(caught.value)


@pytest.fixture
def options(options):
    """Three batches an epoch, of a model with dropout and averaged weights."""
    return {**options, **SMALL, 'max_epochs': 3}


@pytest.fixture(scope='module')
def trained(clips_root, tmp_path_factory):
    """A work folder after two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    run(folder, {**SMALL, 'data_root': str(clips_root), 'max_epochs': 2, 'classes': CLASSES,
                 'cache_dir': str(folder / 'cache'), 'num_frames': 4, 'num_workers': 0,
                 'input_size': (32, 32), 'split.val_groups': 1, 'precision': 'fp32'})
    return folder


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / 'work'))


# ---- The same weights -------------------------------------------------------------------


UNFREEZING = {'strategy': 'progressive', 'strategies.progressive.schedule.schedule': [
    dict(begin=0, parts=['cls_head']), dict(begin=1, parts=['backbone'])]}


@pytest.mark.parametrize('changes, stop', [
    # The step of three batches, of four in an epoch, is gathered over two epochs.
    ({'accumulate': 2, 'optimizer': 'sgd'}, dict(iteration=5)),
    ({}, dict(iteration=6, stage='val', number=int(signal.SIGINT))),
    ({'save_minutes': 1e-9}, dict(iteration=5, number=None)),
    pytest.param({'cache_features': 'augmented', 'strategy': 'frozen_backbone'},
                 dict(iteration=2), marks=pytest.mark.slow),
    pytest.param(UNFREEZING, dict(iteration=5), marks=pytest.mark.slow),
    pytest.param({'num_workers': 2, 'precision': 'bf16'}, dict(iteration=4),
                 marks=pytest.mark.slow),
], ids=['accumulate', 'validation', 'crash', 'features', 'parts', 'workers'])
def test_stopped_and_not_stopped_are_the_same(options, tmp_path, capfd, changes, stop):
    options.update(changes)
    run(tmp_path / 'whole', options)
    run(tmp_path / 'stopped', options, stop)
    assert (tmp_path / 'stopped' / 'within_epoch.pth').is_file()
    # With the seed of the checkpoint, whatever the config has now.
    run(tmp_path / 'stopped', {**options, 'seed': None}, resume=True)
    assert 'with these settings' not in capfd.readouterr().out
    assert_same_training(tmp_path / 'whole' / 'epoch_3.pth',
                         tmp_path / 'stopped' / 'epoch_3.pth')
    # Nothing is left of the stop, nor of what was being written.
    assert [path.name for path in (tmp_path / 'stopped').glob('*within*')] == []
    assert [path.name for path in (tmp_path / 'stopped').glob('.*')] == []


def test_the_comparison_sees_a_difference(trained, tmp_path):
    """Were it blind, it would pass whatever is restored."""
    one = tmp_path / 'one.pth'
    for name in STATE:
        checkpoint = load(trained / 'epoch_1.pth')
        torch.save(checkpoint, one)
        assert_same_training(trained / 'epoch_1.pth', one)
        checkpoint[name] = [checkpoint[name]]
        torch.save(checkpoint, one)
        with pytest.raises((AssertionError, TypeError)):
            assert_same_training(trained / 'epoch_1.pth', one)
    for other in ([{'a': torch.tensor([1, 1 + 2e-7])}], [{'a': torch.ones(2).double()}],
                  [{'b': torch.ones(2)}], []):
        with pytest.raises(AssertionError):
            assert_same([{'a': torch.ones(2)}], other)


# ---- Checkpoints of another form --------------------------------------------------------


def change(name, key, value):
    return lambda checkpoint: checkpoint[name].update({key: value})


def add_gradient(checkpoint):
    """Of a parameter that no model has, in a training of as many epochs as now."""
    checkpoint['progress']['gradients'] = {'no': torch.ones(2)}
    checkpoint['message_hub']['runtime_info'].update(max_epochs=3, max_iters=9)


OTHER_FORM = r'does not fit this config \('


@pytest.mark.parametrize('alter, message', [
    (lambda checkpoint: checkpoint.pop('meta'), 'cannot be resumed from'),
    (change('meta', 'seed', 'x'), 'other.pth: '),
    (change('meta', 'dataset_meta', {'classes': ['a'] * 3 + ['b']}), 'other.pth: '),
    (lambda checkpoint: checkpoint.update(state_dict=5), 'other.pth: '),
    (change('message_hub', 'log_scalars', None), 'other.pth: '),
    (lambda checkpoint: checkpoint.update(optimizer='x'), 'other.pth: '),
    (change('optimizer', 'state', [1]), 'other.pth: '),
    (change('optimizer', 'param_groups', []), 'other.pth: '),
    (change('progress', 'clips', '3'), OTHER_FORM),
    (change('progress', 'stage', 'tomorrow'),
     rf'{OTHER_FORM}ValidationError: .* at `\$\.stage`'),
    (change('progress', 'randomness', [{'torch': 5}]), OTHER_FORM),
    (change('progress', 'randomness', [{}]), rf"{OTHER_FORM}KeyError: 'python'"),
    (add_gradient, rf"{OTHER_FORM}KeyError: 'no'"),
    (change('early_stopping', 'wait_count', None), OTHER_FORM),
    (lambda checkpoint: checkpoint.update(skipped_videos={'a.avi': 5}), OTHER_FORM),
    (change('curves', 'history', [{'epoch': 1, 'loss': 'x'}]), OTHER_FORM),
    (change('curves', 'history', [{'loss': 1.}]), OTHER_FORM),
])
def test_parts_of_another_form_are_one_message(alter, message, work, options):
    path = work / 'other.pth'
    checkpoint = load(work / 'epoch_2.pth')
    alter(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(HRI30Error, match=message) as error:
        train(DEMO_CONFIG, work_dir=str(work), options={**options, 'accumulate': 4},
              resume=str(path))
    assert str(error.value).startswith(f'{path}: ')
    assert 'xpected' in str(error.value) or 'Resume from another' in str(error.value)


def test_state_of_another_optimizer_is_refused(work, options, tmp_path):
    """torch would take it, and miss what it needs at the first step."""
    run(tmp_path, {**options, 'optimizer': 'adam', 'max_epochs': 1})
    for folder, message in ((tmp_path, 'its optimizer is no SGD: it has no dampening'),
                            (work, 'different number of parameter groups')):
        with pytest.raises(HRI30Error, match=message):
            train(DEMO_CONFIG, work_dir=str(folder), resume=True,
                  options={**options, 'optimizer': 'sgd'})


# ---- Stopping ---------------------------------------------------------------------------


def test_message_says_what_is_saved_and_how_to_go_on(options, tmp_path, capfd):
    message = run(tmp_path, options, dict(iteration=5))
    assert message == (
        f'SIGTERM: all that was trained is saved in {tmp_path / "within_epoch.pth"} '
        '(epoch 2 of 3, 4 clips of it seen).\nResume with the same command and --resume.')
    assert 'A second signal ends at once' in capfd.readouterr().err
    # With batches that fit less well, a clip is seen twice.
    run(tmp_path, {**options, 'batch_size': 3}, resume=True)
    output = capfd.readouterr().out
    assert 'Resuming in epoch 2 after 1 of 2 batches' in output
    assert '1 of them are seen again' in output


def test_signal_before_the_first_iteration_ends_at_once(options, work, tmp_path):
    start = dict(iteration=0, stage='start')
    message = run(tmp_path / 'new', options, start)
    assert 'nothing was trained yet' in message
    assert not list((tmp_path / 'new').glob('*.pth'))
    files = {path: path.read_bytes() for path in work.glob('*.pth')}
    message = run(work, options, start, resume=True)
    assert f'saved in {work / "epoch_2.pth"}' in message
    assert {path: path.read_bytes() for path in work.glob('*.pth')} == files


def test_second_signal_ends_at_once():
    child = os.fork()
    if child == 0:
        with StopRequest(print):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # one that was sent twice
            time.sleep(2.1)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(10)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGUSR1


def test_only_heeded_signals_are_noted_and_handlers_are_given_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with StopRequest(print) as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.number == 0
    finally:
        signal.signal(signal.SIGHUP, before[0])
    with StopRequest(print) as request:
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.number == signal.SIGHUP
    assert before == (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM))


# ---- Other settings ---------------------------------------------------------------------


def rates(work):
    """The last learning rates of each epoch, as it used them."""
    return [[value for name, value in point.items() if name.endswith('lr')]
            for point in load(work / 'epoch_4.pth')['curves']['history']]


@pytest.mark.parametrize('before, after, stop', [
    ({'max_epochs': 2}, {}, None),
    ({'batch_size': 3}, {}, dict(iteration=3)),
    pytest.param({'accumulate': 2}, {'accumulate': 2, 'batch_size': 3}, dict(iteration=5),
                 marks=pytest.mark.slow),
    ({'lr': 0.1, 'decay': 'constant', 'weight_decay': 0.2, 'momentum': 0.5},
     {'strategy': 'backbone_tenth'}, dict(iteration=4)),
    ({'warmup_epochs': 4}, {'warmup_epochs': 4, 'decay': 'constant'}, dict(iteration=4)),
], ids=['epochs', 'batch', 'accumulate', 'optimizer', 'decay'])
def test_learning_rates_are_those_of_a_whole_training(options, tmp_path, capfd, before,
                                                      after, stop):
    options.update(max_epochs=4, optimizer='sgd')
    run(tmp_path / 'whole', {**options, **after})
    run(tmp_path / 'resumed', {**options, **before}, stop)
    capfd.readouterr()
    run(tmp_path / 'resumed', {**options, **after}, resume=True)
    assert 'those of a complete training with these settings' in capfd.readouterr().out
    whole, resumed = rates(tmp_path / 'whole'), rates(tmp_path / 'resumed')
    first = 2 if stop is None else 1
    assert whole[first:] == resumed[first:] and len(set(map(tuple, whole))) == 4
    one, other = (load(tmp_path / name / 'epoch_4.pth') for name in ('whole', 'resumed'))
    assert one['meta']['iter'] == other['meta']['iter']
    assert one['optimizer']['param_groups'] == other['optimizer']['param_groups']
    assert_same(one['param_schedulers'], other['param_schedulers'])


def test_rates_that_follow_the_validation_stay(options, tmp_path, capfd):
    options['param_scheduler'] = [
        dict(type='ReduceOnPlateauLR', monitor='top1', by_epoch=True)]
    run(tmp_path, {**options, 'max_epochs': 1})
    run(tmp_path, {**options, 'max_epochs': 2, 'batch_size': 3}, resume=True)
    assert 'follow the validation, and stay' in capfd.readouterr().out
    assert load(tmp_path / 'epoch_2.pth')['meta']['iter'] == 2 + 2  # of three clips of six


def test_clips_may_be_gone(options, tmp_path):
    """Of six, four were seen of the epoch; and there are four."""
    names = [f'CID0{i}_SID0{j}_VID01\n' for j in (1, 2, 3) for i in (1, 2, 3)]
    (tmp_path / 'val.txt').write_text(''.join(names[:3]))
    options.update({'split.type': 'file', 'split.val_file': str(tmp_path / 'val.txt')})
    run(tmp_path / 'work', options, dict(iteration=5))
    (tmp_path / 'val.txt').write_text(''.join(names[:5]))
    run(tmp_path / 'work', options, resume=True)
    # Two batches of two; one is left.
    assert load(tmp_path / 'work' / 'epoch_3.pth')['meta']['iter'] == 2 + 2 + 2


# ---- Which checkpoint ------------------------------------------------------------------


def save(path, epoch, stage='epoch', clips=0, run='one'):
    path.parent.mkdir(exist_ok=True)
    torch.save(dict(meta=dict(epoch=epoch, iter=0), state_dict={'weight': torch.ones(1000)},
                    progress=dict(run=run, stage=stage, clips=clips)), path)
    return path


def flip_bit(path):
    """In the middle of the weights, which torch loads as it finds them."""
    content = bytearray(path.read_bytes())
    place = content.index(torch.ones(1000).numpy().tobytes())
    content[place + 2002] ^= 1
    path.write_bytes(content)


def test_furthest_is_taken_whatever_last_checkpoint_says(tmp_path):
    save(tmp_path / 'epoch_9.pth', 9)
    tenth = save(tmp_path / 'epoch_10.pth', 10)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_9.pth'))
    within = tmp_path / 'within_epoch.pth'
    for position, expected in (((9, 'batches', 4), tenth), ((10, 'validation', 0), tenth),
                               ((10, 'batches', 4), within)):
        save(within, *position)
        assert find_newest(tmp_path) == (expected, [])


def test_earlier_training_in_the_folder_is_not_gone_on_with(tmp_path):
    for epoch in (7, 8):
        save(tmp_path / f'epoch_{epoch}.pth', epoch, run='earlier')
    first = save(tmp_path / 'epoch_1.pth', 1, run='last')
    for name in ('epoch_7.pth', 'epoch_8.pth'):
        os.utime(tmp_path / name, (1, 1))
    assert find_newest(tmp_path) == (first, [])


def test_epochs_that_a_resumed_training_left_are_not_gone_on_with(options, tmp_path):
    run(tmp_path, options)
    run(tmp_path, options, dict(iteration=7), resume=str(tmp_path / 'epoch_2.pth'))
    assert (tmp_path / 'epoch_3.pth').is_file()
    assert find_newest(tmp_path) == (tmp_path / 'within_epoch.pth', [])


def test_damaged_one_falls_back_on_the_one_before(tmp_path):
    first, second, third = (save(tmp_path / f'epoch_{i}.pth', i) for i in (1, 2, 3))
    flip_bit(third)
    assert not torch.equal(load(third)['state_dict']['weight'], torch.ones(1000))
    second.write_bytes(second.read_bytes()[:-100])
    found, damaged = find_newest(tmp_path)
    assert found == first
    assert len(damaged) == 2 and 'Bad CRC-32' in ' '.join(damaged)
    first.write_bytes(b'')
    with pytest.raises(HRI30Error, match='none of its 3 checkpoints can be read'):
        find_newest(tmp_path)


def test_resuming_says_what_is_damaged(options, work, capfd):
    last = work / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:-1000])
    # Asked for by its name, it is an error.
    with pytest.raises(HRI30Error, match=r'epoch_2\.pth: not a readable checkpoint'):
        run(work, options, resume=str(last))
    capfd.readouterr()
    run(work, {**options, 'max_epochs': 2}, resume=True)
    output = capfd.readouterr().out
    assert f'Not resumed from {last}: not a readable checkpoint' in output
    assert f'Resuming from {work / "epoch_1.pth"}' in output
    assert load(last)['meta']['epoch'] == 2


# ---- What is removed --------------------------------------------------------------------


def save_weights(folder, filename, *args, **kwargs):
    torch.save(dict(state_dict={}, meta={}), Path(folder) / filename)


def resumed_hook(folder, info, epoch=3, warn=lambda text: None):
    """Returns the checkpoint hook of a run that is resumed, and what it was told."""
    hub = MessageHub.get_instance(f'resumed {uuid.uuid4()}')
    for key, value in info.items():
        hub.update_info(key, value)
    runner = SimpleNamespace(work_dir=str(folder), epoch=epoch, max_epochs=9, iter=0,
                             message_hub=hub, _resume=True,
                             logger=SimpleNamespace(info=str, warning=warn),
                             _load_from=str(folder / 'epoch_3.pth'),
                             train_loop=SimpleNamespace(stop_training=False),
                             save_checkpoint=save_weights)
    hook = ValidatedCheckpointHook(interval=1, max_keep_ckpts=2, save_best='top1')
    hook.before_train(runner)
    return hook, runner


@pytest.mark.parametrize('best', ['{other}/best_top1_epoch_3.pth', '{work}/notes.pth', '..',
                                  '../other/best_top1_epoch_3.pth', '', 7, ['x']])
def test_checkpoint_cannot_have_other_files_removed(tmp_path, best):
    """mmengine removes what the checkpoint that is resumed names as its own."""
    work, other = tmp_path / 'work', tmp_path / 'other'
    files = [other / 'best_top1_epoch_3.pth', other / 'epoch_1.pth', work / 'notes.pth',
             work / 'epoch_1.pth.txt', work / 'best_loss_epoch_1.pth',
             work / '.within_epoch-notes.pth']
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text('precious')
    if isinstance(best, str):
        best = best.format(work=work, other=other)
    warned = []
    hook, runner = resumed_hook(work, dict(
        best_ckpt=best, best_score=-1.0, last_ckpt=str(files[1]),
        keep_ckpt_ids=['1.pth.txt', '../../other/epoch_1', -1, 1.0, True, None]),
        warn=warned.append)
    assert len(warned) == 1 and 'It is kept, and the search for the best' in warned[0]
    for runner.epoch in (4, 5, 6):
        hook.after_val_epoch(runner, dict(top1=runner.epoch / 10))
    assert all(file.read_text() == 'precious' for file in files)
    assert {path.name for path in work.glob('*epoch_?.pth')} == {
        'epoch_5.pth', 'epoch_6.pth', 'best_top1_epoch_6.pth', 'best_loss_epoch_1.pth'}


def test_best_score_that_is_no_number_is_not_compared(tmp_path):
    (tmp_path / 'best_top1_epoch_3.pth').touch()
    _, runner = resumed_hook(tmp_path, dict(best_ckpt='best_top1_epoch_3.pth',
                                            best_score='high'))
    assert 'best_score' not in runner.message_hub.runtime_info


def test_weights_to_start_from_are_not_overwritten(options, work, monkeypatch):
    monkeypatch.chdir(work.parent)
    train(DEMO_CONFIG, str(work), overwrite=True, options={
        **options, 'max_epochs': 1, 'load_from': 'work/epoch_2.pth'})
    assert load(work / 'epoch_2.pth')['meta']['epoch'] == 2


def test_folder_whose_lock_cannot_be_taken(tmp_path):
    (tmp_path / 'training.lock').mkdir()
    with pytest.raises(HRI30Error, match='training.lock: cannot be locked'):
        lock_folder(tmp_path)


def test_moved_folder_keeps_its_best(tmp_path):
    (tmp_path / 'best_top1_epoch_3.pth').touch()
    hook, runner = resumed_hook(tmp_path, dict(
        best_ckpt='/elsewhere/best_top1_epoch_3.pth', best_score=0.5, keep_ckpt_ids=[2, 3]))
    best = str(tmp_path / 'best_top1_epoch_3.pth')
    for runner.epoch, top1 in ((4, 0.4), (5, 0.5)):
        hook.after_val_epoch(runner, dict(top1=top1))
        assert (tmp_path / 'best_top1_epoch_3.pth').is_file()
        assert runner.message_hub.get_info('best_ckpt') == best
    runner.epoch = 6
    hook.after_val_epoch(runner, dict(top1=0.6))
    assert {path.name for path in tmp_path.glob('best*')} == {
        'best_top1_epoch_6.pth', 'best.pth', 'best.safetensors'}


@pytest.mark.parametrize('fails', ['best_top1_epoch_4.pth', 'epoch_4.pth'])
def test_nothing_is_removed_before_the_new_one_is_there(tmp_path, fails):
    names = {'best_top1_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth', 'within_epoch.pth'}
    for name in names:
        (tmp_path / name).touch()
    hook, runner = resumed_hook(tmp_path, dict(
        best_ckpt=str(tmp_path / 'best_top1_epoch_3.pth'), best_score=0.5,
        keep_ckpt_ids=[2, 3]))

    def fail(folder, filename, *args, **kwargs):
        if filename == fails:
            raise DiskFull(filename)
        save_weights(folder, filename)

    runner.save_checkpoint, runner.epoch = fail, 4
    with pytest.raises(DiskFull):
        hook.after_val_epoch(runner, dict(top1=0.9))
    assert {path.name for path in tmp_path.glob('*.pth')} >= names


def test_what_was_being_written_at_a_kill_is_removed(tmp_path):
    left = ['.within_epoch-ab12cd_9.pth', '.epoch_12-abcdefgh.pth',
            '.best_top1_epoch_3-abcdefgh.pth', '.snapshot_epoch_3-abcdefgh.pth',
            '.best-abcdefgh.pth', '.best-abcdefgh.safetensors']
    kept = ['.notes-abcdefgh.pth', '.epoch_12-abcdefgh.pth.txt', '.epoch_x-abcdefgh.pth',
            '.within_epoch-notes.pth']
    for name in (*left, *kept):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


# ---- Full disks -------------------------------------------------------------------------


def test_file_that_finds_no_room_stays_as_it_was(tmp_path):
    """A limit of the size of files counts as a full disk."""
    path, limits = tmp_path / 'a.csv', resource.getrlimit(resource.RLIMIT_FSIZE)
    atomic_write_text(path, 'old', durable=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(DiskFull, match=r'a\.csv: cannot be written: the disk is full'):
            atomic_write_text(path, 'x' * (9 << 20))
        with pytest.raises(DiskFull, match='9.0 MiB are needed'), (
                atomic_path(path, needed=9 << 20)) as temporary, (
                open(temporary, 'wb')) as file:
            torch.save(torch.ones(9 << 18), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.csv']


def test_full_disk_of_logs_and_scalars_is_one_message(tmp_path):
    handler = logging.FileHandler('/dev/full')
    handler.handleError = lambda record: _end_on_full_disk(handler, record)
    with pytest.raises(DiskFull, match=r'/dev/full: cannot be written'):
        handler.handle(logging.makeLogRecord({'msg': 'hello'}))
    handler.stream = None  # what is left in its buffer cannot be written either
    with pytest.raises(HRI30Error, match='No checkpoint was saved yet'), (
            explain_full_disk(str(tmp_path))), open('/dev/full', 'w') as scalars:
        scalars.write('{}')
