"""Frozen backbones give the same features with OpenVINO as with torch."""

import numpy as np
import pytest
import torch
from torch import nn

from hri30_ext.models import TimmFrames, inference
from hri30_ext.models.inference import openvino_inference


class Pathways(nn.Module):
    """Two outputs, as SlowFast has."""

    def __init__(self):
        super().__init__()
        self.slow, self.fast = nn.Conv3d(3, 8, (1, 3, 3)), nn.Conv3d(3, 4, 2)

    def forward(self, x_NCTHW):
        return self.slow(x_NCTHW[:, :, ::2]), self.fast(x_NCTHW).relu()


@pytest.mark.parametrize('make', [
    Pathways, lambda: TimmFrames('tf_efficientnet_lite0', (32, 64), 2, pretrained=None)])
def test_openvino_gives_the_features_of_torch(make):
    backbone = make().eval()
    first, second = (torch.randn(n, 3, 2, 64, 32) for n in (3, 2))
    with torch.no_grad():
        with openvino_inference(backbone):
            backbone(first)
            features = backbone(second)
        expected = backbone(second)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(AssertionError):  # another library computed them
        torch.testing.assert_close(features, expected, rtol=0, atol=0)


@pytest.mark.parametrize('convert', [
    lambda backbone, row: 1 / 0,
    lambda backbone, row: lambda x: {0: np.zeros((1, 4, 6, 6), np.float32)},
    lambda backbone, row: lambda x: {0: np.full((1, 4, 6, 6), np.nan, np.float32)}])
def test_what_openvino_cannot_compute_is_left_to_torch(convert, monkeypatch):
    backbone, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    monkeypatch.setattr(inference, '_convert', convert)
    with torch.no_grad():
        expected = backbone(x)
        with openvino_inference(backbone):
            assert torch.equal(backbone(x), expected)
            assert torch.equal(backbone(x), expected)
