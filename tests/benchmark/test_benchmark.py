"""The benchmark's statistics, its file and table, its sides, and one row end to end."""

import dataclasses
import doctest
import json
import os
import subprocess
import sys

import pytest
from conftest import CLASSES

import hri30_ext.modules  # noqa: F401  makes mmaction2 importable
from benchmark import exported, reading, resources, rows, run, testing, training
from benchmark.reading import link_clips, marginal_growth
from benchmark.resources import FIRST_STEP
from benchmark.rows import ROWS, Outcome, Row, format_table, pair_ratios, summarize
from benchmark.setup import Setup
from benchmark.testing import spread
from benchmark.training import summarize_races
from benchmark.turns import private_memory, repeat, sample, take_turns
from hri30_ext.datasets.hri30 import load_labelled_clips
from hri30_ext.errors import HRI30Error

assert exported and resources  # they add rows


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


def test_figure_is_the_median_of_the_ratios_of_pairs():
    # The medians of the sides would give 6 / 2 = 3 in the first case too, but not here.
    assert pair_ratios([8.0, 6.0, 2.0], [2.0, 2.0, 2.0]) == [4, 3, 1]
    assert pair_ratios([10.0, 1.0, 9.0], [1.0, 2.0, 3.0]) == [10, 0.5, 3]
    assert summarize([10, 0.5, 3], 'n') == Outcome(3, 0.5, 10, 'n')
    assert summarize([2, 4]) == Outcome(3, 2, 4)
    with pytest.raises(ValueError):
        pair_ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize('ratio, at_most, met', [
    (2.3, False, True), (2.296, False, True), (2.29, False, False), (None, False, None),
    (2.3, True, True), (2.31, True, False), (1.0, True, True)])
def test_goals(a_row, ratio, at_most, met):
    assert a_row('a', goal=2.3, at_most=at_most).met(Outcome(ratio)) is met
    assert a_row('a').met(Outcome(ratio)) is None


def test_rows_have_their_goals():
    assert {name: row.goal for name, row in ROWS.items() if row.goal is not None} == dict(
        train_pipeline_memmap=15, train_pipeline_jpeg=8, train_pipeline_decode=1.5,
        train_step=2.3, time_to_accuracy=4, test_split=15, test_top1=-0.5, single_view=2,
        start=20, memory_train=1, memory_test=1, scaling=1.25, loader_memory=10,
        openvino_bf16=3, openvino_int8=5.5)
    assert [name for name, row in ROWS.items() if not row.default] == [
        'train_loop', 'compile', 'throughput', 'time_to_accuracy',
        'time_to_accuracy_no_flip', 'early']
    assert {name for name, row in ROWS.items() if row.at_most} == {
        'start', 'memory_train', 'memory_test', 'scaling', 'loader_memory'}


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
    assert content['rows'][1]['note'] == 'failed: no such clips'
    assert content['machine']['cores'] >= 1
    assert content['versions']['mmaction2'] == '1.2.0'
    assert set(content) == {'rows', 'machine', 'versions', 'date', 'data'}


def test_table(a_row):
    a_row('a', goal=2.3)
    a_row('s', goal=20, unit='s', at_most=True)
    a_row('c')
    lines = format_table({
        'a': Outcome(2.5, 2.4, 2.6, 'of one core'), 's': Outcome(21.0, 20.5, 22.0),
        'c': Outcome(None, note='failed: x', failed=True)}).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ['a', '2.50x', '2.40x', '2.60x', '>=', '2.3x', 'met'],
        ['s', '21.00', 's', '20.50', 's', '22.00', 's', '<=', '20', 's', 'MISSED'],
        ['c', '-', '-', '-', '-', 'FAILED']]
    assert lines[-2:] == ['a: of one core', 'c: failed: x']


def test_race_that_stock_does_not_finish_is_a_bound():
    ours = (60.0, [(30.0, 0.5), (60.0, 0.91)])
    assert summarize_races((240.0, [(240.0, 0.9)]), ours, '').ratio == 4
    bound = summarize_races((240.0, [(200.0, 0.42)]), ours, '')
    assert (bound.ratio, bound.low, bound.high) == (4, 4, None)
    assert bound.note.startswith('at least; top-1 0.90: stock more than 4.0 min (best')
    lost = summarize_races((240.0, [(240.0, 0.9)]), (60.0, [(60.0, 0.89)]), '')
    assert lost.ratio is None and lost.failed


@pytest.mark.parametrize('module', [rows, reading, testing])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


