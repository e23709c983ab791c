import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from sklearn import metrics as sk

from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation import HRI30Metric

# Four clips of classes 0, 0, 1, 2; the second is mistaken for class 1.
SCORES = np.array([[.7, .2, .1], [.3, .6, .1], [.1, .8, .1], [.2, .3, .5]], np.float32)
LABELS = np.array([0, 0, 1, 2])


def test_hand_computed_values():
    metrics = HRI30Metric.calculate(SCORES, LABELS)
    assert metrics['top1'] == pytest.approx(3 / 4)
    assert metrics['top5'] == 1
    assert metrics['mean_class'] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert metrics['macro_precision'] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metrics['macro_recall'] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert metrics['macro_f1'] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics['loss'] == pytest.approx(
        -np.log([.7, .3, .8, .5]).mean(), rel=1e-6)
    assert metrics['num_videos'] == 4


@pytest.mark.filterwarnings('ignore:y_pred contains classes')
def test_agrees_with_scikit_learn_where_classes_are_absent():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(30), size=40).astype(np.float32)
    labels = rng.integers(0, 12, size=40)
    metrics = HRI30Metric.calculate(scores, labels)
    predicted = scores.argmax(1)
    assert metrics['top1'] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert metrics['mean_class'] == sk.balanced_accuracy_score(labels, predicted)
    assert metrics['top5'] == pytest.approx(
        sk.top_k_accuracy_score(labels, scores, k=5, labels=range(30)))
    assert metrics['macro_f1'] == pytest.approx(
        sk.f1_score(labels, predicted, average='macro', zero_division=0))


def test_of_equal_scores_the_first_class_is_the_prediction():
    # As in predictions.csv and in the confusion matrix; five of eight classes are chosen.
    metrics = HRI30Metric.calculate(np.full((8, 8), 1 / 8), np.arange(8))
    assert metrics['top1'] == metrics['mean_class'] == 1 / 8 and metrics['top5'] == 5 / 8


def test_certain_and_wrong_is_a_finite_loss():
    metrics = HRI30Metric.calculate(np.array([[1., 0.], [0., 1.]]), np.array([1, 1]))
    assert np.isfinite(metrics['loss']) and metrics['loss'] > 5
    assert HRI30Metric.calculate(np.ones((2, 1)), np.array([0, 0]))['loss'] == 0


def evaluate(*batches, labels=LABELS, failed=(), **options):
    """Scores clips by their numbers; returns the metrics and the results."""
    metric = HRI30Metric(**options)
    metric.dataset_meta = dict(classes=['A', 'B', 'C'])
    for batch in batches:
        metric.process(None, [
            ActionDataSample(metainfo=dict(
                video_id=f'video{i}', filename=f'/clips/video{i}.avi',
                **(dict(failed='empty') if i in failed else {})))
            .set_gt_label(int(labels[i])).set_pred_score(torch.from_numpy(SCORES[i]))
            .to_dict() for i in batch])
    return metric.evaluate(sum(map(len, batches))), metric.scored


@pytest.mark.parametrize('labelled', [True, False])
def test_evaluating_batches_gives_every_video_once(labelled):
    result, scored = evaluate([3, 1], [0, 2], labels=LABELS if labelled else [-1] * 4)
    assert result['num_videos'] == 4 and ('top1' in result) == labelled
    assert scored.videos == [f'video{i}.avi' for i in range(4)]
    np.testing.assert_array_equal(scored.scores_NK, SCORES)
    assert (scored.labels_N is not None) == labelled


def test_clips_that_could_not_be_read_have_no_score():
    kept = [0, 2, 3]
    result, _ = evaluate(range(4), failed=[1])
    assert result == dict(HRI30Metric.calculate(SCORES[kept], LABELS[kept]), num_failed=1)
    # A validation of no clip at all is an error.
    with pytest.raises(HRI30Error, match='none of the 1 clips could be read:\n  video0'):
        evaluate([0], failed=[0])
    result, scored = evaluate([0], failed=[0], allow_failed=True)
    assert result == dict(num_videos=0, num_failed=1)
    assert scored.failed == {'video0.avi': 'empty'}
