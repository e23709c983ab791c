"""Many trainings: how many run at once, where, and what is done when one fails."""

import os
import re
import subprocess
import sys
import time

import psutil
import pytest
from queued_job import tell

from hri30_ext.apis import gpu_queue, testing, training
from hri30_ext.apis.gpu_queue import run_queue
from hri30_ext.apis.runs import Run, complete, train_and_test
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error, Interrupted


@pytest.mark.parametrize('gpus, expected', [
    ('4,6', {'4', '6'}), ('', {None}), ('GPU-a, GPU-b', {'GPU-a', 'GPU-b'})])
def test_one_job_at_a_time_on_each_gpu(monkeypatch, gpus, expected):
    names = gpus.split(',') if gpus else []
    monkeypatch.setattr('torch.cuda.device_count', lambda: len(names))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', gpus)
    if not gpus:
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    jobs = list(run_queue(tell, [(f'job {i}',) for i in range(2 * len(expected) + 1)]))
    assert [job[0] for job in jobs] == [f'job {i}' for i in range(len(jobs))]
    assert {job[1] for job in jobs} == expected
    assert len({job[4] for job in jobs} | {os.getpid()}) == len(jobs) + 1
    for gpu in expected:
        times = sorted(job[2:4] for job in jobs if job[1] == gpu)
        assert all(end <= start for (_, end), (start, _) in zip(times, times[1:]))


@pytest.mark.parametrize('name, error', [('wrong', ValueError), ('killed', HRI30Error)])
def test_no_job_begins_after_one_failed(monkeypatch, name, error):
    monkeypatch.setattr(gpu_queue, 'visible_gpus', lambda: [])
    results = run_queue(tell, [('first',), (name,), ('third',)])
    assert next(results)[0] == 'first'
    with pytest.raises(error, match=name):
        next(results)
    assert list(results) == []


def test_a_job_ends_with_its_parent(tmp_path):
    code = ('import queued_job\nfrom hri30_ext.apis import gpu_queue\n'
            'gpu_queue.visible_gpus = lambda: []\n'
            f'list(gpu_queue.run_queue(queued_job.hang, [({str(tmp_path)!r}, )]))')
    parent = subprocess.Popen([sys.executable, '-c', code], env={
        **os.environ, 'PYTHONPATH': f'{PROJECT_ROOT}:{PROJECT_ROOT / "tests"}'})
    while not (started := [*tmp_path.iterdir()]):
        time.sleep(.02)
    job = psutil.Process(int(started[0].name))
    parent.kill()
    parent.wait()
    while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:
        time.sleep(.02)


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training and testing; returns the arguments of each call."""
    calls = []

    def train(config, work_dir, resume, options, overwrite):
        assert overwrite is not resume
        calls.append(('train', options, resume))
        with open(f'{work_dir}/last_checkpoint', 'w') as file:
            file.write(f'{work_dir}/epoch_2.pth')
        if options.get('lr') == 1:
            raise HRI30Error('lr=1: diverges')
        if options.get('lr') == 2:
            raise Interrupted('SIGTERM: saved', 15)

    def test(config, checkpoint, split, out, options):
        calls.append(('test', checkpoint, split, out))
        os.write(1, b'what a tool prints\n')
        return {'val': {'top1': .5, 'num_failed': 2}}

    monkeypatch.setattr(training, 'train', train)
    monkeypatch.setattr(testing, 'test', test)
    return calls


def test_last_checkpoint_is_tested(trained, tmp_path, capfd):
    run = Run('a run', 'c.py', tmp_path / 'run', ('seed=1',))
    assert train_and_test(run) == {'top1': .5, 'num_failed': 2}
    assert trained == [('train', {'seed': 1}, False), (
        'test', f'{run.folder}/epoch_2.pth', 'val', str(run.folder))]
    assert run.is_done()
    assert (run.folder / 'run.log').read_text() == 'what a tool prints\n'
    log = run.folder / 'run.log'
    assert capfd.readouterr().out == f'a run: 2 clips could not be read; see {log}\n'
    for other in (Run('a run', 'c.py', run.folder, ('seed=2',)),
                  Run('a run', 'd.py', run.folder, ('seed=1',))):
        with pytest.raises(HRI30Error, match='other settings:\n  c.py seed=1\nExpected'):
            other.is_done()


@pytest.mark.parametrize('lr, message', [(1, 'a run: lr=1: diverges'),
                                         (2, 'a run: SIGTERM: saved')])
def test_a_run_that_did_not_end_resumes(trained, tmp_path, lr, message):
    run = Run('a run', 'c.py', tmp_path, (f'lr={lr}',))
    for resume in (False, True):
        with pytest.raises(HRI30Error, match=f'{message}\nThe whole log is '):
            train_and_test(run)
        assert trained[-1] == ('train', {'lr': lr}, resume) and not run.is_done()


def test_slurm_gets_a_job_for_each_run(trained, tmp_path, capfd):
    """With submitit's executor that runs jobs in this process."""
    runs = [Run(f'run {i}', 'c.py', tmp_path / 'a' / str(i), (f'seed={i}',))
            for i in range(3)]
    runs[1].record(done=True)
    debug = {'cluster': 'debug', 'timeout_min': 5}
    assert [*complete(runs, debug)] == runs
    assert [call[1] for call in trained if call[0] == 'train'] == [{'seed': 0}, {'seed': 2}]
    lines = [line for line in capfd.readouterr().out.splitlines() if 'done' in line]
    assert lines[::2] == ['1 of 3 runs are done already', '3 of 3 runs are done']
    assert re.fullmatch(r'2 of 3 runs are done, about 1 min left, until \w+ \d\d:\d\d',
                        lines[1])
    assert (tmp_path / 'a' / 'slurm').is_dir()
    for slurm, message in (({**debug, 'timeout_min': 'x'}, 'timeout_min'),
                           ({**debug, 'nodess': 1}, 'nodess'), ({}, '')):  # no cluster here
        with pytest.raises(HRI30Error, match=f'Slurm: .*{message}'):
            list(complete([Run('b', 'c.py', tmp_path / 'b', ())], slurm))
