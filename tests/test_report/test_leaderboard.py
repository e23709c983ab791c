"""docs/leaderboard.md is made from docs/leaderboard.yml; run this file to write it."""

import numpy as np
import pytest
import yaml

from hri30_ext.evaluation.results import Results
from hri30_ext.names import HRI30_CLASSES
from hri30_ext.report.leaderboard import ROWS, describe_place, read_rows

PAGE = ROWS.with_suffix('.md')
COLUMNS = ('work', 'year', 'model', 'start', 'trainable parameters', 'data', 'split',
           'protocol', 'top1', 'top5', 'source', 'caveat')


def format_page():
    titles = dict(top1='top-1, %', top5='top-5, %')
    table = [[titles.get(name, name) for name in COLUMNS], ['---'] * len(COLUMNS)]
    for row in read_rows():
        cells = {**row, **{name: ', '.join(f'{value:g}' for value in row.get(name, ()))
                           for name in titles}}
        table.append([str(cells.get(name) or 'not known') for name in COLUMNS])
    intro = yaml.safe_load(ROWS.read_text(encoding='utf-8'))['intro']
    return intro + '\n' + ''.join(f'| {" | ".join(line)} |\n' for line in table)


def test_page_is_made_from_the_rows():
    assert PAGE.read_text(encoding='utf-8') == format_page()


def test_rows_are_consistent():
    for row in read_rows():
        assert set(row) <= {*COLUMNS, 'paper_splits'}, row
        top1, of_splits = row.get('top1', []), row.get('paper_splits', [])
        assert len(of_splits) in (0, len(top1)), row
        assert all(60 < value <= 100 for value in top1 + row.get('top5', [])), row
        assert len(row.get('top5', [])) in (0, len(top1)), row
        # A figure of a paper's split says so, and no other does.
        assert bool(of_splits) == ('paper' in row['split']), row


def place(count, number=1, data='data in /hri30, paper split, test', subset='test'):
    results = Results([f'{i:04}' for i in range(count)], np.eye(30)[[0] * count],
                      HRI30_CLASSES, [0] * count, data=data)
    split = dict(type='paper', number=number)
    return dict(describe_place(results, dict(split=split), subset))


def test_only_the_same_clips_are_comparable():
    found = place(629, 2)
    assert 'HRI30 paper, SlowOnly: 83.49;' in found['May stand beside']
    assert 'student' not in found['May stand beside']
    for work in ('Frame2Freq-MS', 'random split', 'student projects'):
        assert work not in found['May stand beside']
    assert 'student projects, lowest and highest: 71, 75' in place(839)['May stand beside']


@pytest.mark.parametrize('options, reason', [
    (dict(count=210, number=3), '210 clips, and split 3 of the paper has 1,049'),
    (dict(count=839, data='synthetic data, test'), 'the data is synthetic'),
    (dict(count=839, subset='val'), 'validation clips'),
])
def test_what_is_not_comparable_says_why(options, reason):
    found = place(**options)
    assert list(found) == ['May stand beside'] and reason in found['May stand beside']


if __name__ == '__main__':
    PAGE.write_text(format_page(), encoding='utf-8')
