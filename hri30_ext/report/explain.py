"""Where a model looks: the places of a clip that speak for a class.

One method for all models, gradient times activation: the score's gradient at each place
of a grid, multiplied by what is there, summed over channels. Of a CNN that ends with a
pooling and a linear layer this is Grad-CAM.

- Where the backbone returns grids over the frame (CNNs, Swin), they are read.
- In a transformer with a class token, nothing reads the patches that leave the last block.
  So the tokens are read that enter it.
- Normalisation of single tokens, in blocks and in probes, makes the gradient orthogonal to
  the token. Within a backbone, what counts is thus the difference from the clip's mean.
- There, gradients differ from place to place, and are averaged over 3 x 3 x 3 places. With
  a probe on EfficientNet-Lite0 and 15 clips of the synthetic data, hiding the tenth of a
  clip where the map is highest then lowered the probability 1.7 times as much.

Shapes: T frames of H x W pixels, t x h x w places, C channels, K classes.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .frames import ShownClip

#: The blocks of transformers, by type.
_BLOCKS = {'MViT': 'blocks', 'TimeSformer': 'transformer_layers.layers',
           'UniFormerV2': 'transformer.resblocks', 'VisionTransformer': 'blocks',
           'VJEPA2Encoder': 'layer', 'VideoMAEModel': 'encoder.layer'}


def explain_clip(model: nn.Module, clip: ShownClip, label: int
                 ) -> tuple[np.ndarray | None, str]:
    """Colours frames of a clip where they speak for a class, 0-based.

    Returns:
        tuple[np.ndarray | None, str]: The frames, (T, H, W, 3) uint8 RGB, or None; and why
        they are missing, or empty.
    """
    try:
        map_THW = map_view(model, clip.view, label)
    except Exception as error:  # models raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        kind = type(getattr(model, 'backbone', model)).__name__
        return None, f'Where a {kind} looks is not shown ({reason}).'
    colours_THWC = 255 * matplotlib.colormaps['viridis'](map_THW)[..., :3]
    weights_THW1 = .7 * map_THW[..., None]
    blended_THWC = (1 - weights_THW1) * clip.frames_THWC + weights_THW1 * colours_THWC
    return blended_THWC.round().astype(np.uint8), ''


def map_view(model: nn.Module, view: torch.Tensor, label: int) -> np.ndarray:
    """Measures how much each place of a view speaks for a class, 0-based.

    Args:
        model (nn.Module): A recognizer without wrapper. It is set to evaluation mode;
            gradients and hooks stay as they were. Frozen parameters need none.
        view (torch.Tensor): (T, 3, H, W) for 2D recognizers, (1, 3, T, H, W) for others;
            uint8.

    Returns:
        np.ndarray: (T, H, W) float32 from 0 (says nothing for the class, or speaks
        against it) to 1 (speaks most for it); all 0 where nothing speaks for it.

    Raises:
        RuntimeError: the model has no grid over the frame, or does not take the view.
    """
    size = view.shape[:1] + view.shape[2:] if view.dim() == 4 else view.shape[2:]
    layer, cut = _find_layer(model.backbone), _Cut(model.backbone, size)
    # cuDNN refuses the backward pass of RNNs in evaluation mode.
    has_rnn = any(isinstance(module, nn.RNNBase) for module in model.modules())
    model.eval()
    with (layer.register_forward_pre_hook(cut.enter),
          layer.register_forward_hook(cut.leave), torch.enable_grad(),
          torch.backends.cudnn.flags(enabled=not has_rnn)):
        data = model.data_preprocessor(dict(inputs=[view], data_samples=None))
        logits_1K, _ = model.extract_feat(data['inputs'], stage='head')
        gradients = torch.autograd.grad(logits_1K[0, label], cut.leaves)
    map_THW = torch.zeros(size)
    for leaf, gradient, to_grid in zip(cut.leaves, gradients, cut.to_grids, strict=True):
        x_Cthw, gradient_Cthw = to_grid(leaf.detach()), to_grid(gradient)
        # Without such layers, what a ReLU returns counts as it is.
        if layer is not model.backbone or x_Cthw.min() < 0:
            x_Cthw = x_Cthw - x_Cthw.mean((1, 2, 3), keepdim=True)
        if layer is not model.backbone:
            sides = [3 if side >= 3 else 1 for side in x_Cthw.shape[1:]]
            gradient_Cthw = functional.avg_pool3d(
                gradient_Cthw, sides, 1, [side // 2 for side in sides],
                count_include_pad=False)
        map_thw = (gradient_Cthw * x_Cthw).sum(0).relu().float().cpu()
        # By volume, as SlowFast's two pathways divide the clip into different places.
        map_THW += map_thw.numel() * functional.interpolate(
            map_thw[None, None], size, mode='trilinear')[0, 0]
    return (map_THW / map_THW.max().clamp(min=torch.finfo().tiny)).numpy()


def _find_layer(backbone: nn.Module) -> nn.Module:
    """Returns the last block of a transformer, the last stage of a CNN of timm, or the
    backbone itself."""
    # Models import mmaction, which hri30_ext.modules has to mend first.
    from ..models.encoders import FrozenEncoder
    model = backbone.model if isinstance(backbone, FrozenEncoder) else backbone
    if hasattr(model, 'feature_info'):  # of timm
        return model.get_submodule(model.feature_info[-1]['module'])
    blocks = _BLOCKS.get(type(model).__name__)
    return model.get_submodule(blocks)[-1] if blocks else model


class _Cut:
    """Hooks that make leaves of the graph of what a layer takes or returns; ``to_grids``
    are functions that bring each leaf to (C, t, h, w). ``size`` is T, H and W."""

    def __init__(self, backbone: nn.Module, size: Sequence[int]) -> None:
        self.backbone, self.size = backbone, size
        self.leaves, self.to_grids = [], []

    def enter(self, module: nn.Module, args: tuple) -> tuple | None:
        """Cuts tokens that enter a block."""
        if args[0].dim() != 3:
            return None
        kind = type(self.backbone).__name__
        # The first convolution embeds patches.
        stride = next(module.stride for module in self.backbone.modules()
                      if isinstance(module, nn.Conv2d | nn.Conv3d))
        grid = args[1] if kind == 'MViT' else np.array(self.size) // (1, *stride)[-3:]

        def to_grid(x):
            if kind == 'UniFormerV2':  # places first, then frames
                x = x.transpose(0, 1)
            x = x[:, -np.prod(grid) // len(x):]  # without class and register tokens
            if kind == 'TimeSformer':  # frames of a place one after the other
                return x.reshape(*grid[1:], grid[0], -1).permute(3, 2, 0, 1)
            return x.reshape(*grid, -1).movedim(-1, 0)
        return self._cut(args[0], to_grid), *args[1:]

    def leave(self, module: nn.Module, args: tuple, output):
        """Cuts grids that leave a stage, unless tokens were cut."""
        if self.leaves:
            return None
        grids = [output] if isinstance(output, torch.Tensor) else output
        if any(x.dim() not in (4, 5) for x in grids):
            raise RuntimeError('its features have no grid over the frame')
        last = getattr(getattr(self.backbone, 'model', None), 'output_fmt', '') == 'NHWC'

        def to_grid(x):
            return x[0] if x.dim() == 5 else x.movedim(-1 if last else 1, 0)
        cut = [self._cut(x, to_grid) for x in grids]
        return cut[0] if grids is not output else type(output)(cut)

    def _cut(self, x: torch.Tensor, to_grid) -> torch.Tensor:
        torch.set_grad_enabled(True)  # a frozen encoder has switched gradients off
        self.leaves.append(x.detach().requires_grad_())
        self.to_grids.append(to_grid)
        return self.leaves[-1].clone()  # which later layers may change
