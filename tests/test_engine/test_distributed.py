"""Many processes, on the CPU, against one."""

import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from same_training import assert_same_training, load

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.engine import FrozenBatchNormHook, SkippedVideosHook, distributed
from hri30_ext.engine.data_parallel import scale_learning_rate, use_processes
from hri30_ext.engine.skipped import _Clip
from hri30_ext.errors import HRI30Error, Interrupted
from hri30_ext.evaluation.results import Results

# Processes that begin with everything imported, and nothing computed.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['hri30_ext.apis.training', 'hri30_ext.apis.testing'])


def _enter(rank, size, port, function, arguments):
    if size > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MKL_NUM_THREADS='1',
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
    function(rank, 'pytorch' if size > 1 else 'none', *arguments)


def in_processes(size, function, *arguments):
    """Runs ``function(rank, launcher, ...)`` in each of several processes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_enter, args=(rank, size, port, function, arguments))
        for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]


# ---- Beginning, agreeing, missing one ---------------------------------------------------


def _agree(rank, launcher, as_mmengine):
    if as_mmengine:
        dist.init_process_group('gloo')  # its own function wants CUDA
    else:
        distributed.start(launcher, timeout=30)
    assert distributed.on_main(lambda: 'done') == ('done' if rank == 0 else None)
    assert distributed.max_over_ranks(rank) == 1

    def fail():
        raise ValueError

    with pytest.raises(ValueError if rank == 0 else distributed.PeerLost):
        distributed.on_main(fail)


@pytest.mark.parametrize('as_mmengine', [False, True])
def test_processes_agree_and_wait_for_the_first(as_mmengine):
    assert in_processes(2, _agree, as_mmengine) == [0, 0]


def _lose(rank, launcher):
    distributed.start(launcher, timeout=30)
    if rank:
        os._exit(9)
    with pytest.raises(distributed.PeerLost, match='rank 0 of 2 on .*: lost the '), \
            distributed.explain_lost_peer():
        distributed.max_over_ranks(0)


def test_a_lost_process_is_said():
    assert in_processes(2, _lose) == [0, 9]


@pytest.mark.parametrize('error, lost', [
    (RuntimeError('[gloo/pair.cc:598] Connection closed by peer [127.0.0.1]:5'), True),
    (dist.DistBackendError('NCCL communicator was aborted on rank 1.'), True),
    (dist.DistBackendError('Watchdog caught collective operation timeout'), True),
    (RuntimeError('CUDA error: the launch timed out and was terminated'), False),
    (RuntimeError('DataLoader timed out after 60 seconds'), False),
    (dist.DistBackendError('NCCL error: invalid usage. Duplicate GPU detected : rank 0 and '
                           'rank 1 both on CUDA device 1000'), False),
    (RuntimeError('shape mismatch'), False),
])
def test_only_what_says_that_a_process_is_gone_is_taken_for_it(monkeypatch, error, lost):
    monkeypatch.setattr(distributed, 'get_dist_info', lambda: (0, 2))
    with pytest.raises(distributed.PeerLost if lost else type(error)), \
            distributed.explain_lost_peer():
        raise error


def test_one_process_needs_nothing():
    assert distributed.max_over_ranks(5) == 5
    assert distributed.on_main(max, 1, 2) == 2
    with pytest.raises(RuntimeError, match='timed out'), distributed.explain_lost_peer():
        raise RuntimeError('timed out')  # of something else


# ---- A step -----------------------------------------------------------------------------


@pytest.mark.parametrize(('options', 'clips', 'base', 'scaled'), [
    ({'batch_size': 8, 'accumulate': 2}, 64, 16, .04),
    ({'batch_size': 8, 'accumulate': 2, 'base_batch_size': 4}, 64, 4, .16),
    ({'batch_size': 16, 'optimizer': 'adamw'}, 64, 16, .02)])
def test_learning_rate_is_scaled_on_request(monkeypatch, options, clips, base, scaled):
    cfg = load_config(PRIMITIVE, {**options, 'lr': .01})
    assert scale_learning_rate(cfg) is None  # one process
    monkeypatch.setattr('hri30_ext.engine.data_parallel.get_world_size', lambda: 4)
    step = (f'a step has {clips} clips (4 processes x {options["batch_size"]} x accumulate '
            f'{options.get("accumulate", 1)}), and lr is for {base}')
    assert scale_learning_rate(cfg) == (
        f'Learning rate 0.01: {step}. scale_lr=True would make it {scaled}')
    assert cfg.optim_wrapper.optimizer.lr == .01
    cfg.scale_lr = True
    assert scale_learning_rate(cfg) == (
        f'Learning rate 0.01 x {scaled * 100:g} = {scaled}: {step}')
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(scaled)


def test_learning_rate_of_adamw_grows_in_proportion_on_request():
    cfg = load_config(PRIMITIVE, dict(optimizer='adamw', lr=.01, base_batch_size=256,
                                      scale_lr='linear'))
    scale_learning_rate(cfg)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(.01 / 16)


@pytest.mark.parametrize('config', sorted(
    str(path) for path in Path(PRIMITIVE).parents[1].glob('*/*_1xb8-*.py')))
def test_configs_for_batches_of_8_name_the_batch_of_their_rate(config):
    cfg = load_config(config)
    assert cfg.base_batch_size == 8 or cfg.scale_lr == 'linear'


def test_sync_bn_wants_cuda(monkeypatch):
    monkeypatch.setattr('torch.distributed.is_initialized', lambda: True)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(HRI30Error, match='sync_bn=torch: .* needs CUDA'):
        use_processes(load_config(PRIMITIVE, {'sync_bn': 'torch'}))


def test_frozen_batch_norm_keeps_its_statistics():
    cfg = load_config(PRIMITIVE, {'batch_norm': 'frozen'})
    assert dict(type='FrozenBatchNormHook') in cfg.custom_hooks
    model = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    model.train()
    FrozenBatchNormHook().before_train_iter(SimpleNamespace(model=model), 0)
    model(torch.randn(2, 1, 2, 2, 2) + 5)
    assert torch.equal(model[1].running_mean, torch.zeros(2))
    assert model[0].training and model[1].weight.requires_grad


# ---- Training and testing ---------------------------------------------------------------


def _train(rank, launcher, work_dir, options, batch_size):
    written = []

    def watch(event, arguments):
        if event == 'open' and isinstance(arguments[0], str) and (
                set(str(arguments[1])) & set('wax+')
                or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
            written.append(arguments[0])

    sys.addaudithook(watch)
    train(DEMO_CONFIG, work_dir=work_dir, launcher=launcher,
          options={**options, 'batch_size': batch_size})
    # The clip cache is everybody's.
    ours = [name for name in written if name.startswith(os.path.dirname(work_dir))
            and not name.startswith(options['cache_dir'])]
    assert bool(ours) == (rank == 0), ours


@HOOKS.register_module(force=True)
class StopFirst(Hook):
    """Has a clip fail in the second process, and a signal come to the first one alone."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 2 and runner.rank:
            hook = next(hook for hook in runner.hooks
                        if isinstance(hook, SkippedVideosHook))
            hook._own = [('a.avi', _Clip('a', 'damaged', 1, True))]
        if runner.iter + 1 == 4 and not runner.rank:
            os.kill(os.getpid(), signal.SIGTERM)


