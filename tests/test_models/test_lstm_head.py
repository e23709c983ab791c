"""The head that reads frames in order."""

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope

from hri30_ext.models import LSTMHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    return LSTMHead(num_classes=3, in_channels=4, hidden_size=5, dropout_ratio=0.5,
                    average_clips='prob')


def features(clips=2, frames=6):
    """(clips x frames, 4, 2, 2), each constant over its positions."""
    torch.manual_seed(1)
    return torch.randn(clips * frames, 4, 1, 1).expand(-1, -1, 2, 2)


def test_is_registered_and_has_two_layers_of_512():
    init_default_scope('mmaction')
    head = MODELS.build(dict(type='LSTMHead', num_classes=30, in_channels=2048))
    assert (head.lstm.num_layers, head.lstm.hidden_size) == (2, 512)
    assert head.fc_cls.weight.shape == (30, 512)


def test_logits_come_from_the_last_time_step(head):
    head.eval()
    x = features()
    steps = head.lstm(x[:, :, 0, 0].view(2, 6, 4))[0]
    assert torch.equal(head(x, num_segs=6), head.fc_cls(steps[:, 5]))


def test_order_matters(head):
    head.eval()
    x = features(clips=1)
    assert not torch.allclose(head(x, num_segs=6), head(x.flip(0), num_segs=6), atol=1e-4)


def test_clips_of_a_batch_do_not_mix(head):
    head.eval()
    x = features()
    alone = torch.cat([head(x[:6], num_segs=6), head(x[6:], num_segs=6)])
    assert torch.allclose(head(x, num_segs=6), alone, atol=1e-6)


def test_positions_are_averaged(head):
    head.eval()
    x = features(clips=1)
    noise = torch.randn(6, 4, 2, 2)
    noise -= noise.mean((2, 3), keepdim=True)
    assert torch.allclose(head(x, num_segs=6), head(x + noise, num_segs=6), atol=1e-6)


def test_loss_and_scores(head):
    head.train()
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 2)]
    head.topk = (1, )
    losses = head.loss(features(), samples, num_segs=6)
    losses['loss_cls'].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    scores = head.eval().predict(features(), samples, num_segs=6)[0].pred_score
    assert scores.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings('error')
def test_one_layer_has_no_dropout_between_layers():
    assert LSTMHead(num_classes=3, in_channels=4, num_layers=1).lstm.dropout == 0


def test_the_lstm_computes_in_float32_under_autocast():
    head = LSTMHead(num_classes=3, in_channels=4, hidden_size=5).eval()
    seen = []
    head.lstm.register_forward_hook(lambda module, inputs, outputs: seen.extend(
        [inputs[0].dtype, outputs[0].dtype]))
    with torch.autocast('cpu', torch.bfloat16):
        head(torch.randn(4, 4, 2, 2).bfloat16(), num_segs=2)
    assert seen == [torch.float32, torch.float32]
