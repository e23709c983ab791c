"""Calibration: values by hand, and against scikit-learn."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.calibration import (
    BOUNDS,
    apply_temperature,
    calibration_path,
    expected_calibration_error,
    fit_temperature,
    load_calibration,
    negative_log_likelihood,
    reliability_bins,
    save_calibration,
)


def make_clips(temperature):
    """Labels that are drawn from probabilities, and scores that are sharper than these."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    logits[:, 2] = -np.inf
    truth = softmax(logits, axis=1)
    labels = (truth.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    return softmax(logits * temperature, axis=1).astype(np.float32), labels


def test_ece_by_hand():
    # Confidences .55 and .65 (wrong, right), .95 and .95 (both right), in bins of .1:
    # gaps .55, .35 and .05, weighted 1, 1 and 2 of 4.
    scores = np.array([[.55, .45], [.65, .35], [.05, .95], [.95, .05]])
    labels = np.array([1, 0, 1, 0])
    assert expected_calibration_error(scores, labels, bins=10) == pytest.approx(.25)
    bins = reliability_bins(scores, labels, bins=10)
    assert [row['clips'] for row in bins] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert bins[0] == dict(low=0., high=.1, confidence=None, accuracy=None, clips=0)
    assert bins[9]['confidence'] == pytest.approx(.95) and bins[9]['accuracy'] == 1.
    # An edge belongs to the bin below.
    bins = reliability_bins(np.array([[.5, .5], [1., 0.]]), np.array([0, 0]), bins=2)
    assert [row['clips'] for row in bins] == [1, 1]
    assert len(reliability_bins(np.ones((1, 1)), np.array([0]))) == 15


@pytest.mark.parametrize('temperature', [.5, 1., 3.])
def test_the_fit_finds_how_overconfident_scores_are(temperature):
    scores, labels = make_clips(temperature)
    fitted = fit_temperature(scores, labels)
    assert fitted == pytest.approx(temperature, rel=.05)
    # The lowest loss of a fine grid, computed by scikit-learn, is not lower.
    grid = [log_loss(labels, apply_temperature(scores, t), labels=range(5))
            for t in np.linspace(fitted * .9, fitted * 1.1, 41)]
    assert negative_log_likelihood(apply_temperature(scores, fitted), labels) <= min(grid)


def test_fits_at_the_ends():
    scores = np.array([[.9, .1], [.2, .8]])
    assert fit_temperature(scores, np.array([0, 1])) == pytest.approx(BOUNDS[0], rel=1e-3)
    assert fit_temperature(scores, np.array([1, 0])) == pytest.approx(BOUNDS[1], rel=1e-3)
    with pytest.raises(HRI30Error, match='not probabilities'):
        fit_temperature(np.array([[-3., 2.]]), np.array([0]))


def test_kept_beside_the_checkpoint(tmp_path):
    checkpoint = tmp_path / 'best_top1_epoch_3.pth'
    checkpoint.write_bytes(b'weights')
    assert load_calibration(checkpoint) is None
    save_calibration(checkpoint, np.float64(1.5), 120, 'clips')
    content = json.loads((tmp_path / 'best_top1_epoch_3.calibration.json').read_text())
    content.pop('checkpoint_sha256')
    assert content == dict(temperature=1.5, clips=120, data='clips', sets=None,
                           open_set=None)
    assert load_calibration(checkpoint).temperature == 1.5
    same = checkpoint.with_suffix('.safetensors')
    same.write_bytes(b'the same weights')
    assert load_calibration(same).temperature == 1.5
    best = tmp_path / 'best.pth'
    best.write_bytes(b'weights')  # another name of it
    assert load_calibration(best).temperature == 1.5
    best.write_bytes(b'a better one')
    assert load_calibration(best) is None
    checkpoint.write_bytes(b'trained again')
    with pytest.raises(HRI30Error, match='another checkpoint'):
        load_calibration(checkpoint)
    with pytest.raises(HRI30Error, match='another checkpoint'):
        load_calibration(same)


@pytest.mark.parametrize('content', [
    '', '[]', '{}', 'null', '{"temperature": 0, "checkpoint_sha256": ""}',
    '{"temperature": NaN, "checkpoint_sha256": ""}',
    '{"temperature": "1", "checkpoint_sha256": ""}', '{"temperature": 1.5}', '\ufeff{}'])
def test_other_files_are_named(tmp_path, content):
    calibration_path(tmp_path / 'a.pth').write_text(content, encoding='utf-8')
    with pytest.raises(HRI30Error, match=r'a.calibration.json: [\s\S]*the temperature'):
        load_calibration(tmp_path / 'a.pth')