def _train_on(rank, launcher, work_dir, options, resume):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        train(DEMO_CONFIG, work_dir=work_dir, launcher=launcher, options=options,
              resume=resume)
    except Interrupted as error:
        sys.exit(error.exit_code)


@pytest.mark.slow
def test_stopped_processes_go_on_bit_for_bit(options, tmp_path):
    """Two summands are added alike in any order."""
    options.update(input_size=(64, 64), batch_size=1, max_skipped=0.5, leak_check=None)
    stop = {**options, 'default_hooks.stop': dict(type='StopFirst')}
    whole, stopped = (str(tmp_path / name) for name in ('whole', 'stopped'))
    assert in_processes(2, _train_on, whole, options, False) == [0, 0]
    assert in_processes(2, _train_on, stopped, stop, False) == [143, 143]
    assert not os.path.exists(f'{stopped}/epoch_2.pth')
    saved = load(f'{stopped}/epoch_1.pth')
    assert len(saved['training']['randomness']) == 2
    assert list(saved['skipped_videos']) == ['a.avi']
    assert in_processes(2, _train_on, stopped, options, True) == [0, 0]
    assert_same_training(f'{whole}/epoch_2.pth', f'{stopped}/epoch_2.pth')


def _test(rank, launcher, checkpoint, out, options):
    for deterministic in (True, False):
        run_test(DEMO_CONFIG, checkpoint, out=f'{out}/{deterministic}', launcher=launcher,
                 options={**options, 'test_flip': True, 'test_clips': 2,
                          'deterministic': deterministic})


@pytest.mark.slow
def test_each_clip_is_scored_once_in_any_number_of_processes(options, tmp_path, clips_root):
    """3 clips a split, so that the fourth process has none."""
    assert in_processes(1, _train, str(tmp_path / 'work'), {**options, 'max_epochs': 1},
                        4) == [0]
    checkpoint = str(tmp_path / 'work' / 'epoch_1.pth')
    for size in (1, 2, 3, 4):
        assert in_processes(size, _test, checkpoint, str(tmp_path / str(size)),
                            options) == [0] * size
    for split in ('val', 'test'):
        first = Results.load(tmp_path / '1' / 'False' / split)
        assert len(first.videos) == 3 and list(first.classes) == CLASSES
        for size in (2, 3, 4):
            results = Results.load(tmp_path / str(size) / 'False' / split)
            assert (results.videos, results.classes) == (first.videos, first.classes)
            np.testing.assert_allclose(results.scores_NK, first.scores_NK, atol=1e-5)
            for name in ('predictions.csv', 'scores.npz', 'metrics.json'):
                one, many = ((tmp_path / str(n) / 'True' / split / name).read_bytes()
                             for n in (1, size))
                assert one == many, (size, split, name)
