"""Weights of other projects under the names of mmaction2."""

import re
from pathlib import Path

from ..errors import HRI30Error, first_cases
from .essentials import save_safetensors
from .loading import load_from_local

#: From PyTorchVideo's ResNets to mmaction2's, by parts of names.
_PYTORCHVIDEO = (
    (r'blocks\.0\.conv\.', 'backbone.conv1.conv.'),
    (r'blocks\.0\.norm\.', 'backbone.conv1.bn.'),
    (r'blocks\.([1-4])\.res_blocks\.', r'backbone.layer\1.'),
    (r'(backbone\.layer.*)\.branch1_conv\.', r'\1.downsample.conv.'),
    (r'(backbone\.layer.*)\.branch1_norm\.', r'\1.downsample.bn.'),
    (r'branch2\.(conv|norm)_([abc])\.', lambda m: f'conv{"abc".index(m[2]) + 1}.{m[1]}.'),
    (r'\.norm\.', '.bn.'),
    (r'blocks\.5\.proj\.', 'cls_head.fc_cls.'),
)


def convert_slowonly(source: str | Path, target: str | Path) -> int:
    """Converts PyTorchVideo's SlowOnly, ``SLOW_8x8_R50.pyth``, to ``.safetensors``.

    The scores stay the same where frames are normalised as there: ``start='pytorchvideo'``.

    Returns:
        int: The number of tensors.

    Raises:
        HRI30Error: the source is another model, or the target cannot be written.
    """
    if Path(target).suffix != '.safetensors':
        raise HRI30Error(f'{target}: expected a name that ends with .safetensors.')
    checkpoint = load_from_local(str(source))
    renamed = {}
    for name, tensor in checkpoint.get('model_state', checkpoint).items():
        for pattern, new in _PYTORCHVIDEO:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    other = [name for name in renamed if not name.startswith(
        ('backbone.conv1.', 'backbone.layer', 'cls_head.'))]
    if other or not renamed:
        raise HRI30Error(f'{source}: no SlowOnly of PyTorchVideo, whose weights have other '
                         f'names:\n{first_cases(other)}\nExpected SLOW_8x8_R50.pyth.')
    save_safetensors(renamed, target, None)
    return len(renamed)
