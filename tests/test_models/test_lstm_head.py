"""The head that reads frames in order."""

import pytest
import torch
from mmaction.structures import ActionDataSample

from hri30_ext.models import LSTMHead


@pytest.fixture
def head():
    return LSTMHead(num_classes=3, in_channels=4, hidden_size=5, average_clips='prob',
                    topk=(1, )).eval()


def features(clips=2, frames=6):
    """(clips x frames, 4, 2, 2), whose mean over positions is known as well."""
    torch.manual_seed(1)
    means = torch.randn(clips * frames, 4, 1, 1)
    noise = torch.randn(clips * frames, 4, 2, 2)
    return means + noise - noise.mean((2, 3), keepdim=True), means[:, :, 0, 0]


def test_logits_come_from_the_last_time_step_of_each_clip(head):
    x, means = features()
    steps = head.lstm(means.view(2, 6, 4))[0]
    expected = head.fc_cls(steps[:, 5])
    torch.testing.assert_close(head(x, num_segs=6), expected, atol=1e-6, rtol=0)
    # Clips of a batch do not mix, and the order of their frames matters.
    alone, turned = head(x[:6], num_segs=6), head(x[:6].flip(0), num_segs=6)
    torch.testing.assert_close(alone, expected[:1], atol=1e-6, rtol=0)
    assert not torch.allclose(alone, turned, atol=1e-4)


def test_loss_and_scores(head):
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 2)]
    losses = head.train().loss(features()[0], samples, num_segs=6)
    losses['loss_cls'].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    scores = head.eval().predict(features()[0], samples, num_segs=6)[0].pred_score
    assert scores.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings('error')
def test_one_layer_has_no_dropout_between_layers():
    assert LSTMHead(num_classes=3, in_channels=4, num_layers=1).lstm.dropout == 0


def test_a_further_layer():
    head = LSTMHead(num_classes=3, in_channels=4, hidden_size=5, fc_channels=6).eval()
    logits = head(torch.randn(8, 4, 2, 2), num_segs=4)
    assert logits.shape == (2, 3)
    assert [tuple(layer.weight.shape) for layer in (head.fc[0], head.fc_cls)] == [
        (6, 5), (3, 6)]


def test_the_lstm_computes_in_float32_under_autocast(head):
    seen = []
    head.lstm.register_forward_hook(lambda module, inputs, outputs: seen.extend(
        [inputs[0].dtype, outputs[0].dtype]))
    with torch.autocast('cpu', torch.bfloat16):
        head(torch.randn(4, 4, 2, 2).bfloat16(), num_segs=2)
    assert seen == [torch.float32, torch.float32]
