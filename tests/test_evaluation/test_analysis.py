"""The analysis of results: class names, errors, kinds, groups and intervals."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.evaluation.analysis import (
    KINDS,
    _class_counts,
    _macro_f1,
    _mean_class,
    analyze,
    classify_error,
    describe_class,
)
from hri30_ext.evaluation.calibration import Calibration
from hri30_ext.evaluation.metrics import HRI30Metric
from hri30_ext.evaluation.results import Results


def make_results(labels, predicted, groups=None, classes=HRI30_CLASSES):
    scores = np.full((len(labels), len(classes)), .1 / len(classes))
    scores[np.arange(len(labels)), predicted] += .9
    return Results([f'clip{i:04}' for i in range(len(labels))], scores, classes, labels,
                   groups)


def make_random(clips=840, absent=()):
    rng = np.random.default_rng(1)
    classes = [k for k in range(30) if k not in absent]
    labels = rng.choice(classes, clips)
    predicted = np.where(rng.random(clips) < .7, labels, rng.choice(classes, clips))
    return make_results(labels, predicted, np.sort(rng.integers(1, 9, clips)))


TOOLS = ('drill', 'polisher')
DIRECTIONS = (
    'backward', 'diagonal backward left', 'diagonal backward right',
    'diagonal forward left', 'diagonal forward right', 'forward', 'left', 'right')


def test_names():
    assert list(map(describe_class, HRI30_CLASSES)) == [
        ('deliver', '', 'object'),
        *(('move', direction, tool) for direction in DIRECTIONS for tool in TOOLS),
        *(('no collaborative', '', tool) for tool in TOOLS),
        *(('handle', 'up', tool) for tool in (*TOOLS, 'object')),
        *(('handle', 'down', tool) for tool in TOOLS),
        *(('using', '', tool) for tool in TOOLS),
        *(('walking', '', tool) for tool in ('', 'object', *TOOLS))]
    assert describe_class('NoCollaborativeWithDrilll').tool == 'drill'
    assert describe_class('walk_left with-a_drill') == ('walk', 'left', 'drill')
    assert describe_class('HTTPWave2') == ('http wave 2', '', '')
    assert describe_class('') == describe_class('+-_') == ('', '', '')
    assert classify_error('+', '-') == 'other'


@pytest.mark.parametrize('true, predicted, error', [
    ('MoveLeftWhileDrilling', 'MoveDiagonallyForwardLeftWithDrill', 'direction'),
    ('PickUpDrill', 'PutDownDrill', 'direction'),
    ('MoveLeftWhileDrilling', 'MoveLeftWhilePolishing', 'tool'),
    ('Walking', 'WalkingWithObject', 'tool'),
    ('PickUpTheObject', 'PutDownDrill', 'direction_and_tool'),
    ('MoveForwardWhileDrilling', 'MoveBackwardsWhilePolishing', 'direction_and_tool'),
    ('UsingTheDrill', 'NoCollaborativeWithDrill', 'other'),
    ('WalkingWithDrill', 'MoveForwardWhileDrilling', 'other'),
    ('DeliverObject', 'PickUpTheObject', 'other'),
])
def test_errors_are_told_apart_either_way(true, predicted, error):
    assert classify_error(true, predicted) == classify_error(predicted, true) == error


def test_by_hand():
    # PickUpDrill twice (one taken for PutDownDrill), Walking once (with drill),
    # UsingTheDrill once, right.
    analysis = analyze(make_results([19, 19, 26, 24], [19, 22, 28, 24], [1, 2, 2, 5]))
    assert analysis['errors'] == dict(clips=4, wrong=2, direction=1, tool=1,
                                      direction_and_tool=0, other=0)
    interaction, motion, collaboration = analysis['kinds']
    assert interaction == dict(name='human-object interaction', classes=6, clips=2, top1=.5,
                               mean_class=.5)
    assert (motion['classes'], motion['clips'], motion['top1']) == (20, 1, 0.)
    assert (collaboration['classes'], collaboration['top1']) == (4, 1.)
    assert analysis['groups'] == [
        dict(group=1, clips=1, top1=1.), dict(group=2, clips=2, top1=0.),
        dict(group=5, clips=1, top1=1.)]
    assert sorted(i for ids in KINDS.values() for i in ids) == list(range(1, 31))


def test_what_is_not_there_has_no_figures():
    assert analyze(make_results([0, 1], [0, 0], classes=['A', 'B']))['kinds'] == []
    assert analyze(make_results([0, 0], [0, 0]))['kinds'][1]['mean_class'] is None


@pytest.mark.parametrize('absent', [(), (0, 7, 29)])
def test_scores_of_sums_are_scikit_learns(absent):
    results = make_random(absent=absent)
    # A part of the clips, some of them several times, so that further classes are missing.
    drawn = np.random.default_rng(2).integers(0, 840, 60)
    labels, predicted = results.labels_N[drawn], results.predicted_N[drawn]
    sums = _class_counts(results)[drawn].sum(axis=0)[None]
    assert _mean_class(sums) == pytest.approx(
        recall_score(labels, predicted, labels=np.unique(labels), average='macro'))
    assert _macro_f1(sums) == pytest.approx(f1_score(labels, predicted, average='macro'))


def test_intervals_are_over_known_groups():
    results = make_random()
    intervals = analyze(results)['intervals']
    assert (intervals['unit'], intervals['units'], intervals['note']) == ('groups', 8, '')
    metrics = HRI30Metric.calculate(results.scores_NK, results.labels_N)
    for name in ('top1', 'mean_class', 'macro_f1'):
        low, high = intervals[name]
        assert low < metrics[name] < high and high - low < .2
    unknown = analyze(replace(results, groups_N=None))['intervals']
    assert (unknown['unit'], unknown['units']) == ('clips', 840) and unknown['note']


def test_plain_values_that_are_the_same_each_time():
    results = make_random()
    analysis = analyze(results, Calibration(1., ''))
    assert analysis == analyze(results, Calibration(1., ''))
    assert json.loads(json.dumps(analysis)) == analysis
    calibration = analysis['calibration']
    assert calibration['nll'] == pytest.approx(calibration['nll_scaled'], rel=1e-6)
    assert len(calibration['bins']) == 15
    assert sum(row['clips'] for row in calibration['bins']) == 840
