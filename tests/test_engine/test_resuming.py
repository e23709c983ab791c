"""A training that is stopped ends with the very weights of one that was not."""

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
from conftest import DEMO_CONFIG, TINY, small_settings
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from same_training import assert_same, assert_same_training, load

from hri30_ext.apis import train
from hri30_ext.apis.training import explain_full_disk
from hri30_ext.engine import ValidatedCheckpointHook
from hri30_ext.engine.checkpoint import remove_leftovers
from hri30_ext.engine.recovery import find_newest, lock_folder
from hri30_ext.engine.signals import StopRequest
from hri30_ext.errors import HRI30Error, Interrupted
from hri30_ext.utils.fileio import DiskFull, atomic_path, atomic_write_text

pytestmark = pytest.mark.usefixtures('heeded_signals')
SMALL = {**TINY, 'batch_size': 2, 'weight_averaging': 'ema', 'leak_check': None}


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
    run(folder, {**small_settings(clips_root, folder / 'cache'), **SMALL})
    return folder


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / 'work'))


# ---- The same weights -------------------------------------------------------------------


UNFREEZING = {'strategy': 'progressive', 'strategies.progressive.schedule.schedule': [
    dict(begin=0, parts=['cls_head']), dict(begin=1, parts=['backbone'])]}


@pytest.mark.parametrize('changes, stop', [
    # A step of two batches and one of the batch that is left.
    ({'accumulate': 2, 'optimizer': 'sgd'}, dict(iteration=5)),
    ({}, dict(iteration=6, stage='val', number=int(signal.SIGINT))),
    ({}, dict(iteration=4, number=None)),
    # Rates that follow the validation.
    ({'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='top1', by_epoch=True,
                               patience=0)]}, dict(iteration=5)),
    pytest.param({'cache_features': 'augmented', 'strategy': 'frozen_backbone'},
                 dict(iteration=5), marks=pytest.mark.slow),
    pytest.param(UNFREEZING, dict(iteration=5, number=int(signal.SIGHUP)),
                 marks=pytest.mark.slow),
    pytest.param({'num_workers': 2, 'precision': 'bf16'}, dict(iteration=4),
                 marks=pytest.mark.slow),
    pytest.param({'num_workers': 2}, dict(iteration=6, stage='val', number=None),
                 marks=pytest.mark.slow),
], ids=['accumulate', 'validation', 'crash', 'plateau', 'features', 'parts', 'workers',
        'crash in validation with workers'])
def test_stopped_and_not_stopped_are_the_same(options, tmp_path, changes, stop):
    options.update(changes)
    run(tmp_path / 'whole', options)
    run(tmp_path / 'stopped', options, stop)
    assert not (tmp_path / 'stopped' / 'epoch_2.pth').exists()
    # With the seed of the checkpoint, whatever the config has now.
    run(tmp_path / 'stopped', {**options, 'seed': None}, resume=True)
    assert_same_training(tmp_path / 'whole' / 'epoch_3.pth',
                         tmp_path / 'stopped' / 'epoch_3.pth')
    assert not list((tmp_path / 'stopped').glob('.*'))  # of what was being written


def test_batches_left_at_the_end_of_an_epoch_make_a_step(options, tmp_path):
    """Three batches an epoch, of which two are accumulated."""
    run(tmp_path, {**options, 'max_epochs': 2, 'accumulate': 2})
    states = load(tmp_path / 'epoch_2.pth')['optimizer']['state'].values()
    assert {int(state['step']) for state in states} == {4}


# ---- Checkpoints of another form --------------------------------------------------------


def change(name, key, value):
    return lambda checkpoint: checkpoint[name].update({key: value})


