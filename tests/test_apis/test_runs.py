"""Many trainings: in which order they run, and what is done when one fails."""

import os
import signal

import pytest

from hri30_ext.apis import runs, testing, training
from hri30_ext.apis.runs import Run, complete, train_and_test
from hri30_ext.errors import HRI30Error, Interrupted


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
        return {'val': {'top1': .5, 'num_failed': 2}}

    monkeypatch.setattr(training, 'train', train)
    monkeypatch.setattr(testing, 'test', test)
    return calls


def test_last_checkpoint_is_tested(trained, tmp_path):
    run = Run('a run', 'c.py', tmp_path / 'run', ('seed=1',))
    run.record(done=False)
    assert train_and_test(run) == {'top1': .5, 'num_failed': 2}
    assert trained == [('train', {'seed': 1}, False), (
        'test', f'{run.folder}/epoch_2.pth', 'val', str(run.folder))]
    assert run.is_done()
    for other in (Run('a run', 'c.py', run.folder, ('seed=2',)),
                  Run('a run', 'd.py', run.folder, ('seed=1',))):
        with pytest.raises(HRI30Error, match='other settings:\n  c.py seed=1\nExpected'):
            other.is_done()


@pytest.mark.parametrize('lr, message', [(1, 'a run: lr=1: diverges'),
                                         (2, 'a run: SIGTERM: saved')])
def test_a_run_that_did_not_end_resumes(trained, tmp_path, lr, message):
    run = Run('a run', 'c.py', tmp_path, (f'lr={lr}',))
    run.record(done=False)
    for resume in (False, True):
        with pytest.raises(HRI30Error, match=f'{message}\nThe whole log is '):
            train_and_test(run)
        assert trained[-1] == ('train', {'lr': lr}, resume) and not run.is_done()


def killed(run):
    os.kill(os.getpid(), signal.SIGKILL)


def test_runs_that_are_not_complete_run_in_their_order(trained, monkeypatch, tmp_path,
                                                       capsys):
    all_runs = [Run(f'run {i}', 'c.py', tmp_path / 'a' / str(i), (f'seed={i}',))
                for i in range(3)]
    all_runs[1].record(done=True)
    monkeypatch.setattr(runs, 'run_in_process', lambda function, run: function(run))
    assert [*complete(all_runs)] == all_runs
    assert [call[1] for call in trained if call[0] == 'train'] == [{'seed': 0}, {'seed': 2}]
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines if 'done' in line] == ['1', '2', '3']
    assert [line.split(':')[0] for line in lines if 'be read' in line] == ['run 0', 'run 2']


def speak(run):
    print('what python prints', flush=True)
    os.write(2, b'what a tool prints\n')
    return run.name


def test_a_run_prints_to_its_log_and_a_killed_one_is_named(tmp_path, capfd):
    run = Run('a run', 'c.py', tmp_path, ())
    assert runs.run_in_process(speak, run) == 'a run'
    assert run.log.read_text() == 'what python prints\nwhat a tool prints\n'
    assert capfd.readouterr() == ('', '')
    with pytest.raises(HRI30Error, match='a run: .*killed'):
        runs.run_in_process(killed, run)
