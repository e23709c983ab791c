"""Comparing settings with seeds."""

import numpy as np
import pytest
from conftest import call_hri30

from hri30_ext.apis import runs as runs_module
from hri30_ext.apis.sweep import format_sweep, parse_arms, sweep
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.curves import compare_runs
from hri30_ext.evaluation.results import Results
from hri30_ext.utils.curves import write_curves

NAMES = ['GoLeft', 'GoRight', 'Stop']
HISTORY = [dict(epoch=1, minutes=.5, train_loss=1., val_loss=1.1, val_top1=.4, lr=.1),
           dict(epoch=2, minutes=1., train_loss=.8, val_loss=1.0, val_top1=.7, lr=.1),
           dict(epoch=3, minutes=1.5, train_loss=.6, val_loss=1.2, val_top1=.6, lr=.1)]


@pytest.fixture
def runs(monkeypatch):
    """Stands in for training: two of four clips are right, one of the two to the left."""
    called = []

    def fake(run):
        called.append((run.folder.parent.name, run.folder.name, list(run.settings)))
        (run.folder / 'val').mkdir(parents=True)
        write_curves(run.folder / 'training_curves.csv', HISTORY)
        Results(['a', 'b', 'c', 'd'], np.eye(3)[[0, 0, 0, 2]], NAMES, [0, 1, 2, 2]).save(
            run.folder / 'val' / 'scores.npz')
        run.record(done=True)

    monkeypatch.setattr(runs_module, 'run_in_process', lambda _, run: fake(run))
    return called


def test_arms():
    assert parse_arms(['a: x=1 y=2', 'b:']) == {'a': ['x=1', 'y=2'], 'b': []}
    for wrong in (['a x=1'], ['a: x=1', 'a: x=2'], ['../a: x=1']):
        with pytest.raises(HRI30Error, match='--arm'):
            parse_arms(wrong)


def test_each_arm_with_each_seed_once(runs, tmp_path):
    arms = {'none': ['flip=None'], 'file': ['split.val_file=v{seed}.txt']}
    rows = sweep('c.py', arms, [1, 2], str(tmp_path), options=['lr=1'])
    assert [(row['arm'], row['seed']) for row in rows] == [
        ('none', 1), ('none', 2), ('file', 1), ('file', 2)]
    assert runs[0] == ('none', 'seed1', ['lr=1', 'flip=None', 'seed=1'])
    assert runs[3][2] == ['lr=1', 'split.val_file=v2.txt', 'seed=2']
    assert rows[0]['top1'] == .5 and rows[0]['mirrored_top1'] == .5
    assert (tmp_path / 'curves.png').stat().st_size > 10_000
    assert call_hri30('sweep', 'c.py', '--arm', 'none: flip=None', '--arm',
                      'file: split.val_file=v{seed}.txt', '--out', tmp_path,
                      '--cfg-options', 'lr=1') == 0
    assert len(runs) == 6  # the third seed alone is new
    with pytest.raises(HRI30Error, match='a run with other settings'):
        sweep('c.py', arms, [1], str(tmp_path), options=['lr=2'])


def test_table_has_mean_and_deviation():
    rows = [dict(arm='a', seed=seed, top1=top1, mirrored_top1=other, epochs=4, minutes=2.)
            for seed, top1, other in ((1, .5, .3), (2, .7, None), (3, .6, .2))]
    lines = format_sweep(rows).splitlines()
    assert lines[0].split('  ')[0] == 'arm'
    # The sample's deviation of .5, .6, .7 is .1, of .2 and .3 it is .0707.
    assert '0.600 ± 0.100' in lines[1] and '0.250 ± 0.071 (2 of 3)' in lines[1]


def test_curves_of_runs_are_compared(tmp_path):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write_curves(tmp_path / name / 'training_curves.csv', HISTORY)
    text = compare_runs([tmp_path / 'one', tmp_path / 'two'], tmp_path / 'c.png')
    assert '0.7000 @2' in text and '1.0000 @2' in text
    assert [line.split()[0] for line in text.splitlines()] == ['run', 'one', 'two']
    assert (tmp_path / 'c.png').stat().st_size > 10_000
    with pytest.raises(HRI30Error, match='training_curves.csv: cannot be read'):
        compare_runs([tmp_path / 'three'], tmp_path / 'c.png')
    (tmp_path / 'one' / 'training_curves.csv').write_text('epoch\nx\n')
    with pytest.raises(HRI30Error, match='not a table of curves'):
        compare_runs([tmp_path / 'one'], tmp_path / 'c.png')