@pytest.mark.parametrize('alter', [
    lambda checkpoint: checkpoint.pop('meta'),
    lambda checkpoint: checkpoint.pop('optimizer'),
    lambda checkpoint: checkpoint.pop('training'),
    change('meta', 'epoch', -1),
    change('meta', 'seed', 'x'),
    change('meta', 'dataset_meta', {'classes': ['a'] * 3 + ['b']}),
    lambda checkpoint: checkpoint.update(state_dict=5),
    change('message_hub', 'log_scalars', None),
    lambda checkpoint: checkpoint.update(optimizer='x'),
    change('optimizer', 'state', [1]),
    change('optimizer', 'param_groups', []),
    change('training', 'randomness', [{'torch': 5}]),
    change('training', 'randomness', [{}]),
    change('training', 'randomness', []),
    change('training', 'settings', 5),
    change('early_stopping', 'wait_count', None),
    lambda checkpoint: checkpoint.update(skipped_videos={'a.avi': 5}),
    change('curves', 'history', [{'epoch': 1, 'loss': 'x'}]),
])
def test_parts_of_another_form_are_one_message(alter, work, options):
    path = work / 'other.pth'
    checkpoint = load(work / 'epoch_2.pth')
    alter(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(HRI30Error) as error:
        train(DEMO_CONFIG, work_dir=str(work), options=options, resume=str(path))
    assert str(error.value).startswith(f'{path}: ')
    assert 'xpected' in str(error.value) or 'Resume with' in str(error.value)


# ---- Other settings ---------------------------------------------------------------------


@pytest.mark.parametrize('name, changes', [
    ('lr', {'lr': 0.1}), ('batch_size', {'batch_size': 3}),
    ('accumulate', {'accumulate': 2}),
    ('optimizer', {'optimizer': 'sgd'}), ('weight_decay', {'weight_decay': 0.2}),
    ('decay', {'decay': 'step'}), ('strategy', {'strategy': 'backbone_tenth'}),
    ('optimizers', {'optimizers.adamw.weight_decay': 0.2}),
    ('warmup_epochs', {'warmup_epochs': 2})])
def test_other_settings_are_refused_by_name(work, options, name, changes):
    with pytest.raises(HRI30Error, match=rf'\n  {name}: ') as error:
        run(work, {**options, **changes}, resume=True)
    assert error.value.exit_code == 2 and 'load_from' in str(error.value)


@pytest.mark.parametrize('decay', ['cosine', 'exponential'])
def test_more_epochs_have_the_rates_of_a_whole_training(options, tmp_path, decay):
    options.update(max_epochs=4, optimizer='sgd', decay=decay)
    run(tmp_path / 'whole', options)
    run(tmp_path / 'resumed', {**options, 'max_epochs': 2})
    run(tmp_path / 'resumed', options, resume=True)
    one, other = (load(tmp_path / name / 'epoch_4.pth') for name in ('whole', 'resumed'))
    rates, resumed = ([point['lr'] for point in checkpoint['curves']['history']]
                      for checkpoint in (one, other))
    assert rates[2:] == resumed[2:] and len(set(rates)) == 4
    assert one['meta']['iter'] == other['meta']['iter']
    assert one['optimizer']['param_groups'] == other['optimizer']['param_groups']
    assert_same(one['param_schedulers'], other['param_schedulers'])


# ---- Stopping ---------------------------------------------------------------------------


def test_message_says_what_is_saved_and_which_epoch_is_next(options, tmp_path, capfd):
    message = run(tmp_path, options, dict(iteration=5))
    assert str(tmp_path / 'epoch_1.pth') in message and 'epoch 2 is next' in message
    assert 'A second signal ends at once' in capfd.readouterr().err
    assert {path.name for path in tmp_path.glob('epoch*')} == {'epoch_1.pth'}


def test_signal_before_the_first_iteration_ends_at_once(options, work, tmp_path):
    start = dict(iteration=0, stage='start')
    message = run(tmp_path / 'new', options, start)
    assert 'no epoch was complete yet' in message
    assert not list((tmp_path / 'new').glob('*.pth'))
    files = {path: path.read_bytes() for path in work.glob('*.pth')}
    message = run(work, options, start, resume=True)
    assert str(work / 'epoch_2.pth') in message
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


# ---- Which checkpoint ------------------------------------------------------------------


def save(path, epoch):
    torch.save(dict(meta=dict(epoch=epoch, iter=0),
                    state_dict={'weight': torch.ones(1000)}), path)
    return path


def test_damaged_one_falls_back_on_the_one_before(tmp_path):
    """Whatever last_checkpoint says, and whenever they were written."""
    ninth, tenth = save(tmp_path / 'epoch_9.pth', 9), save(tmp_path / 'epoch_10.pth', 10)
    os.utime(tenth, (1, 1))
    (tmp_path / 'last_checkpoint').write_text(str(ninth))
    save(tmp_path / 'snapshot_epoch_11.pth', 11)
    assert find_newest(tmp_path) == (tenth, [])
    tenth.write_bytes(tenth.read_bytes()[:-100])
    path, damaged = find_newest(tmp_path)
    assert path == ninth and len(damaged) == 1 and str(tenth) in damaged[0]
    ninth.write_bytes(b'')
    with pytest.raises(HRI30Error, match='none of its 2 checkpoints can be read'):
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


def test_checkpoint_of_another_folder_needs_an_empty_one(options, work, tmp_path):
    run(tmp_path / 'other', {**options, 'max_epochs': 1})
    with pytest.raises(HRI30Error, match='holds checkpoints of a training'):
        run(tmp_path / 'other', options, resume=str(work / 'epoch_1.pth'))
    run(tmp_path / 'new', {**options, 'max_epochs': 2}, resume=str(work / 'epoch_1.pth'))
    assert_same_training(work / 'epoch_2.pth', tmp_path / 'new' / 'epoch_2.pth')


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


def complete_epoch(hook, runner, top1):
    hook.after_val_epoch(runner, dict(top1=top1))
    hook.before_train_epoch(runner)


@pytest.mark.parametrize('best', ['{other}/best_top1_epoch_3.pth', '{work}/notes.pth', '..',
                                  '../other/best_top1_epoch_3.pth', '', 7, ['x']])
def test_checkpoint_cannot_have_other_files_removed(tmp_path, best):
    """mmengine removes what the checkpoint that is resumed names as its own."""
    work, other = tmp_path / 'work', tmp_path / 'other'
    files = [other / 'best_top1_epoch_3.pth', other / 'epoch_1.pth', work / 'notes.pth',
             work / 'epoch_1.pth.txt', work / 'best_loss_epoch_1.pth',
             work / '.epoch_3-notes.pth']
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
    assert len(warned) == 1
    for runner.epoch in (4, 5, 6):
        complete_epoch(hook, runner, runner.epoch / 10)
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
        complete_epoch(hook, runner, top1)
        assert (tmp_path / 'best_top1_epoch_3.pth').is_file()
        assert runner.message_hub.get_info('best_ckpt') == best
    runner.epoch = 6
    complete_epoch(hook, runner, 0.6)
    assert {path.name for path in tmp_path.glob('best*')} == {
        'best_top1_epoch_6.pth', 'best.pth', 'best.safetensors'}


@pytest.mark.parametrize('fails', ['best_top1_epoch_4.pth', 'epoch_4.pth'])
def test_nothing_is_removed_before_the_new_one_is_there(tmp_path, fails):
    names = {'best_top1_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth'}
    for name in names:
        (tmp_path / name).touch()
    hook, runner = resumed_hook(tmp_path, dict(best_ckpt='best_top1_epoch_3.pth',
                                               best_score=0.5))

    def fail(folder, filename, *args, **kwargs):
        if filename == fails:
            raise DiskFull(filename)
        save_weights(folder, filename)

    runner.save_checkpoint, runner.epoch = fail, 4
    with pytest.raises(DiskFull):
        complete_epoch(hook, runner, 0.9)
    assert {path.name for path in tmp_path.glob('*.pth')} >= names


def test_what_was_being_written_at_a_kill_is_removed(tmp_path):
    left = ['.epoch_12-ab12cd_9.pth',
            '.best_top1_epoch_3-abcdefgh.pth', '.snapshot_epoch_3-abcdefgh.pth',
            '.best-abcdefgh.pth', '.best-abcdefgh.safetensors']
    kept = ['.notes-abcdefgh.pth', '.epoch_12-abcdefgh.pth.txt', '.epoch_x-abcdefgh.pth',
            '.epoch_3-notes.pth']
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
        with pytest.raises(DiskFull), atomic_path(path) as temporary, (
                open(temporary, 'wb')) as file:
            torch.save(torch.ones(9 << 18), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.csv']


def test_full_disk_of_scalars_is_one_message(tmp_path):
    with pytest.raises(HRI30Error, match='--resume'), (
            explain_full_disk(str(tmp_path))), open('/dev/full', 'w') as scalars:
        scalars.write('{}')