class Side:
    """A side that records its turns, without a process."""

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
    assert pairs.stock == [(2, dict(by='A')), (4, dict(by='A'))]
    assert pairs.ours == [(1, dict(by='B')), (1, dict(by='B'))]
    assert order == ['A ready', 'B ready', *['A', 'B'] * 3]
    assert pairs.outcome('a clip') == Outcome(3, 2, 4, 'a clip: stock 4 s, ours 1 s')


def test_time_of_a_turn_is_per_clip():
    ticks = iter([0.0, 1.0, 2.5, 3.0, 3.0])
    # Started before 2 s have passed: at 0 (always) and at 1; not at 2.5.
    assert repeat(lambda: 5, 2, lambda: next(ticks)) == pytest.approx(3.0 / 10)


def test_private_memory_includes_children():
    before = private_memory(os.getpid())
    with subprocess.Popen(
            [sys.executable, '-c', 'x = bytearray(64 << 20); print(flush=True); input()'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert 64 << 20 < private_memory(child.pid) < 128 << 20
        assert private_memory(os.getpid()) > before + (60 << 20)
        child.communicate(b'\n')
    assert private_memory(child.pid) == 0


def test_sampling_leaves_out_none():
    values = iter([3.0, None, 5.0, 4.0] + [0.0] * 10 ** 6)
    with sample(lambda: next(values), 0) as readings:
        while len(readings) < 3:
            pass
    assert readings[:3] == [3, 5, 4]


def test_clips_are_spread_over_a_split():
    assert (spread(3, 9), spread(1, 9), spread(10, 4)) == ([0, 4, 8], [0], [0, 1, 2, 3])


def test_linked_clips_have_their_own_names(clips_root, tmp_path):
    root = link_clips(clips_root, tmp_path / 'links', 100)
    clips = load_labelled_clips(root, [f'c{i}' for i in range(30)])
    assert len(clips) == 100
    assert {clip['label'] for clip in clips} == {0, 1, 2}
    assert len({os.path.realpath(clip['filename']) for clip in clips}) == 9


def test_growth_leaves_out_fixed_costs():
    assert marginal_growth([100, 400, 1600], [5 + 1, 5 + 4, 5 + 16]) == pytest.approx(1)
    # Quadratic: (2.56 - 0.16) / 1200 over (0.16 - 0.01) / 300.
    assert marginal_growth([100, 400, 1600], [0.01, 0.16, 2.56]) == pytest.approx(4)


def test_first_step_is_found_in_the_log_of_a_training():
    line = ('11/24 22:10:00 - mmengine - INFO - Epoch(train)   [1][ 1/12]  lr: 1.0e-04  '
            'eta: 0:10:00  time: 9.5000  data_time: 0.5000  loss: 3.4000')
    match = FIRST_STEP.search(line)
    assert (float(match['time']), float(match['data'])) == (9.5, 0.5)
    assert not FIRST_STEP.search(line.replace('[ 1/12]', '[ 2/12]'))
    assert not FIRST_STEP.search(line.replace('[1][ 1', '[2][ 1'))


def test_command_lists_rows_and_names_mistakes(tmp_path):
    done = command('--list', cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ROWS)
    done = command('--out', 'b.json', '--rows', 'nothing', cwd=tmp_path)
    assert done.returncode == 2 and '--rows nothing: no such row' in done.stderr
    assert command(cwd=tmp_path).returncode == 2


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
    waiting = training.loop(dataclasses.replace(setup, rounds=1))
    assert 'is the bottleneck' in waiting.note


def test_throughput(clips_root, tmp_path):
    outcome = training.throughput(Setup(
        str(tmp_path), str(clips_root), rounds=1, options=dict(
            classes=CLASSES, input_size=(32, 32), batch_size=2, precision='fp32')))
    assert outcome.ratio == outcome.low > 0
    for words in ('batch 2, waits for data', 'TFLOP/s (MFU: no peak', 'GiB of main memory'):
        assert words in outcome.note


@pytest.mark.parametrize('card, peak', [
    ('NVIDIA H100 80GB HBM3', 989e12), ('NVIDIA H100 PCIe', 756e12), ('NVIDIA L40', None),
    ('NVIDIA A100-SXM4-80GB', 312e12), ('NVIDIA L4', 121e12), ('Tesla T4', 65e12)])
def test_peak_of_a_card(card, peak):
    assert training.peak_flops(card) == peak


def test_a_side_that_fails_is_reported(tmp_path):
    done = command('--out', 'b.json', '--device', 'cpu', '--rows', 'train_pipeline_decode',
                   '--data', tmp_path / 'none', cwd=tmp_path)
    assert done.returncode == 1
    entry, = json.loads((tmp_path / 'b.json').read_text())['rows']
    assert entry['note'].startswith('failed: train_pipeline_decode, stock: ')
    assert 'no such data folder' in entry['note']
