"""Multigrid training: size, frames, batch and learning rate by epoch.

Shapes: T frames, H height and W width in pixels, N clips of a batch.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmaction.datasets.transforms import UniformSample
from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import HOOKS
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook

from ..errors import HRI30Error
from ..hardware import unwrap
from .data_parallel import lr_factor
from .loops import count_batches
from .schedules import advance_schedules, count_steps

#: Widths and heights are multiples of it, in pixels.
DIVISOR = 8


class ClipSize(NamedTuple):
    """The clips of an epoch."""

    width: int  # pixels
    height: int  # pixels
    frames: int
    batch: int  # clips, on each GPU
    lr_factor: float  # of the learning rate; 1 for full clips

    def __str__(self) -> str:
        return (f'clips of {self.frames} frames of {self.width} x {self.height}, batches '
                f'of {self.batch}, learning rate x {self.lr_factor:.3g}')


class SharedUniformSample(BaseTransform):
    """A sampling step with a number of frames that running processes share.

    Attributes:
        clip_len_T (torch.Tensor): The number of frames, (1, ) int64 in shared memory.
    """

    def __init__(self, step: UniformSample) -> None:
        self.step = step
        self.clip_len_T = torch.tensor([step.clip_len]).share_memory_()

    def transform(self, results: dict) -> dict:
        """Samples that many frames."""
        self.step.clip_len = int(self.clip_len_T)
        return self.step.transform(results)


def find_resizable(dataset) -> list:
    """Finds the steps of a dataset's pipeline that have ``scale_WH`` in shared memory.

    Raises:
        HRI30Error: there is none.
    """
    steps = dataset.pipeline.transforms
    found = [step for step in steps if hasattr(step, 'scale_WH')]
    if not found:
        raise HRI30Error(
            'progressive_size: no step of the training pipeline can change its size during '
            f'a training; found {", ".join(type(step).__name__ for step in steps)}.\n'
            "Expected dict(type='CropResize', scale='${input_size}'), as in "
            'configs/_base_/datasets/hri30.py; or set progressive_size=None.')
    return found


def share_clip_len(dataset) -> list[SharedUniformSample]:
    """Makes the number of frames of a pipeline's sampling steps changeable.

    Raises:
        HRI30Error: there is no such step.
    """
    steps = dataset.pipeline.transforms
    steps[:] = [SharedUniformSample(step) if isinstance(step, UniformSample) else step
                for step in steps]
    found = [step for step in steps if isinstance(step, SharedUniformSample)]
    if not found:
        raise HRI30Error(
            'progressive_size: a schedule with num_frames needs UniformSegments in the '
            f'training pipeline, found {", ".join(type(step).__name__ for step in steps)}.'
            '\nUse a schedule without num_frames (progressive_size=size), or set '
            'progressive_size=None.')
    return found


@HOOKS.register_module()
class ProgressiveSizeHook(Hook):
    """Trains on small clips first, in larger batches, and on full clips last.

    The long cycle of multigrid training (arXiv 1912.00998): early epochs see fewer pixels,
    and fewer frames if the schedule says so. The batch grows as the clip shrinks, so that
    it fills the same memory, and the learning rate grows with the batch
    (:func:`~hri30_ext.engine.data_parallel.lr_factor`). Validation sees full clips.

    Everything follows from the epoch, so that a resumed run needs no replay. The optimizer
    state holds the learning rate of full clips. Schedules by steps count those of full
    clips: they advance by more than one per step, and are at the same point at the end of
    every epoch. If the size changes within an accumulated step, it has clips of both sizes.

    Args:
        schedule (list[dict]): Such as ``[dict(begin=0, scale=0.5, num_frames=0.5),
            dict(begin=0.7, scale=1)]``: from epoch ``begin`` on (the first is 0; a
            fraction is a share of all epochs), width and height are ``scale`` times those
            of ``input_size``, in (0, 1]. ``num_frames``, optional, is a number of frames or
            a share of all. The last entry is full size.
        input_size (tuple[int, int]): Width and height of full clips in pixels.
        num_frames (int): Frames of full clips.

    Raises:
        HRI30Error: a schedule of another form, a pipeline without ``CropResize``, or a
            model that does not accept such clips.
    """

    # Sets the learning rate before it is logged (VERY_HIGH), and resets it before
    # ParamSchedulerHook (LOW) reads it.
    priority = 'HIGHEST'

    def __init__(self, schedule: Sequence[dict], input_size: Sequence[int],
                 num_frames: int) -> None:
        self.input_size = tuple(input_size)
        self.num_frames = num_frames
        self.schedule = [self._check_step(dict(step)) for step in schedule]
        last = self.schedule[-1] if self.schedule else 'missing'
        if not self.schedule or (last['scale'], last['num_frames']) != (1, num_frames):
            raise HRI30Error(
                f'progressive_size: the last entry of the schedule is {last}, expected '
                'full clips, which validation and testing see.\nAdd dict(begin=0.7, '
                'scale=1).')
        self._sizes: list[ClipSize] = []  # by epoch
        self._rates: list[float] = []
        self._size: ClipSize | None = None

    def _check_step(self, step: dict) -> dict:
        def fits(value, largest):  # a whole number up to it, or a fraction
            return (type(value) is int and 0 <= value <= largest
                    or type(value) is float and 0 <= value <= 1)

        scale, frames = step.get('scale'), step.get('num_frames', self.num_frames)
        if not {'begin', 'scale'} <= set(step) <= {'begin', 'scale', 'num_frames'} or not (
                fits(step['begin'], math.inf) and fits(scale, 1) and scale > 0
                and fits(frames, self.num_frames) and frames > 0):
            raise HRI30Error(
                f'progressive_size: the schedule has {step}, expected dict(begin=EPOCH, '
                'scale=SIZE) and optionally num_frames=FRAMES: EPOCH a number from 0 or a '
                f'fraction of all, SIZE in (0, 1], FRAMES in 1 to {self.num_frames} or a '
                'fraction of that.')
        if type(frames) is float:
            frames = max(1, round(frames * self.num_frames))
        return {**step, 'num_frames': frames}

    def size_of(self, epoch: int, max_epochs: int, batch: int, optimizer: str = 'SGD',
                clips: int | None = None) -> ClipSize:
        """Computes the size of the clips of an epoch, counted from 0.

        Args:
            batch (int): Clips of a batch at full size.
            optimizer (str): Its type.
            clips (int, optional): Clips of an epoch on each GPU, which limit the batch.
        """
        begins = self._begins(max_epochs)
        step = next(step for begin, step in zip(reversed(begins), reversed(self.schedule),
                                                strict=True) if begin <= epoch)
        width, height = self.input_size
        frames = step['num_frames']
        full = width * height * self.num_frames
        if step['scale'] != 1:
            # Halves are rounded up; Python's round() rounds them to even numbers.
            width, height = (
                max(DIVISOR, DIVISOR * math.floor(side * step['scale'] / DIVISOR + 0.5))
                for side in self.input_size)
        fitting = batch * full // (width * height * frames)
        larger = max(batch, min(fitting, clips or fitting))
        return ClipSize(width, height, frames, larger,
                        lr_factor(larger / batch, optimizer))

    def _begins(self, max_epochs: int) -> list[int]:
        begins = [step['begin'] if type(step['begin']) is int
                  else math.floor(round(step['begin'] * max_epochs, 6))
                  for step in self.schedule]
        if begins[0] != 0 or begins != sorted(begins) or begins[-1] >= max_epochs:
            raise HRI30Error(
                f'progressive_size: the schedule begins at epochs {begins} of '
                f'{max_epochs}, expected increasing numbers from 0 to below {max_epochs}, '
                'so that the training sees full clips.\nSet begin as fractions, such as 0, '
                '0.35 and 0.7, or raise max_epochs.')
        return begins

    def before_run(self, runner) -> None:
        loop = runner.train_loop
        if loop is None:  # a run that only tests
            return
        loader = loop.dataloader
        self._full_length = len(loader)
        self._resizable = find_resizable(loader.dataset)
        fewer = any(step['num_frames'] != self.num_frames for step in self.schedule)
        self._samplers = share_clip_len(loader.dataset) if fewer else []
        optimizer = type(runner.optim_wrapper.optimizer).__name__
        self._sizes = [
            self.size_of(epoch, loop.max_epochs, loader.batch_size, optimizer,
                         clips=len(loader.batch_sampler.sampler))
            for epoch in range(loop.max_epochs)]
        # For gradient accumulation and the estimated time.
        loop.batch_sizes = [size.batch for size in self._sizes]
        loop._max_iters = sum(count_batches(loader, size) for size in loop.batch_sizes)

    def before_train(self, runner) -> None:
        for size in dict.fromkeys(self._sizes):
            try_size(unwrap(runner.model), size)

    def before_train_epoch(self, runner) -> None:
        """Sets size, frames and batch of the epoch, in all loading processes."""
        size = self._sizes[runner.epoch]
        for step in self._resizable:
            step.scale_WH.copy_(torch.tensor([size.width, size.height]))
        for step in self._samplers:
            step.clip_len_T.fill_(size.frames)
        # The loader is immutable; it asks its batch sampler in each epoch.
        runner.train_dataloader.batch_sampler.batch_size = size.batch
        if size != self._size:
            self._size = size
            runner.logger.info(f'Epoch {runner.epoch + 1}: {size}')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        self._rates = [group['lr'] for group in groups]
        for group in groups:
            group['lr'] *= self._size.lr_factor

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        for group, rate in zip(runner.optim_wrapper.optimizer.param_groups, self._rates,
                               strict=True):
            group['lr'] = rate
        steps = count_steps(batch_idx, len(runner.train_dataloader), self._full_length)
        # ParamSchedulerHook advances them by one.
        advance_schedules(runner.param_schedulers or (), by_epoch=False, steps=steps - 1)


def try_size(model: torch.nn.Module, size: ClipSize) -> None:
    """Runs a model once on a blank clip, so that no training fails in the middle.

    Raises:
        HRI30Error: it does not accept clips of that size.
    """
    shape = (size.frames, 3) if isinstance(model, Recognizer2D) else (1, 3, size.frames)
    clip = torch.zeros(1, *shape, size.height, size.width,
                       device=next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(clip, mode='tensor', stage='head')
    except (AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise HRI30Error(
            f'progressive_size: {type(model.backbone).__name__} does not accept clips of '
            f'{size.frames} frames of {size.width} x {size.height} ({text}).\nSet '
            'progressive_size=size if frames are the reason, otherwise '
            'progressive_size=None.') from error
    finally:
        model.train(training)
