"""Adapters: small layers in every block of a frozen ViT, which let frames see each other.

The frozen parameters get no gradients, which pass through them to the adapters before.
Shapes: N clips, T frames of a clip, M = N * T, P tokens of a frame, D channels, C channels
within an adapter, H and W the grid of patches.
"""

import math

import numpy as np
import torch
from mmaction.registry import MODELS
from torch import nn

from ..errors import HRI30Error


class Adapter(nn.Module):
    """Linear to C, a mix over time, linear back, added to the patch tokens alone.

    The ``prefix`` tokens before the patches stay as they are. ``grid`` is (H, W).

    Args:
        before (str): Where it goes in a block: ``mlp``, ``attention``, or ``both``, which
            makes two of it.
    """

    num_steps = 1  # T of the clips that come next

    def __init__(self, in_channels: int, grid: tuple[int, int], prefix: int,
                 channels: int = 384, before: str = 'mlp') -> None:
        super().__init__()
        self.grid, self.prefix, self.before = grid, prefix, before
        self.down = nn.Linear(in_channels, channels)
        self.up = nn.Linear(channels, in_channels)
        for layer in (self.down, self.up):
            nn.init.zeros_(layer.bias)

    def forward(self, x_MPD: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        first, patches_MPD = x_MPD[:, :self.prefix], x_MPD[:, self.prefix:]
        y_NTHWC = self.down(patches_MPD).unflatten(1, self.grid).unflatten(
            0, (-1, self.num_steps))
        y_NCTHW = self.mix(y_NTHWC.permute(0, 4, 1, 2, 3))
        y_MPC = y_NCTHW.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
        return torch.cat([first, patches_MPD + self.up(y_MPC)], 1)


@MODELS.register_module()
class STAdapter(Adapter):
    """ST-Adapter (arXiv 2206.13559): a depthwise 3x1x1 convolution over time.

    The convolution starts at zero, so that training starts from the frozen model. With 12
    blocks of 768 channels: 7,110,144 parameters before the MLP or before attention, and
    14,220,288 before both.

    The released code (linziyi96/st-adapter) has two models with CLIP's ViT-B/16:
    ``clip_vit_base_patch16_adapter12x384``, before the MLP, and ``..._adapter24x384``,
    before both.

    Args:
        before (str): See :class:`Adapter`.
    """

    def __init__(self, in_channels, grid, prefix, channels=384, before='mlp') -> None:
        super().__init__(in_channels, grid, prefix, channels, before)
        self.conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0),
                              groups=channels)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def mix(self, y_NCTHW: torch.Tensor) -> torch.Tensor:
        """Convolves over time."""
        return self.conv(y_NCTHW)


@MODELS.register_module()
class Frame2FreqAdapter(Adapter):
    """Frame2Freq (arXiv 2602.18977): half of the channels over time, half over frequencies.

    One half: a depthwise convolution over time and grid. The other: real FFTs over windows
    of T, T/2 and T/4 frames, a depthwise convolution over frequencies and grid on real and
    imaginary parts, the inverse FFTs, averaged over the three; the windows share one
    convolution.

    The paper's count, 7.29 M, is that of 12 blocks of 768 channels with 3x3x3 kernels:
    7,285,248 parameters. The released code (th-nesh/Frame2Freq) has these as the default
    of its adapter, and builds all its models with kernels of 3x1x1: 7,119,360. Its model
    ``..._adapter12x384_ms`` has an adapter before the MLP, and ``..._adapter24x384_ms`` two
    in a block.

    Differences from the released code:

    - It starts the last layer as torch does, so that training does not start from the
      frozen model: ``start_at_zero=False``.
    - It reshapes the spectrum, whose channels and parts are the last axes, to a shape with
      these axes first, without permuting, so that its convolution does not slide over
      frequencies. Here it does, as the paper says.
    - It takes 8, 16 or 32 frames and a square grid. Here, a T that a window does not divide
      is filled up by repeating the last frame, and a window has at least one frame. Grids
      of any shape are convolved as they are, with zeros around them.
    - FFTs are orthonormal here, which changes nothing but the effect of a bias, and in
      float32.

    Args:
        before (str): See :class:`Adapter`.
        kernel (tuple[int, int, int]): Sides of both convolutions, over time or frequencies,
            height and width; odd.
        start_at_zero (bool): Whether the last layer starts at zero.
    """

    def __init__(self, in_channels, grid, prefix, channels=384, before='mlp',
                 kernel=(3, 3, 3), start_at_zero=True) -> None:
        super().__init__(in_channels, grid, prefix, channels, before)
        half, padding = channels // 2, [side // 2 for side in kernel]
        self.time, self.frequency = (
            nn.Conv3d(width, width, tuple(kernel), padding=padding, groups=width)
            for width in (half, 2 * half))
        for conv in (self.time, self.frequency):
            nn.init.zeros_(conv.bias)
        if start_at_zero:
            nn.init.zeros_(self.up.weight)

    def mix(self, y_NCTHW: torch.Tensor) -> torch.Tensor:
        """Convolves over time, and over frequencies in three windows."""
        one, other = y_NCTHW.chunk(2, 1)
        filtered = [self._filter(other, math.ceil(self.num_steps / part))
                    for part in (1, 2, 4)]
        return torch.cat([self.time(one), torch.stack(filtered).mean(0).to(one.dtype)], 1)

    def _filter(self, y_NCTHW: torch.Tensor, window: int) -> torch.Tensor:
        windows = math.ceil(self.num_steps / window)
        fill = windows * window - self.num_steps
        y = torch.cat([y_NCTHW, y_NCTHW[:, :, -1:].expand(-1, -1, fill, -1, -1)], 2)
        # (N, K windows, C, frames, H, W), and K windows as further clips.
        y = y.unflatten(2, (windows, window)).transpose(1, 2).flatten(0, 1)

        def multiply(x_KCTHW: torch.Tensor, matrix_TF: np.ndarray) -> torch.Tensor:
            # Without autocast, which multiplies in 16 bits.
            with torch.autocast(x_KCTHW.device.type, enabled=False):
                x_KCTHW = x_KCTHW.float()
                return torch.einsum('kcthw,tf->kcfhw', x_KCTHW,
                                    x_KCTHW.new_tensor(matrix_TF))

        # As matrices, which ONNX has; FFTs of so few frames are no faster.
        there = np.fft.rfft(np.eye(window), norm='ortho')
        back, back_imaginary = (np.fft.irfft(unit * np.eye(there.shape[1]), window,
                                             norm='ortho') for unit in (1, 1j))
        real, imaginary = self.frequency(torch.cat(
            [multiply(y, there.real), multiply(y, there.imag)], 1)).chunk(2, 1)
        y = multiply(real, back) + multiply(imaginary, back_imaginary)
        y = y.unflatten(0, (-1, windows)).transpose(1, 2).flatten(2, 3)
        return y[:, :, :self.num_steps]


