"""Sides in processes of their own, memory, and one row from end to end."""

import json
import os
import subprocess
import sys

import pytest
from conftest import CLASSES, run_tool

from hri30_ext.benchmark.processes import (
    Pairs,
    Sampler,
    in_turn_time,
    private_memory,
    process_tree,
    take_turns,
)
from hri30_ext.benchmark.resources import _FIRST_STEP, link_clips, marginal_growth
from hri30_ext.benchmark.testing import spread
from hri30_ext.datasets.hri30 import load_labelled_clips


class Side:
    """A side that notes its turns, without a process."""

    def __init__(self, name, costs, order):
        self.name, self.costs, self.order = name, iter(costs), order

    def ready(self):
        self.order.append(f'{self.name} ready')

    def turn(self):
        self.order.append(self.name)
        return next(self.costs), dict(by=self.name)


def test_sides_take_turns_and_warm_ups_do_not_count():
    order = []
    pairs = take_turns(Side('A', [9, 2, 4], order), Side('B', [8, 1, 1], order), rounds=2)
    assert pairs == Pairs([2, 4], [1, 1], [dict(by='A')] * 2, [dict(by='B')] * 2)
    assert [entry for entry in order if 'ready' not in entry] == ['A', 'B'] * 3


def test_time_of_a_turn_is_a_clip():
    ticks = iter([0.0, 1.0, 2.5, 3.0, 3.0])
    # Begun while less than 2 s have passed: at 0 (always), 1; not at 2.5.
    assert in_turn_time(lambda: 5, 2, lambda: next(ticks)) == pytest.approx(3.0 / 10)


def test_private_memory_of_a_process_and_its_children():
    child = subprocess.Popen(
        [sys.executable, '-c', 'x = bytearray(64 << 20); print(1, flush=True); input()'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert child.pid in process_tree(os.getpid())
        assert 64 << 20 < private_memory(child.pid) < 128 << 20
    finally:
        child.communicate(b'\n')
    assert child.pid not in process_tree(os.getpid())
    assert private_memory(child.pid) == 0


def test_sampler_reads_until_it_is_left():
    values = iter([3.0, None, 5.0, 4.0] + [0.0] * 10 ** 6)
    with Sampler(lambda: next(values), 0) as sampler:
        while len(sampler.readings) < 3:
            pass
    assert sampler.readings[:3] == [3, 5, 4]
    assert not sampler.is_alive()


def test_clips_are_spread_over_a_split():
    assert spread(3, 9) == [0, 4, 8]
    assert spread(1, 9) == [0]
    assert spread(10, 4) == [0, 1, 2, 3]


def test_linked_clips_have_names_of_their_own(clips_root, tmp_path):
    root = link_clips(clips_root, tmp_path / 'links', 100)
    clips = load_labelled_clips(root, [f'c{i}' for i in range(30)])
    assert len(clips) == 100
    assert {clip['label'] for clip in clips} == {0, 1, 2}
    sources = {os.path.realpath(clip['filename']) for clip in clips}
    assert len(sources) == 9  # 3 classes, 3 groups


def test_growth_leaves_out_what_is_paid_once():
    assert marginal_growth([100, 400, 1600], [5 + 1, 5 + 4, 5 + 16]) == pytest.approx(1)
    # Quadratic: (2.56 - 0.16) / 1200 over (0.16 - 0.01) / 300.
    assert marginal_growth([100, 400, 1600], [0.01, 0.16, 2.56]) == pytest.approx(4)


def test_first_step_is_found_in_the_log_of_a_training():
    line = ('11/24 22:10:00 - mmengine - INFO - Epoch(train)   [1][ 1/12]  lr: 1.0e-04  '
            'eta: 0:10:00  time: 9.5000  data_time: 0.5000  loss: 3.4000')
    found = _FIRST_STEP.search(line)
    assert (float(found['time']), float(found['data'])) == (9.5, 0.5)
    assert not _FIRST_STEP.search(line.replace('[ 1/12]', '[ 2/12]'))
    assert not _FIRST_STEP.search(line.replace('[1][ 1', '[2][ 1'))


def test_rows_are_listed_and_mistakes_are_named(tmp_path):
    done = run_tool('analysis/benchmark.py', '--list', cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith('train_pipeline_memmap ')
    done = run_tool('analysis/benchmark.py', '--out', 'b.json', '--rows', 'nothing',
                    cwd=tmp_path)
    assert done.returncode == 2
    assert 'error: --rows nothing: no such row' in done.stderr
    assert 'Traceback' not in done.stderr
    assert run_tool('analysis/benchmark.py', cwd=tmp_path).returncode == 2


@pytest.mark.slow
def test_a_row_from_end_to_end(clips_root, tmp_path):
    done = run_tool('analysis/benchmark.py', '--out', 'b.json', '--device', 'cpu', '--rows',
                    'train_pipeline_decode', '--rounds', '1', '--data', clips_root,
                    '--cfg-options', f'classes={",".join(CLASSES)}', 'batch_size=2',
                    'input_size=(32,32)', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'b.json').read_text())
    row, = found['rows']
    assert row['name'] == 'train_pipeline_decode'
    assert row['low'] == row['ratio'] == row['high'] > 0
    assert row['goal'] == 1.5 and row['unit'] == 'x'
    assert 'Figures: b.json' in done.stdout
    assert found['machine']['device'] == 'cpu'


@pytest.mark.slow
def test_a_side_that_fails_is_told(clips_root, tmp_path):
    done = run_tool('analysis/benchmark.py', '--out', 'b.json', '--device', 'cpu', '--rows',
                    'train_pipeline_decode', '--data', tmp_path / 'none', cwd=tmp_path)
    assert done.returncode == 1
    note = json.loads((tmp_path / 'b.json').read_text())['rows'][0]['note']
    assert note.startswith('failed: train_pipeline_decode, stock: ')
    assert 'no such data folder' in note
