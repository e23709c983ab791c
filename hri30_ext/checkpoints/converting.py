"""Weights of other projects under the names of mmaction2."""

import re
from pathlib import Path

import torch

from ..errors import HRI30Error, first_cases
from .essentials import save_safetensors
from .loading import load_from_local

#: From the names of other projects to mmaction2's, by parts of names, in this order.
_NAMES = (
    # ResNets of PyTorchVideo.
    (r'blocks\.0\.conv\.', 'backbone.conv1.conv.'),
    (r'blocks\.0\.norm\.', 'backbone.conv1.bn.'),
    (r'blocks\.([1-4])\.res_blocks\.', r'backbone.layer\1.'),
    (r'(backbone\.layer.*)\.branch1_conv\.', r'\1.downsample.conv.'),
    (r'(backbone\.layer.*)\.branch1_norm\.', r'\1.downsample.bn.'),
    (r'branch2\.(conv|norm)_([abc])\.', lambda m: f'conv{"abc".index(m[2]) + 1}.{m[1]}.'),
    (r'\.norm\.', '.bn.'),
    (r'blocks\.5\.proj\.', 'cls_head.fc_cls.'),
    # VideoMAE of transformers.
    (r'^videomae\.embeddings\.patch_embeddings\.', 'backbone.patch_embed.'),
    (r'^videomae\.encoder\.layer\.', 'backbone.blocks.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.attention\.', '.attn.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.intermediate\.dense\.', '.mlp.layers.0.0.'),
    (r'\.output\.dense\.', '.mlp.layers.1.'),
    (r'^fc_norm\.', 'backbone.fc_norm.'),
    (r'^classifier\.', 'cls_head.fc_cls.'),
)
#: How names of mmaction2 begin.
_BEGINNINGS = ('backbone.conv1.', 'backbone.layer', 'backbone.patch_embed.',
               'backbone.blocks.', 'backbone.fc_norm.', 'cls_head.')


def convert_weights(source: str | Path, target: str | Path) -> int:
    """Converts weights of another project to ``.safetensors`` with mmaction2's names.

    The scores stay the same where frames are normalised as there.

    Args:
        source (str | Path): SlowOnly of PyTorchVideo, ``SLOW_8x8_R50.pyth``, for
            ``start='pytorchvideo'``; or a fine-tuned VideoMAE of transformers, such as
            ``model.safetensors`` of ``MCG-NJU/videomae-base-finetuned-ssv2``, for
            ``start='ssv2'``.
        target (str | Path): The file that is written.

    Returns:
        int: The number of tensors.

    Raises:
        HRI30Error: the source is another model, or the target cannot be written.
    """
    if Path(target).suffix != '.safetensors':
        raise HRI30Error(f'{target}: expected a name that ends with .safetensors.')
    checkpoint = load_from_local(str(source))
    weights = checkpoint.get('model_state', checkpoint.get('state_dict', checkpoint))
    renamed = {}
    for name, tensor in weights.items():
        for pattern, new in _NAMES:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    # transformers splits the weights of query, key and value.
    for name in [name for name in renamed if name.endswith('.attn.query.weight')]:
        block = name.removesuffix('query.weight')
        renamed[f'{block}qkv.weight'] = torch.cat([
            renamed.pop(f'{block}{part}.weight') for part in ('query', 'key', 'value')])
    other = [name for name in renamed if not name.startswith(_BEGINNINGS)]
    if other or not renamed:
        raise HRI30Error(
            f'{source}: neither SlowOnly of PyTorchVideo nor a fine-tuned VideoMAE of '
            f'transformers, whose weights have other names:\n{first_cases(other)}\n'
            'Expected SLOW_8x8_R50.pyth, or model.safetensors of such a VideoMAE.')
    save_safetensors(renamed, target, None)
    return len(renamed)
