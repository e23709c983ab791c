"""The shift in time that TIN needs, with numbers shifted by hand."""

import pytest
import torch

from hri30_ext.compat.tin_shift import shift_by_fractions, tin_shift


def frames(*channels):
    """(1, T, C, 1) from what each channel holds over time."""
    return torch.tensor(channels, dtype=torch.float64).T[None, :, :, None]


@pytest.mark.parametrize('shift, expected', [
    (0, [1, 2, 3, 4]),
    (1, [0, 1, 2, 3]),  # later
    (4, [0, 0, 0, 0]),
    (-1, [2, 3, 4, 0]),  # earlier
    (-9, [0, 0, 0, 0]),
])
def test_positive_shifts_delay(shift, expected):
    shifted = tin_shift(frames([1, 2, 3, 4]), torch.tensor([[shift]], dtype=torch.int32))
    assert shifted.flatten().tolist() == expected


def test_each_group_of_each_clip_has_its_own_shift():
    clip = frames([1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12])
    shifted = tin_shift(torch.cat([clip, clip]), torch.tensor([[1, -1], [0, 2]]))
    assert torch.equal(shifted[:1], frames([0, 1, 2], [0, 4, 5], [8, 9, 0], [11, 12, 0]))
    assert torch.equal(shifted[1:], frames([1, 2, 3], [4, 5, 6], [0, 0, 7], [0, 0, 10]))


def test_what_is_shifted_out_leaves_zeros_even_of_infinities():
    shifted = tin_shift(frames([float('nan'), float('inf')]), torch.tensor([[1]]))
    assert shifted[0, 0].item() == 0 and shifted[0, 1].isnan().all()


def test_fractions_are_means_of_whole_shifts():
    clip = frames([4, 8, 12], [4, 8, 12])[..., None]
    shifted = shift_by_fractions(clip, torch.tensor([[0.25, -1.5]]))
    # By 0.25: 3/4 of each frame and 1/4 of the one before. By -1.5: half of the next
    # frame and half of the one after it.
    assert shifted[0, :, 0].flatten().tolist() == [3, 7, 11]
    assert shifted[0, :, 1].flatten().tolist() == [10, 6, 0]


def test_offsets_learn():
    clip = torch.randn(2, 4, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    # Away from whole numbers, where a mean of two shifts has a kink.
    offset = torch.tensor([[0.3, -1.6], [1.2, 0.5]], dtype=torch.float64,
                          requires_grad=True)
    assert torch.autograd.gradcheck(shift_by_fractions, (clip, offset))
