"""Weights of PyTorchVideo give the same scores under mmaction2's names."""

import pytest
import torch
from conftest import PRIMITIVE, run_tool
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from hri30_ext.checkpoints import load_from_local
from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error


class Branch(nn.Module):
    """The three convolutions of a block, as PyTorchVideo names them."""

    def __init__(self, channels, inner, out, steps, stride):
        super().__init__()
        self.conv_a = nn.Conv3d(channels, inner, (steps, 1, 1), bias=False,
                                padding=(steps // 2, 0, 0))
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1),
                                bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(out)

    def forward(self, x):
        x = self.norm_a(self.conv_a(x)).relu()
        return self.norm_c(self.conv_c(self.norm_b(self.conv_b(x)).relu()))


class Block(nn.Module):
    def __init__(self, channels, inner, out, steps, stride):
        super().__init__()
        if stride > 1 or channels != out:
            self.branch1_conv = nn.Conv3d(channels, out, 1, (1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(out)
        self.branch2 = Branch(channels, inner, out, steps, stride)

    def forward(self, x):
        skip = self.branch1_norm(self.branch1_conv(x)) if hasattr(
            self, 'branch1_conv') else x
        return (skip + self.branch2(x)).relu()


class Stage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.res_blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.res_blocks:
            x = block(x)
        return x


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(64)

    def forward(self, x):
        return nn.functional.max_pool3d(self.norm(self.conv(x)).relu(), (1, 3, 3),
                                        (1, 2, 2), (0, 1, 1))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(2048, 30)

    def forward(self, x):
        return self.proj(x.mean((2, 3, 4)))


class SlowOnly(nn.Module):
    """SlowOnly R50 of PyTorchVideo: after its documentation, from torch's layers alone."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Stem()])
        channels = 64
        for i, depth in enumerate((3, 4, 6, 3)):
            out, steps = 256 << i, 1 if i < 2 else 3
            self.blocks.append(Stage(
                Block(channels if j == 0 else out, out // 4, out, steps,
                      2 if i and j == 0 else 1) for j in range(depth)))
            channels = out
        self.blocks.append(Head())

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_scores_are_the_same(tmp_path):
    torch.manual_seed(0)
    source = SlowOnly().eval()
    for part in source.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1)
    torch.save(dict(model_state=source.state_dict()), tmp_path / 'a.pyth')
    done = run_tool('data/convert_weights.py', tmp_path / 'a.pyth',
                    tmp_path / 'b.safetensors', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    init_default_scope('mmaction')
    model = MODELS.build(load_config(PRIMITIVE).model).eval()
    model.load_state_dict(load_from_local(str(tmp_path / 'b.safetensors'))['state_dict'])
    x = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        expected = source(x)
        found = model.extract_feat(x[None], stage='head')[0]
    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('content, target, message', [
    (dict(model_state={'conv.weight': torch.zeros(1)}), 'b.safetensors', 'other names'),
    (dict(a=1), 'b.safetensors', 'a.pyth: no SlowOnly'),
    ({}, 'b.pth', 'ends with .safetensors')])
def test_other_files(tmp_path, content, target, message):
    from hri30_ext.checkpoints.converting import convert_slowonly
    torch.save(content, tmp_path / 'a.pyth')
    with pytest.raises(HRI30Error, match=message):
        convert_slowonly(tmp_path / 'a.pyth', tmp_path / target)
    assert not (tmp_path / target).exists()
