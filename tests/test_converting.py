"""Weights of other projects give the same scores under mmaction2's names."""

import pytest
import torch
from conftest import PRIMITIVE, call_hri30
from mmaction.registry import MODELS
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from hri30_ext.checkpoints import load_from_local
from hri30_ext.checkpoints.converting import convert_weights
from hri30_ext.config import PROJECT_ROOT, load_config
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


def test_videomae_of_transformers(tmp_path):
    """Of exactly the published form: the names of transformers 4, and biases apart."""
    import transformers
    torch.manual_seed(0)
    small = dict(hidden_size=24, num_attention_heads=2, num_hidden_layers=2,
                 intermediate_size=96, image_size=32, num_frames=4, num_labels=174)
    source = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(
        **small, layer_norm_eps=1e-6)).eval()
    for parameter in source.parameters():  # norms and biases too
        nn.init.normal_(parameter, std=.2)
    save_file({name.replace('.query.bias', '.q_bias').replace('.value.bias', '.v_bias'):
               tensor for name, tensor in source.state_dict().items()},
              tmp_path / 'model.safetensors')
    target = tmp_path / 'videomae-base-finetuned-ssv2.safetensors'
    convert_weights(tmp_path / 'model.safetensors', target)
    config, = (PROJECT_ROOT / 'configs/videomae').glob('*.py')
    cfg = load_config(str(config), {'start': 'ssv2', 'num_frames': 4})
    assert cfg.load_from == target.name
    model = MODELS.build(dict(cfg.model, backbone=dict(
        cfg.model.backbone, img_size=32, embed_dims=24, depth=2, num_heads=2),
        cls_head=dict(cfg.model.cls_head, in_channels=24, num_classes=174))).eval()
    found = model.load_state_dict(load_from_local(str(target))['state_dict'], strict=False)
    # It is computed; that a checkpoint lacks it is allowed.
    assert found.missing_keys == ['backbone.pos_embed'] and not found.unexpected_keys
    x_NVCTHW = torch.randn(1, 1, 3, 4, 32, 32)
    with torch.no_grad():
        logits = model.extract_feat(x_NVCTHW, stage='head')[0]
        expected = source(x_NVCTHW[:, 0].transpose(1, 2)).logits
    assert expected.std() > 1e-2
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('content, target, message', [
    (dict(model_state={'conv.weight': torch.zeros(1)}), 'b.safetensors', 'other names'),
    (dict(a=1), 'b.safetensors', 'a.pyth: neither SlowOnly'),
    ({}, 'b.pth', 'ends with .safetensors')])
def test_other_files(tmp_path, content, target, message):
    torch.save(content, tmp_path / 'a.pyth')
    with pytest.raises(HRI30Error, match=message):
        convert_weights(tmp_path / 'a.pyth', tmp_path / target)
    assert not (tmp_path / target).exists()
