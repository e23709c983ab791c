"""Late fusion of result folders."""

import json

import numpy as np
import pytest
from conftest import call_hri30

from hri30_ext.apis.ensemble import ensemble, format_ensemble
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.ensemble import fit_weights, fuse
from hri30_ext.evaluation.results import Results

CLASSES = ['X', 'Y', 'Z']


def make_model(strength, seed, videos='clip', group=1, labelled=True, clips=60):
    """Results of a model whose scores follow the labels as strongly as is said."""
    labels = np.arange(clips) % 3
    logits = np.random.default_rng(seed).normal(size=(clips, 3))
    logits[np.arange(clips), labels] += strength
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Results([f'{videos}{i:02}' for i in range(clips)], scores, CLASSES,
                   labels if labelled else None, [group] * clips, data='drawn numbers')


@pytest.fixture
def folders(tmp_path):
    """Two models, with validation and (unlabelled) test folders."""
    for name, strength in (('A', 3), ('B', .5)):
        make_model(strength, ord(name)).save(tmp_path / name / 'val' / 'scores.npz')
        make_model(strength, ord(name) + 9, 'testvideo', -1, labelled=False).save(
            tmp_path / name / 'test' / 'scores.npz')
        (tmp_path / name / 'test' / 'test_set_labels.csv').touch()
    return tmp_path


def test_fusing_by_hand():
    a = Results(['v', 'w'], [[.8, .2], [.4, .6]], ['X', 'Y'], [0, 1], [5, 2], ['/v', '/w'])
    b = Results(['w', 'v'], [[.2, .8], [.4, .6]], ['X', 'Y'], [1, 0], [2, 5], ['/w', '/v'])
    fused = fuse([a, b], [.75, .25])
    np.testing.assert_allclose(fused.scores_NK, [[.7, .3], [.35, .65]], rtol=1e-6)
    assert fused.groups_N.tolist() == [5, 2] and fused.filenames == ['/v', '/w']
    assert fused.labels_N.tolist() == [0, 1]


def test_fitted_weights_are_the_best_of_a_grid():
    models = [make_model(1, 1), make_model(1, 2), make_model(-1, 3)]
    weights = fit_weights(models)
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    true = np.stack([one.scores_NK[np.arange(60), one.labels_N] for one in models], axis=1)

    def loss(point):
        return -np.log(true @ point).mean()

    grid = [np.array([i, j, 20 - i - j]) / 20 for i in range(21) for j in range(21 - i)]
    assert loss(weights) <= min(map(loss, grid)) + 1e-6
    # One that is wrong on most clips gets next to nothing.
    assert weights[2] < .01 < .2 < min(weights[:2])


def test_equal_weights_of_labelled_clips(folders):
    out = folders / 'AB'
    summary = ensemble([folders / 'A' / 'val', folders / 'B' / 'val' / 'scores.npz'], out)
    assert {file.name for file in out.iterdir()} == {
        'predictions.csv', 'scores.npz', 'metrics.json', 'per_class.csv',
        'confusion_matrix.png', 'analysis.json', 'report.html', 'weights.json'}
    written = json.loads((out / 'weights.json').read_text())
    assert written == summary and written['fit'] is None
    assert [model['weight'] for model in written['models']] == [.5, .5]
    assert summary['metrics'] == json.loads((out / 'metrics.json').read_text())
    assert Results.load(out).groups_N.tolist() == [1] * 60
    assert 'drawn numbers, 60 clips' in format_ensemble(summary, out)


def test_weights_fitted_on_validation_clips_for_test_clips(folders, monkeypatch):
    monkeypatch.chdir(folders)
    assert call_hri30('ensemble', 'A/test', 'B/test', '--out', 'AB', '--weights', 'fitted',
                      '--fit-on', 'A/val', 'B/val') == 0
    assert {file.name for file in (folders / 'AB').iterdir()} == {
        'predictions.csv', 'scores.npz', 'test_set_labels.csv', 'report.html',
        'weights.json'}
    assert len((folders / 'AB' / 'test_set_labels.csv').read_text().splitlines()) == 60
    written = json.loads((folders / 'AB' / 'weights.json').read_text())
    assert written['models'][0]['weight'] > .6
    assert written['fit']['nll_fitted'] < written['fit']['nll_equal']


def test_weights_are_not_fitted_on_test_clips(folders):
    def fit(*fit_on, scored):
        ensemble([folders / 'A' / scored, folders / 'B' / scored], folders / 'AB',
                 'fitted', [folders / path for path in fit_on])

    for name in 'AB':
        # Labelled, as the synthetic data's test clips are.
        make_model(1, 5, 'testvideo', -1).save(folders / name / 'test' / 'scores.npz')
    with pytest.raises(HRI30Error, match='test clips'):
        fit('A/test', 'B/test', scored='val')  # the name of the folder
    for name in 'AB':
        (folders / name / 'test').rename(folders / name / 'other')
    with pytest.raises(HRI30Error, match='test clips'):
        fit('A/other', 'B/other', scored='val')  # there is a submission
    for name in 'AB':
        (folders / name / 'other' / 'test_set_labels.csv').unlink()
    with pytest.raises(HRI30Error, match='test clips'):
        fit('A/other', 'B/other', scored='val')  # no group is known
    with pytest.raises(HRI30Error, match='clip00'):
        fit('A/val', 'B/val', scored='val')
    assert not (folders / 'AB').exists()


@pytest.mark.parametrize('models, options, message', [
    (['A/val'], {}, 'two or more'),
    (['A/test', 'B/test'], dict(weights='fitted', fit_on=['A/val']), '1 folders'),
    (['A/test', 'B/test'], dict(fit_on=['A/val', 'B/val']), '2 folders'),
    (['A/val', 'B/val'], dict(out='A/val'), 'is one of the folders that are read'),
])
def test_mistakes_are_named(folders, monkeypatch, models, options, message):
    monkeypatch.chdir(folders)
    with pytest.raises(HRI30Error, match=message):
        ensemble(models, **{'out': 'AB', **options})


def test_clips_that_one_model_could_not_read(folders):
    scores = folders / 'A' / 'test' / 'scores.npz'
    Results.load(scores).without({'testvideo07': 'cannot be decoded (x).'}).save(scores)
    (folders / 'A' / 'test' / 'test_set_labels.csv').unlink(missing_ok=True)
    out = folders / 'AB'
    out.mkdir()
    (out / 'test_set_labels.csv').write_text('of an earlier one')
    summary = ensemble([folders / 'A' / 'test', folders / 'B' / 'test'], out)
    assert (summary['clips'], summary['failed']) == (59, 1)
    fused = Results.load(out)
    assert fused.failed == {'testvideo07': 'cannot be decoded (x).'}
    assert not (out / 'test_set_labels.csv').exists()
    assert 'testvideo07,,FAILED,0.0000' in (out / 'predictions.csv').read_text()
    assert '1 more clips could not be read' in format_ensemble(summary, out)
