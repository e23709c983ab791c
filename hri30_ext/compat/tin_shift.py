"""The shift in time that TIN needs, without compiled operators.

Shapes: N batch, T frames, C channels, G groups of channels, P positions (H x W).
"""

import torch


def tin_shift(input: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Shifts groups of channels along time; what comes from outside the clip is 0.

    Frame ``t`` of the input becomes frame ``t + shift`` of the output, so a positive
    shift delays, as the forward kernel of ``mmcv.ops.tin_shift`` does. The gradient is
    shifted the other way; mmcv's backward kernel, in the versions read, shifts it the same
    way as the forward one.

    Args:
        input (torch.Tensor): (N, T, C, P), as is the result.
        shift (torch.Tensor): Integers, (N, G): group ``g`` are the ``g``-th C / G
            channels.
    """
    frames, channels = input.shape[1:3]
    shift_NC = shift.long().repeat_interleave(channels // shift.shape[1], dim=1)
    time_T = torch.arange(frames, device=input.device)
    source_NTC = time_T[None, :, None] - shift_NC[:, None, :]
    outside_NTC1 = ((source_NTC < 0) | (source_NTC >= frames))[..., None]
    index_NTCP = source_NTC.clamp(0, frames - 1)[..., None].expand_as(input)
    return input.gather(1, index_NTCP).masked_fill(outside_NTC1, 0)


def shift_by_fractions(data: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Shifts by fractions of a frame: a mean of the two whole shifts around them.

    Args:
        data (torch.Tensor): (N, T, C, H, W), as is the result.
        offset (torch.Tensor): (N, G); differentiable, through the mean's weights.
    """
    data_NTCP = data.flatten(3)
    below_NG = offset.detach().floor()
    share_NC = (offset - below_NG).repeat_interleave(
        data.shape[2] // offset.shape[1], dim=1)
    share_N1C1 = share_NC[:, None, :, None]
    shifted = ((1 - share_N1C1) * tin_shift(data_NTCP, below_NG)
               + share_N1C1 * tin_shift(data_NTCP, below_NG + 1))
    return shifted.view_as(data)