class _Adapted:
    """A block of a ViT with adapters, by a class made of both.

    The names of the block's own parameters stay, and so do copies of the model.
    """

    def forward(self, x, *args, **kwargs):
        if hasattr(self, 'adapter'):
            x = self.adapter(x)
        if not hasattr(self, 'adapter_mlp'):
            return super().forward(x, *args, **kwargs)
        y = self.attn(self.norm1(x), *args, **kwargs)
        x = self.adapter_mlp(x + self.drop_path1(self._scale(1, y)))
        return x + self.drop_path2(self._scale(2, self.mlp(self.norm2(x))))

    def _scale(self, part: int, y: torch.Tensor) -> torch.Tensor:
        """Scales what is added to the tokens: by a module, or a parameter of EVA's."""
        if hasattr(self, 'ls1'):
            return getattr(self, f'ls{part}')(y)
        gamma = getattr(self, f'gamma_{part}')
        return y if gamma is None else gamma * y


class _Averaged:
    """The last norm of a ViT, which first averages the frames of a clip."""

    num_steps = 1  # T of the clips that come next

    def forward(self, x_MPD):
        return super().forward(x_MPD.unflatten(0, (-1, self.num_steps)).mean(1))


def adapt(vit: nn.Module, adapter: dict, name: str, grid: tuple[int, int]) -> None:
    """Puts adapters into the blocks of a ViT of timm, which is changed in place.

    Raises:
        HRI30Error: the model is no ViT, or has no place for the adapter.
    """
    blocks = getattr(vit, 'blocks', None)
    if not hasattr(vit, 'num_prefix_tokens') or not blocks:
        raise HRI30Error(
            f'adapter={adapter["type"]}: goes into the blocks of a ViT of timm, and {name} '
            'is none.\nSet adapter=None, or choose another backbone.')
    adapter = dict(adapter, in_channels=vit.embed_dim, grid=grid,
                   prefix=vit.num_prefix_tokens)
    places = dict(attention=['adapter'])
    if hasattr(blocks[0], 'ls1') or hasattr(blocks[0], 'gamma_1'):
        places |= dict(mlp=['adapter_mlp'], both=['adapter', 'adapter_mlp'])
    before = MODELS.build(adapter).before
    if before not in places:
        raise HRI30Error(f'adapter: before={before!r}, expected {" or ".join(places)} in '
                         f'the blocks of {name}, {type(blocks[0]).__name__}.')
    kind = type(f'Adapted{type(blocks[0]).__name__}', (_Adapted, type(blocks[0])), {})
    for block in blocks:
        for place in places[before]:
            setattr(block, place, MODELS.build(adapter))
        block.__class__ = kind


def average_frames(vit: nn.Module, name: str) -> None:
    """Averages the tokens of a clip over its frames before the last norm of a ViT of timm,
    which is changed in place.

    Raises:
        HRI30Error: the model is no such ViT.
    """
    norm = getattr(vit, 'norm', None)
    if not (hasattr(vit, 'num_prefix_tokens') and isinstance(norm, nn.LayerNorm)):
        raise HRI30Error(f'average_frames=True: is for ViTs of timm that end with a norm, '
                         f'and {name} does not.\nSet average_frames=False.')
    norm.__class__ = type(f'Averaged{type(norm).__name__}', (_Averaged, type(norm)), {})
