"""Sets of classes and unknown actions: by hand, by MAPIE, and in streams."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from hri30_ext.deploy.runtime.certainty import ClassSets, OpenSet, judge
from hri30_ext.deploy.runtime.recognizer import Prediction
from hri30_ext.deploy.runtime.streaming import Stream, StreamSettings
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.analysis import analyze
from hri30_ext.evaluation.calibration import (
    Calibration,
    fit_open_set,
    fit_sets,
    save_calibration,
)
from hri30_ext.evaluation.open_set import measure_unknown
from hri30_ext.evaluation.results import Results
from hri30_ext.video.preprocessing import Preprocessing, Resize

K = 4


def make_scores(clips, strength=3., seed=0):
    """Scores of clips whose labels are in turn 0, 1, ..., and the labels."""
    labels_N = np.arange(clips) % K
    noise_NK = np.random.default_rng(seed).normal(size=(clips, K))
    return softmax(noise_NK + strength * np.eye(K)[labels_N], axis=1), labels_N


@pytest.mark.parametrize('certainty', [.8, .9, .95])
def test_sets_are_those_of_mapie(certainty):
    from mapie.classification import SplitConformalClassifier
    scores_NK, labels_N = make_scores(53, 1.5)
    others_NK, other_N = make_scores(400, 1.5, seed=1)
    # Its probabilities are the softmax of its inputs.
    model = LogisticRegression().fit(np.eye(K), np.arange(K))
    model.coef_, model.intercept_ = np.eye(K), np.zeros(K)
    mapie = SplitConformalClassifier(model, certainty, 'lac', prefit=True)
    _, expected = mapie.conformalize(
        np.log(scores_NK), labels_N).predict_set(np.log(others_NK))
    sets = fit_sets(scores_NK, labels_N, 1., certainty)
    assert (sets.clips, sets.alpha) == (53, pytest.approx(1 - certainty))
    members_NK = sets.members(others_NK)
    np.testing.assert_array_equal(members_NK, expected[:, :, 0])
    assert len(set(members_NK.sum(axis=1).tolist())) > 1
    assert members_NK[np.arange(400), other_N].mean() > certainty - .08


def test_too_few_clips_say_how_many_are_needed():
    scores_NK, labels_N = make_scores(8)
    with pytest.raises(HRI30Error, match='8 validation clips: a certainty of 0.9 needs 9'):
        fit_sets(scores_NK, labels_N, 1., .9)
    with pytest.raises(HRI30Error, match='needs 19 or more'):
        fit_open_set(scores_NK, labels_N)
    with pytest.raises(HRI30Error, match='1 classes have fewer than two'):
        fit_open_set(scores_NK, labels_N.clip(max=2))
    scores_NK, labels_N = make_scores(9)  # the largest of nine
    assert fit_sets(scores_NK, labels_N, 1., .9).threshold == pytest.approx(
        1 - scores_NK[np.arange(9), labels_N].min())


def test_a_prototype_is_of_the_other_clips():
    scores_NK, labels_N = make_scores(40, 4.)
    logits_NK = np.log(scores_NK) - np.log(scores_NK).mean(axis=1, keepdims=True)
    distances = []
    for i in range(40):
        kept_N = np.arange(40) != i
        distances.append(min(
            ((logits_NK[i] - mean_K) ** 2).sum() / np.linalg.norm(logits_NK[i])
            / np.linalg.norm(mean_K) for mean_K in (
                logits_NK[kept_N & (labels_N == k)].mean(axis=0) for k in range(K))))
    found = fit_open_set(scores_NK, labels_N)
    # 39th of 40: ceil(41 x 0.95); prototypes are rounded to three decimals.
    assert found.threshold == pytest.approx(sorted(distances)[38], rel=1e-3)
    # Neither unsure scores nor those that no clip has.
    assert (found.distances(np.array([[.25] * 4, [1, 0, 0, 0], [.4, .4, .1, .1]]))
            > found.threshold).all()


SETS = ClassSets(.7, .1, 20)
# Prototypes of the scores (.9, .1) and (.1, .9).
OPEN = OpenSet(.1, .05, 20, ((1.1, -1.1), (-1.1, 1.1)))
INFO = SimpleNamespace(
    classes=('dark', 'bright'), temperature=None, sets=SETS, open_set=OPEN,
    window_seconds=.2, preprocessing=Preprocessing(2, 1, 'uniform', (Resize(8, 4),)))


def test_judged_by_hand():
    assert judge(INFO, np.array([.1, .9])) == dict(
        set=('bright', ), certainty=.9, unknown=False)
    # 1 - 0.32 <= 0.7; the logits are shorter than any prototype's.
    assert judge(INFO, np.array([.32, .68])) == dict(
        set=('bright', 'dark'), certainty=.9, unknown=True)
    # With a temperature of 0.5, 0.32 becomes 0.18.
    cold = SimpleNamespace(**{**vars(INFO), 'temperature': .5, 'open_set': None})
    assert judge(cold, np.array([.32, .68])) == dict(
        set=('bright', ), certainty=.9, unknown=None)
    assert Prediction(INFO.classes, np.array([.1, .9])).judgement() == {}


def play(brightness, **settings):
    """Streams two seconds a value, of 20 frames a second; returns all events."""
    backend = lambda views_NTHWC: np.stack(  # noqa: E731
        [1 - views_NTHWC.mean(axis=(1, 2, 3, 4)) / 255,
         views_NTHWC.mean(axis=(1, 2, 3, 4)) / 255], axis=1)
    stream = Stream(INFO, backend, StreamSettings(
        predictions=True, **{**dict(enter=.6, leave=.4, hop=.1), **settings}))
    events = []
    for i in range(40 * len(brightness)):
        value = round(255 * brightness[i // 40])
        events += stream.push(np.full((4, 8, 3), value, np.uint8), i / 20)
    return events + stream.close()


def test_a_stream_has_no_event_for_what_is_unknown():
    actions = [(event.event, event.class_name, event.reason)
               for event in play([.9, .72, .9]) if event.event != 'prediction']
    # 0.72 is above both thresholds, and yet ends the action, which begins again.
    assert actions == [('start', 'bright', None), ('end', 'bright', 'below'),
                       ('start', 'bright', None), ('end', 'bright', 'closed')]
    events = play([.72], enter=0., leave=0., min_seconds=0)
    assert {event.event for event in events} == {'prediction'}
    assert {event.unknown for event in events} == {True}
    assert events[-1].to_json()['state'] == 'unsure' and events[-1].score > .7
    assert 'unknown' in events[-1].to_json()


def test_a_single_unknown_window_ends_no_action():
    backend = iter([.9] * 12 + [.72] + [.9] * 12)
    stream = Stream(INFO, lambda views: np.array([[1 - (p := next(backend)), p]]),
                    StreamSettings(hop=.1))
    events = [event for i in range(50) for event in stream.push(
        np.zeros((4, 8, 3), np.uint8), i / 20)]
    assert stream.predictions > 20
    assert [event.event for event in events] == ['start']


def test_reported_by_group_and_for_other_actions(tmp_path):
    scores_NK, labels_N = make_scores(80, 4.)
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'weights')
    sets = fit_sets(scores_NK, labels_N, 1., .9)
    open_set = fit_open_set(scores_NK, labels_N)
    save_calibration(checkpoint, 1., 80, 'x', sets, open_set)
    known = Results([f'{i}.avi' for i in range(80)], scores_NK, 'abcd', labels_N,
                    np.arange(80) // 40)
    found = analyze(known, Calibration(1., '', sets=sets, open_set=open_set))['certainty']
    held_N = scores_NK[np.arange(80), labels_N] >= 1 - sets.threshold - 1e-6
    assert [(group['group'], group['coverage']) for group in found['groups']] == [
        (0, held_N[:40].mean()), (1, held_N[40:].mean())]
    assert found['coverage'] == pytest.approx(held_N.mean()) and held_N.mean() >= .9
    assert json.loads(json.dumps(found)) == found
    known.save(tmp_path / 'known.npz')
    other_NK, _ = make_scores(30, 0., seed=2)
    Results([f'{i}.avi' for i in range(30)], other_NK, 'abcd').save(tmp_path / 'other.npz')
    text = measure_unknown(checkpoint, tmp_path / 'known.npz', tmp_path / 'other.npz')
    pairs = [(a > b) + .5 * (a == b) for a in known.scores_NK.max(1)
             for b in other_NK.astype(np.float32).max(1)]
    assert f'max-softmax   {np.mean(pairs):.4f}' in text
    Results(['a.avi'], [[.5, .5]], 'ab').save(tmp_path / 'other.npz')
    with pytest.raises(HRI30Error, match=r'other.npz: 1 clips, 2 classes'):
        measure_unknown(checkpoint, tmp_path / 'known.npz', tmp_path / 'other.npz')
