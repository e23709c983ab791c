"""The benchmark's statistics, its file and table, its sides, and one row end to end."""

import dataclasses
import json
import subprocess
import sys

import pytest
from conftest import CLASSES

import hri30_ext.modules  # noqa: F401  makes mmaction2 importable
from benchmark import exported, reading, resources, run, training
from benchmark.rows import ROWS, Outcome, Row
from benchmark.setup import Setup
from hri30_ext.errors import HRI30Error

assert exported and reading and resources  # they add rows


@pytest.fixture
def a_row(monkeypatch):
    """Returns a function that adds a row until the end of the test."""
    def add(name, measure=None, **options):
        monkeypatch.setitem(ROWS, name, Row(name, 'what it is', measure, **options))
        return ROWS[name]
    return add


def command(*arguments, cwd):
    """Runs the command of the benchmark."""
    return subprocess.run([sys.executable, run.__file__, *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, timeout=300)


def test_rows_have_their_goals():
    assert {name: row.goal for name, row in ROWS.items() if row.goal is not None} == dict(
        train_pipeline_memmap=15, train_pipeline_jpeg=8, train_pipeline_decode=1.5,
        train_step=2.3, time_to_accuracy=4, test_split=15, test_top1=-0.5, single_view=2,
        start=20, memory_train=1, memory_test=1, openvino_bf16=3, openvino_int8=5.5)
    assert [name for name, row in ROWS.items() if not row.default] == [
        'throughput', 'time_to_accuracy']
    assert {name for name, row in ROWS.items() if row.at_most} == {
        'start', 'memory_train', 'memory_test'}


def test_file_has_each_row_as_soon_as_it_is_done(a_row, tmp_path):
    out = tmp_path / 'new' / 'b.json'

    def killed(setup):
        assert [row['name'] for row in json.loads(out.read_text())['rows']] == ['a', 'b']
        raise KeyboardInterrupt

    def wrong(setup):
        raise HRI30Error('no such clips')

    a_row('a', lambda setup: Outcome(2.0, 1.0, 3.0, 'n'), goal=1.5)
    a_row('b', wrong)
    a_row('c', killed)
    with pytest.raises(KeyboardInterrupt):
        run.measure(['a', 'b', 'c'], Setup(str(tmp_path)), str(out))
    content = json.loads(out.read_text())
    assert content['rows'][0] == dict(name='a', ratio=2.0, low=1.0, high=3.0, goal=1.5,
                                      unit='x', note='n', met=True)
    assert 'no such clips' in content['rows'][1]['note']
    assert content['machine']['cores'] >= 1
    assert content['versions']['mmaction2'] == '1.2.0'
    assert set(content) == {'rows', 'machine', 'versions', 'date', 'data'}


def test_a_row_end_to_end(clips_root, tmp_path):
    done = command('--out', 'b.json', '--device', 'cpu', '--rows', 'train_pipeline_decode',
                   '--rounds', 1, '--data', clips_root, '--cfg-options',
                   f'classes={",".join(CLASSES)}', 'batch_size=2', 'input_size=(32,32)',
                   cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / 'b.json').read_text())
    entry, = content['rows']
    assert entry['name'] == 'train_pipeline_decode'
    assert entry['low'] == entry['ratio'] == entry['high'] > 0
    assert entry['goal'] == 1.5 and entry['unit'] == 'x'
    assert 'Figures: b.json' in done.stdout
    assert content['machine']['device'] == 'cpu'


def test_a_training_step_in_turns(clips_root, tmp_path):
    setup = Setup(str(tmp_path), str(clips_root), rounds=2, options=dict(
        classes=CLASSES, input_size=(32, 32), batch_size=2, precision='fp32'))
    outcome = training.step(setup)
    assert outcome.low > 0 and 'batch 2, a step: stock' in outcome.note
    outcome = training.throughput(dataclasses.replace(setup, rounds=1))
    assert outcome.ratio == outcome.low > 0


def test_a_side_that_fails_is_reported(tmp_path):
    done = command('--out', 'b.json', '--device', 'cpu', '--rows', 'train_pipeline_decode',
                   '--data', tmp_path / 'none', cwd=tmp_path)
    assert done.returncode == 1
    entry, = json.loads((tmp_path / 'b.json').read_text())['rows']
    assert 'no such data folder' in entry['note']
