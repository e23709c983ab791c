"""Weights of PyTorchVideo give the same scores under mmaction2's names."""

import pytest
import torch
from conftest import PRIMITIVE, call_hri30
from mmaction.registry import MODELS
from torch import nn
from torch.nn import functional

from hri30_ext.checkpoints import load_from_local
from hri30_ext.checkpoints.converting import convert_slowonly
from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error


class SlowOnly:
    """SlowOnly R50 of PyTorchVideo, after its documentation: makes the weights it needs."""

    def __init__(self):
        self.weights = {'blocks.5.proj.weight': torch.randn(30, 2048) / 50,
                        'blocks.5.proj.bias': torch.randn(30)}

    def conv(self, x, name, norm, out, kernel=(1, 1, 1), stride=1):
        """Convolves with padding, and normalizes."""
        kernel = nn.init.kaiming_normal_(torch.empty(out, x.shape[1], *kernel))
        values = {'running_mean': torch.rand(out) / 5, 'running_var': torch.rand(out) + .5,
                  'weight': torch.rand(out) / 2 + .5, 'bias': torch.rand(out) / 5}
        self.weights |= {f'{name}.weight': kernel,
                         f'{norm}.num_batches_tracked': torch.tensor(0),
                         **{f'{norm}.{part}': value for part, value in values.items()}}
        x = functional.conv3d(x, kernel, None, (1, stride, stride),
                              [size // 2 for size in kernel.shape[2:]])
        return functional.batch_norm(x, **values)

    def __call__(self, x):
        x = self.conv(x, 'blocks.0.conv', 'blocks.0.norm', 64, (1, 7, 7), 2).relu()
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for i, depth in enumerate((3, 4, 6, 3)):
            out, steps = 256 << i, 1 if i < 2 else 3
            for j in range(depth):
                block = f'blocks.{i + 1}.res_blocks.{j}.'
                stride, skip = 2 if i and j == 0 else 1, x
                if j == 0:
                    skip = self.conv(x, f'{block}branch1_conv', f'{block}branch1_norm',
                                     out, stride=stride)
                for part, channels, kernel, step in (
                        ('a', out // 4, (steps, 1, 1), 1),
                        ('b', out // 4, (1, 3, 3), stride), ('c', out, (1, 1, 1), 1)):
                    x = self.conv(x, f'{block}branch2.conv_{part}',
                                  f'{block}branch2.norm_{part}', channels, kernel, step)
                    x = x if part == 'c' else x.relu()
                x = (skip + x).relu()
        return functional.linear(x.mean((2, 3, 4)), self.weights['blocks.5.proj.weight'],
                                 self.weights['blocks.5.proj.bias'])


def test_scores_are_the_same(tmp_path):
    source, x = SlowOnly(), torch.randn(1, 3, 4, 64, 64)
    expected = source(x)
    torch.save(dict(model_state=source.weights), tmp_path / 'a.pyth')
    assert call_hri30('convert-weights', tmp_path / 'a.pyth',
                      tmp_path / 'b.safetensors') == 0
    model = MODELS.build(load_config(PRIMITIVE).model).eval()
    model.load_state_dict(load_from_local(str(tmp_path / 'b.safetensors'))['state_dict'])
    with torch.no_grad():
        found = model.extract_feat(x[None], stage='head')[0]
    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('content, target, message', [
    (dict(model_state={'conv.weight': torch.zeros(1)}), 'b.safetensors', 'other names'),
    (dict(a=1), 'b.safetensors', 'a.pyth: no SlowOnly'),
    ({}, 'b.pth', 'ends with .safetensors')])
def test_other_files(tmp_path, content, target, message):
    torch.save(content, tmp_path / 'a.pyth')
    with pytest.raises(HRI30Error, match=message):
        convert_slowonly(tmp_path / 'a.pyth', tmp_path / target)
    assert not (tmp_path / target).exists()
