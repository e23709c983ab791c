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


def test_agrees_with_scikit_learn_where_classes_are_absent():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(30), size=40).astype(np.float32)
    labels = rng.integers(0, 12, size=40)
    metrics = HRI30Metric.calculate(scores, labels)
    predicted = scores.argmax(1)
    assert metrics['top1'] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert metrics['top5'] == pytest.approx(
        sk.top_k_accuracy_score(labels, scores, k=5, labels=range(30)))
    assert metrics['macro_f1'] == pytest.approx(
        sk.f1_score(labels, predicted, average='macro', zero_division=0))


def test_certain_and_wrong_is_a_finite_loss():
    metrics = HRI30Metric.calculate(np.array([[1., 0.], [0., 1.]]), np.array([1, 1]))
    assert np.isfinite(metrics['loss']) and metrics['loss'] > 5


@pytest.mark.parametrize('labelled', [True, False])
def test_evaluating_batches_gives_every_video_once(labelled):
    metric = HRI30Metric()
    metric.dataset_meta = dict(classes=['A', 'B', 'C'])
    for order in ([3, 1], [0, 2]):
        metric.process(None, [
            ActionDataSample(metainfo=dict(video_id=f'video{i}',
                                           filename=f'/clips/video{i}.avi'))
            .set_gt_label(int(LABELS[i]) if labelled else -1)
            .set_pred_score(torch.from_numpy(SCORES[i])).to_dict() for i in order])
    result = metric.evaluate(4)
    assert result['num_videos'] == 4 and ('top1' in result) == labelled
    scored = metric.scored
    assert scored.videos == [f'video{i}.avi' for i in range(4)]
    np.testing.assert_array_equal(scored.scores_NK, SCORES)
    assert (scored.labels_N is not None) == labelled


def test_clips_that_could_not_be_read_have_no_score():
    metric = HRI30Metric()
    metric.dataset_meta = dict(classes=['A', 'B', 'C'])
    metric.process(None, [
        ActionDataSample(metainfo=dict(video_id=f'video{i}', **(
            dict(failed='empty') if i == 1 else {})))
        .set_gt_label(int(LABELS[i])).set_pred_score(torch.from_numpy(SCORES[i])).to_dict()
        for i in range(4)])
    kept = [0, 2, 3]
    assert metric.evaluate(4) == dict(
        HRI30Metric.calculate(SCORES[kept], LABELS[kept]), num_failed=1)


def test_a_validation_of_no_clip_at_all_is_an_error():
    def evaluate(metric):
        metric.dataset_meta = dict(classes=['A', 'B', 'C'])
        metric.process(None, [
            ActionDataSample(metainfo=dict(video_id='v', failed='empty')).set_gt_label(0)
            .set_pred_score(torch.from_numpy(SCORES[0])).to_dict()])
        return metric.evaluate(1)

    with pytest.raises(HRI30Error, match='none of the 1 clips could be read:\n  v: empty'):
        evaluate(HRI30Metric())
    testing = HRI30Metric(allow_failed=True)
    assert evaluate(testing) == dict(num_videos=0, num_failed=1)
    assert testing.scored.failed == {'v': 'empty'}
