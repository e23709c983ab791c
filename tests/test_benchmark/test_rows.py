"""Statistics, choice and writing of the benchmark's rows."""

import json

import pytest

from hri30_ext.benchmark import rows as module
from hri30_ext.benchmark.rows import (
    Outcome,
    Row,
    choose_rows,
    format_table,
    pair_ratios,
    summarize,
    write_json,
)
from hri30_ext.benchmark.runner import ROWS, run
from hri30_ext.benchmark.setup import Setup
from hri30_ext.benchmark.training import summarize_races
from hri30_ext.errors import HRI30Error

ABOUT = dict(machine={}, versions={}, date='2026-01-01T00:00:00+00:00', data='clips')


def a_row(name='a', outcome=None, **settings):
    return Row(name, 'what it is', lambda setup: outcome, **settings)


def test_ratios_are_of_pairs_and_the_figure_is_their_median():
    # Medians of the sides would give 6 / 2 = 3; what ran together gives 4, 3 and 1.
    ratios = pair_ratios([8.0, 6.0, 2.0], [2.0, 2.0, 2.0])
    assert ratios == [4, 3, 1]
    assert pair_ratios([10.0, 1.0, 9.0], [1.0, 2.0, 3.0]) == [10, 0.5, 3]
    assert summarize([10, 0.5, 3], 'n') == Outcome(3, 0.5, 10, 'n')
    assert summarize([2, 4]) == Outcome(3, 2, 4)
    with pytest.raises(ValueError):
        pair_ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize('ratio, at_most, met', [
    (2.3, False, True), (2.296, False, True), (2.29, False, False), (None, False, None),
    (2.3, True, True), (2.31, True, False), (1.0, True, True)])
def test_goals(ratio, at_most, met):
    assert a_row(goal=2.3, at_most=at_most).met(Outcome(ratio)) is met
    assert a_row(goal=None).met(Outcome(ratio)) is None


def test_rows_are_chosen_by_name_in_the_order_of_the_table():
    rows = [a_row('a'), a_row('b', default=False), a_row('c')]
    names = [row.name for row in choose_rows(rows, ['c', 'b'])]
    assert names == ['b', 'c']
    assert [row.name for row in choose_rows(rows, None)] == ['a', 'c']
    assert [row.name for row in choose_rows(rows, None, everything=True)] == ['a', 'b', 'c']
    with pytest.raises(HRI30Error, match='--rows d: no such row(.|\n)*a, b, c'):
        choose_rows(rows, ['a', 'd'])


def test_the_rows_that_are_asked_for_have_their_goals():
    goals = {row.name: row.goal for row in ROWS}
    assert len(goals) == len(ROWS)  # no name twice
    assert goals.items() >= dict(
        train_pipeline_memmap=15, train_pipeline_jpeg=8, train_pipeline_decode=1.5,
        train_step=2.3, time_to_accuracy=4, test_split=15, single_view=2, start=20,
        memory_train=1, memory_test=1, openvino_bf16=3, openvino_int8=5.5).items()
    long = {row.name for row in ROWS if not row.default}
    assert {'time_to_accuracy', 'compile'} <= long


def test_file_of_a_run(tmp_path):
    row = a_row(goal=20, unit='s', at_most=True)
    out = tmp_path / 'new' / 'b.json'
    write_json(out, ABOUT, [row.as_json(Outcome(12.5, 12, 13, 'n'))])
    found = json.loads(out.read_text())
    assert found == dict(ABOUT, rows=[dict(
        name='a', ratio=12.5, low=12, high=13, goal=20, unit='s', note='n', met=True)])


def test_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'b.json'
    write_json(path, ABOUT, [])
    with pytest.raises(ValueError):  # no JSON number
        write_json(path, ABOUT, [a_row().as_json(Outcome(float('nan')))])
    assert json.loads(path.read_text()) == dict(ABOUT, rows=[])
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_each_row_as_soon_as_it_is_done(tmp_path):
    out = tmp_path / 'b.json'

    def killed(setup):
        assert [row['name'] for row in json.loads(out.read_text())['rows']] == ['a', 'b']
        raise KeyboardInterrupt

    def wrong(setup):
        raise HRI30Error('no such clips')

    rows = [a_row('a', Outcome(2.0, 1.0, 3.0)), Row('b', 'fails', wrong),
            Row('c', 'is killed', killed)]
    with pytest.raises(KeyboardInterrupt):
        run(rows, Setup(str(tmp_path)), str(out))
    found = json.loads(out.read_text())
    assert [row['ratio'] for row in found['rows']] == [2.0, None]
    assert found['rows'][1]['note'] == 'failed: no such clips'
    assert found['machine']['cores'] >= 1
    assert found['versions']['mmaction2'] == '1.2.0'
    assert set(found) == {'rows', *ABOUT}


def test_table():
    rows = [a_row('a', goal=2.3), a_row('start', goal=20, unit='s', at_most=True),
            a_row('c'), a_row('d')]
    outcomes = [Outcome(2.5, 2.4, 2.6, 'of one core'), Outcome(21.0, 20.5, 22.0),
                Outcome(1.0), Outcome(None, note='failed: x', failed=True)]
    lines = format_table(rows, outcomes).splitlines()
    cells = [line.split() for line in lines]
    assert cells[1] == ['a', '2.50x', '2.40x', '2.60x', '>=', '2.3x', 'met']
    assert cells[2] == ['start', '21.00', 's', '20.50', 's', '22.00', 's', '<=', '20', 's',
                        'MISSED']
    assert cells[3] == ['c', '1.00x', '-', '-', '-']
    assert cells[4] == ['d', '-', '-', '-', '-', 'FAILED']
    assert lines[-2:] == ['a: of one core', 'd: failed: x']


def test_a_race_that_stock_does_not_finish_is_a_bound():
    ours = (60.0, [(30.0, 0.5), (60.0, 0.91)])
    assert summarize_races((240.0, [(240.0, 0.9)]), ours, '').ratio == 4
    bound = summarize_races((240.0, [(200.0, 0.42)]), ours, '')
    assert (bound.ratio, bound.low, bound.high) == (4, 4, None)
    assert bound.note.startswith('at least; top-1 0.90: stock more than 4.0 min (best')
    lost = summarize_races((240.0, [(240.0, 0.9)]), (60.0, [(60.0, 0.89)]), '')
    assert lost.ratio is None and lost.failed


def test_module_documents_itself():
    import doctest
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0
