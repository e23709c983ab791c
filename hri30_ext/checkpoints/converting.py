"""Weights of other projects under the names of mmaction2."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import HRI30Error, first_cases
from .essentials import save_safetensors
from .loading import load_from_local

#: From PyTorchVideo's ResNets to mmaction2's, by parts of names.
_PYTORCHVIDEO = (
    (r'blocks\.0\.conv\.', r'backbone.conv1.conv.'),
    (r'blocks\.0\.norm\.', r'backbone.conv1.bn.'),
    (r'blocks\.([1-4])\.res_blocks\.', r'backbone.layer\1.'),
    (r'(backbone\.layer.*)\.branch1_conv\.', r'\1.downsample.conv.'),
    (r'(backbone\.layer.*)\.branch1_norm\.', r'\1.downsample.bn.'),
    *((rf'branch2\.(conv_{letter}|norm_{letter})\.',
       lambda match, number=number: f'conv{number}.{match[1][:4]}.')
      for number, letter in enumerate('abc', 1)),
    (r'\.norm\.', '.bn.'),
    (r'blocks\.5\.proj\.', 'cls_head.fc_cls.'),
)


def convert_slowonly(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the weights of PyTorchVideo's SlowOnly, such as ``SLOW_8x8_R50.pyth``.

    Args:
        weights (Mapping[str, torch.Tensor]): Its ``model_state``.

    Returns:
        dict[str, torch.Tensor]: For ``Recognizer3D`` with ``ResNet3dSlowOnly``, whose
        scores are then the same. Frames are normalised with a mean of 114.75 and a
        deviation of 57.375 in [0, 255] there.

    Raises:
        HRI30Error: names of another model.
    """
    renamed = {}
    for name, tensor in weights.items():
        for pattern, new in _PYTORCHVIDEO:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    other = [name for name in renamed if not name.startswith(
        ('backbone.conv1.', 'backbone.layer', 'cls_head.'))]
    if other or not renamed:
        raise HRI30Error('no SlowOnly of PyTorchVideo: it has other names:\n'
                         f'{first_cases(other)}\nExpected SLOW_8x8_R50.pyth.')
    return renamed


def convert_file(source: str | Path, target: str | Path) -> int:
    """Converts a checkpoint of PyTorchVideo to a ``.safetensors`` file.

    Returns:
        int: The number of tensors.

    Raises:
        HRI30Error: the source is no such checkpoint, or the target cannot be written.
    """
    if Path(target).suffix != '.safetensors':
        raise HRI30Error(f'{target}: expected a name that ends with .safetensors.')
    checkpoint = load_from_local(str(source))
    try:
        weights = convert_slowonly(checkpoint.get('model_state', checkpoint))
    except (AttributeError, HRI30Error) as error:
        raise HRI30Error(f'{source}: {error}') from error
    save_safetensors(weights, target, None)
    return len(weights)
