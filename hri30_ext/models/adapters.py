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
    """

    num_steps = 1  # T of the clips that come next
    before = 'attention'  # or ``both``: attention and MLP

    def __init__(self, in_channels: int, grid: tuple[int, int], prefix: int,
                 channels: int = 384) -> None:
        super().__init__()
        self.grid, self.prefix = grid, prefix
        self.down = nn.Linear(in_channels, channels)
        self.up = nn.Linear(channels, in_channels)
        nn.init.zeros_(self.up.bias)

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
    blocks of 768 channels: 7,110,144 parameters before attention, 14,220,288 before
    attention and MLP.

    Args:
        before (str): ``attention``, or ``both``: attention and MLP.
    """

    def __init__(self, in_channels, grid, prefix, channels=384, before='attention') -> None:
        super().__init__(in_channels, grid, prefix, channels)
        self.before = before
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

    One half: a depthwise 3x3x3 convolution over time and grid. The other: real FFTs over
    windows of T, T/2 and T/4 frames, a depthwise 3x3x3 convolution over frequencies and
    grid on real and imaginary parts, the inverse FFTs, averaged over the three. With 12
    blocks of 768 channels: 7,285,248 parameters.

    Choices where the paper leaves one: the three windows share one convolution (which the
    paper's count of 7.29 M agrees with); FFTs are orthonormal and in float32; the last
    layer starts at zero. A T that a window does not divide is filled up by repeating the
    last frame; a window has at least one frame. Grids of any shape are convolved as they
    are, with zeros around them.
    """

    def __init__(self, in_channels, grid, prefix, channels=384) -> None:
        super().__init__(in_channels, grid, prefix, channels)
        half = channels // 2
        self.time = nn.Conv3d(half, half, 3, padding=1, groups=half)
        self.frequency = nn.Conv3d(2 * half, 2 * half, 3, padding=1, groups=2 * half)
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
    """A block of a ViT behind an adapter, by a class made of both.

    The names of the block's own parameters stay, and so do copies of the model.
    """

    def forward(self, x, *args, **kwargs):
        x = self.adapter(x)
        if not hasattr(self, 'adapter_mlp'):
            return super().forward(x, *args, **kwargs)
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        x = self.adapter_mlp(x)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def adapt(vit: nn.Module, adapter: dict, name: str, grid: tuple[int, int]) -> None:
    """Puts adapters before the blocks of a ViT of timm, which is changed in place.

    Raises:
        HRI30Error: the model is no ViT, or has no place for the second adapter.
    """
    blocks = getattr(vit, 'blocks', None)
    if not hasattr(vit, 'num_prefix_tokens') or not blocks:
        raise HRI30Error(
            f'adapter={adapter["type"]}: goes into the blocks of a ViT of timm, and {name} '
            'is none.\nSet adapter=None, or choose another backbone.')
    adapter = dict(adapter, in_channels=vit.embed_dim, grid=grid,
                   prefix=vit.num_prefix_tokens)
    kind = type(f'Adapted{type(blocks[0]).__name__}', (_Adapted, type(blocks[0])), {})
    for block in blocks:
        block.adapter = MODELS.build(adapter)
        before = block.adapter.before
        if before not in ('attention', 'both') or before == 'both' and not hasattr(
                block, 'ls1'):
            raise HRI30Error(f'adapter: before={before!r}, expected attention, or both in '
                             f'a plain ViT; {name} has blocks of {kind.__name__[7:]}.')
        if before == 'both':
            block.adapter_mlp = MODELS.build(adapter)
        block.__class__ = kind
