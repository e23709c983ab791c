"""Two models on the same clips."""

import json
import re
from math import comb

import numpy as np
import pytest
from conftest import call_hri30
from scipy.stats import t

from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.compare import (
    compare,
    compare_splits,
    format_comparison,
    format_splits,
)
from hri30_ext.evaluation.results import Results

CLASSES = ['X', 'Y', 'Z']
LABELS = np.repeat([0, 1], 10)


def make_results(predicted, labels=LABELS, groups=None, **changes):
    scores = np.full((len(predicted), 3), .1)
    scores[np.arange(len(predicted)), predicted] = .8
    return Results(**{**dict(videos=[f'clip{i:02}' for i in range(len(predicted))],
                             scores_NK=scores, classes=CLASSES, labels_N=labels,
                             groups_N=groups), **changes})


def wrong_at(*clips):
    predicted = LABELS.copy()
    predicted[list(clips)] = 2
    return predicted


def test_by_hand():
    # Only A has clip 0 right; only B has 4, 5, 10 to 14; neither has 19.
    comparison = compare(make_results(wrong_at(4, 5, 10, 11, 12, 13, 14, 19)),
                         make_results(wrong_at(0, 19)))
    assert comparison['a']['top1'] == .6 and comparison['b']['top1'] == .9
    assert comparison['difference'] == pytest.approx(.3)
    # McNemar: 1 of 8 coin tosses or fewer, on both sides.
    p_value = 2 * (comb(8, 0) + comb(8, 1)) / 2 ** 8
    assert comparison['mcnemar'] == dict(only_a=1, only_b=7,
                                         p_value=pytest.approx(p_value))
    assert comparison['flips'] == [
        {'class': 'Y', 'clips': 10, 'only_a': 0, 'only_b': 5},
        {'class': 'X', 'clips': 10, 'only_a': 1, 'only_b': 2}]
    interval = comparison['interval']
    assert interval['unit'] == 'clips' and interval['units'] == 20
    assert 0 <= interval['low'] < .3 < interval['high'] <= .6
    text = format_comparison(comparison)
    assert '+0.3000' in text and 'p = 0.0703 (' in text


def test_the_interval_is_over_groups():
    # B is better by .5, 0 and .25 of the clips of three groups: mean .25, deviation .25.
    groups = np.repeat([1, 2, 3], 4)
    labels = np.zeros(12, int)
    a = make_results([2, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], labels, groups)
    interval = compare(a, make_results(labels, labels, groups))['interval']
    assert (interval['unit'], interval['units']) == ('groups', 3)
    width = t(2).ppf(.975) * .25 / 3 ** .5
    assert [interval['low'], interval['high']] == pytest.approx([.25 - width, .25 + width])


def test_the_same_model_twice():
    a = make_results(wrong_at(3))
    comparison = compare(a, a)
    assert comparison['mcnemar']['p_value'] == 1 and comparison['flips'] == []
    assert comparison['interval']['low'] == comparison['interval']['high'] == 0
    assert 'class' not in format_comparison(comparison)


@pytest.mark.parametrize('changes, message', [
    (dict(videos=[f'clip{i:02}' for i in range(1, 21)], groups_N=[1] * 20),
     r'clip00: .* and missing\n.*\n  clip20: missing and '),
    (dict(classes=['X', 'Z', 'Y']), 'class 2: Y and Z'),
    (dict(labels_N=1 - LABELS), 'A and B: 20 .*\n  clip00: .*X.* and .*Y'),
    (dict(labels_N=None, groups_N=[1] * 20),
     'A and B: 20 .*\n  clip00: .*X.* and .*unknown'),
    (dict(groups_N=[7] * 20), 'A and B: 20 .*\n  clip00: .*1 and .*7'),
])
def test_differences_are_named(changes, message):
    a = make_results(LABELS, groups=[1] * 20, source='A')
    with pytest.raises(HRI30Error, match=message):
        compare(a, make_results(LABELS, **{'source': 'B', **changes}))


def test_folders(tmp_path, monkeypatch, capsys):
    for name, predicted in (('A', wrong_at(1)), ('B', LABELS)):
        make_results(predicted).save(tmp_path / name / 'scores.npz')
    monkeypatch.chdir(tmp_path)
    assert call_hri30('compare', 'A', 'B', '--json', 'ab.json') == 0
    assert '+0.0500' in capsys.readouterr().out
    written = json.loads((tmp_path / 'ab.json').read_text())
    assert written['difference'] == pytest.approx(.05)


def test_clips_that_one_model_could_not_read_are_left_out():
    whole = make_results(wrong_at(0, 3))
    a = make_results(wrong_at(1)).without({'clip00': 'empty'})
    b = make_results(wrong_at(2)).without({'clip19': 'gone'})
    comparison = compare(a, b)
    assert (comparison['clips'], comparison['failed']) == (18, 2)
    assert comparison['a']['top1'] == comparison['b']['top1'] == 17 / 18
    assert '18 clips; 2 more' in format_comparison(comparison)
    assert compare(whole, b)['clips'] == 19 and compare(whole, whole)['failed'] == 0
    # A clip that the other has not even heard of is another matter.
    with pytest.raises(HRI30Error, match='clip00: not readable and missing'):
        compare(a, make_results(LABELS[1:], LABELS[1:], videos=whole.videos[1:]))


def test_several_splits_side_by_side():
    classes = ['MoveLeftWithDrill', 'MoveRightWithDrill', 'MoveLeftWithPolisher',
               'PickUpDrill', 'PutDownDrill', 'Walking']
    labels = np.array([0, 0, 1, 2, 3, 4, 5])

    def split(predicted, clips=7):
        return Results(list('abcdefg')[:clips], np.eye(6)[predicted[:clips]], classes,
                       labels[:clips], [1, 2, 1, 2, 1, 2, 1][:clips], data='d')
    found = compare_splits([split([1, 0, 0, 0, 4, 3, 0]), split(labels, 4)])
    # Left for right and back; a drill for a polisher; both handled the wrong way.
    # Only a class with a partner counts: Walking has none of any kind.
    assert found['kinds'] == {'direction': [[2, 3], [0, 3]], 'tool': [[1, 3], [0, 3]],
                              'pick up / put down': [[2, 2], [0, 0]]}
    assert [one['top1'] for one in found['splits']] == [pytest.approx(1 / 7), 1]
    text = format_splits(found)
    assert re.search(r'pick up / put down confused +2 of 2 +0 of 0', text)
    assert 'No mean' in text
