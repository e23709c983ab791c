"""Small clips first: size, frames, batch and learning rate by the epoch.

Shapes: T frames, H height and W width in pixels, N clips of a batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmaction.datasets.transforms import UniformSample
from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import HOOKS
from mmengine.hooks import Hook

from ..errors import HRI30Error
from .fine_tuning import unwrap
from .loops import count_batches
from .schedules import keep_up


@dataclass(frozen=True)
class ClipSize:
    """What the clips of an epoch are.

    Attributes:
        width (int): W, pixels.
        height (int): H, pixels.
        frames (int): T.
        batch (int): N, on each GPU.
        lr_factor (float): Of the learning rate, 1 for clips of full size.
    """

    width: int
    height: int
    frames: int
    batch: int
    lr_factor: float

    def __str__(self) -> str:
        return (f'clips of {self.frames} frames of {self.width} x {self.height}, batches '
                f'of {self.batch}, learning rate x {self.lr_factor:.3g}')


class SharedUniformSample(UniformSample):
    """``UniformSample`` whose number of frames reaches loading processes that run.

    Arguments and keys are those of mmaction2's.

    Attributes:
        clip_len_T (torch.Tensor): The number of frames, (1, ) int64 in shared memory.
    """

    def __init__(self, clip_len: int, num_clips: int = 1, test_mode: bool = False) -> None:
        self.clip_len_T = torch.tensor([clip_len]).share_memory_()
        super().__init__(clip_len, num_clips, test_mode)

    @property
    def clip_len(self) -> int:
        """Frames of a clip."""
        return int(self.clip_len_T)

    @clip_len.setter
    def clip_len(self, frames: int) -> None:
        self.clip_len_T.fill_(frames)


def find_resizable(dataset) -> list:
    """Finds the steps of a dataset's pipeline whose output size can be changed.

    Args:
        dataset: With a ``pipeline``.

    Returns:
        list: Transforms with ``scale_WH``, a tensor in shared memory.

    Raises:
        HRI30Error: there is none.
    """
    steps = dataset.pipeline.transforms
    found = [step for step in steps if hasattr(step, 'scale_WH')]
    if not found:
        raise HRI30Error(
            'progressive_size: no step of the training pipeline can change its size while '
            f'it runs; found {", ".join(type(step).__name__ for step in steps)}.\nExpected '
            "dict(type='CropResize', scale='${input_size}'), as in "
            'configs/_base_/datasets/hri30.py; or set progressive_size=None.')
    return found


def _share_clip_len(dataset) -> list[SharedUniformSample]:
    """Lets the sampling steps of a pipeline change their number of frames."""
    steps = dataset.pipeline.transforms
    for i, step in enumerate(steps):
        if type(step) is UniformSample:
            steps[i] = SharedUniformSample(step.clip_len, step.num_clips, step.test_mode)
    found = [step for step in steps if isinstance(step, SharedUniformSample)]
    if not found:
        raise HRI30Error(
            'progressive_size: a schedule with num_frames wants UniformSample in the '
            f'training pipeline, found {", ".join(type(step).__name__ for step in steps)}.'
            '\nLeave num_frames out of the schedule (progressive_size=size), or set '
            'progressive_size=None.')
    return found


@HOOKS.register_module()
class ProgressiveSizeHook(Hook):
    """Trains on small clips first, in larger batches, and on full ones last.

    The long cycle of multigrid training (arXiv 1912.00998): early epochs see fewer pixels,
    and fewer frames where the schedule says so; the batch grows as the clip shrinks, so
    that a batch takes as much memory, and the learning rate with the batch. Validation sees
    full clips always. mmaction2 had multigrid training in 0.22, 1.x has none.

    All follows from the number of the epoch, so a resumed run needs nothing replayed; in
    the optimizer's state the learning rate is that of full clips.

    Larger batches make epochs of fewer steps. mmengine's schedules that were converted to
    steps (``convert_to_iter_based``) count those of full clips: here they advance by more
    than one at each step, and are at the same point at the end of every epoch.
    A step of several accumulated batches is larger by the same factor; where sizes change
    in the midst of it, it has clips of both.

    Args:
        schedule (list[dict]): ``dict(begin=E, scale=S)``, and optionally ``num_frames=F``:
            from epoch ``E`` on, 0 being the first, width and height are ``S`` times those
            of ``input_size``, in (0, 1]. Of ``E`` a fraction, such as 0.4, is one of all
            epochs. ``F`` is a number of frames or a fraction of ``num_frames``. The last
            entry is full size.
        input_size (tuple[int, int]): Width and height of full clips in pixels.
        num_frames (int): Frames of full clips.
        divisor (int): Widths and heights are multiples of it, pixels. Defaults to 8.
        scale_batch (bool): Whether the batch grows. Defaults to True.
        scale_lr (str, optional): How the learning rate grows with the batch: ``linear``
            (for SGD, arXiv 1706.02677), ``sqrt`` (for Adam and its kin, arXiv 2205.10287),
            ``auto``, the default: as the optimizer wants; or None, not at all.

    Raises:
        HRI30Error: a schedule of another form, a pipeline without ``CropResize``, a model
            that takes no such clips.

    Example:
        >>> hook = dict(type='ProgressiveSizeHook', input_size=(224, 224), num_frames=8,
        ...     schedule=[dict(begin=0, scale=0.5, num_frames=0.5),
        ...               dict(begin=0.35, scale=0.71), dict(begin=0.7, scale=1)])
    """

    # The learning rate is set before it is logged (VERY_HIGH), and set back before
    # ParamSchedulerHook (LOW) reads it.
    priority = 'HIGHEST'

    def __init__(self, schedule: Sequence[dict], input_size: Sequence[int],
                 num_frames: int, divisor: int = 8, scale_batch: bool = True,
                 scale_lr: str | None = 'auto') -> None:
        if scale_lr not in (None, 'auto', 'linear', 'sqrt'):
            raise HRI30Error(f'progressive_size: scale_lr={scale_lr!r}, expected linear, '
                             'sqrt, auto or None.')
        self.schedule = [dict(step) for step in schedule]
        self.input_size = tuple(input_size)
        self.num_frames = num_frames
        self.divisor = divisor
        self.scale_batch = scale_batch
        self.scale_lr = scale_lr
        for step in self.schedule:
            self._check_step(step)
        full = {'scale': 1, 'num_frames': num_frames}
        if not self.schedule or {**full, **self.schedule[-1],
                                 'begin': 0} != {**full, 'begin': 0}:
            raise HRI30Error(
                'progressive_size: the last entry of the schedule is '
                f'{self.schedule[-1] if self.schedule else "missing"}, expected full clips,'
                ' which validation and testing see.\nAdd dict(begin=0.7, scale=1).')
        self._sizes: list[ClipSize] = []  # of each epoch
        self._rates: list[float] = []
        self._size: ClipSize | None = None
        self._full_length = 0

    def _check_step(self, step: dict) -> None:
        def fits(value, whole):  # a whole number up to it, or a fraction
            return (type(value) is int and 0 <= value <= whole
                    or type(value) is float and 0 <= value <= 1)

        scale, frames = step.get('scale'), step.get('num_frames', 1)
        if not {'begin', 'scale'} <= set(step) <= {'begin', 'scale', 'num_frames'} or not (
                fits(step['begin'], math.inf) and fits(scale, 1) and scale > 0
                and fits(frames, self.num_frames) and frames > 0):
            raise HRI30Error(
                f'progressive_size: the schedule has {step}, expected dict(begin=EPOCH, '
                'scale=SIZE) and optionally num_frames=FRAMES: EPOCH a number from 0 or a '
                f'fraction of all, SIZE in (0, 1], FRAMES in 1 to {self.num_frames} or a '
                'fraction of that.')
        if 'num_frames' in step:
            step['num_frames'] = self._frames(frames)

    def _frames(self, frames: int | float) -> int:
        return frames if type(frames) is int else max(1, round(frames * self.num_frames))

    def size_of(self, epoch: int, max_epochs: int, batch: int, optimizer: str = 'SGD',
                clips: int | None = None) -> ClipSize:
        """Says what the clips of an epoch are.

        Args:
            epoch (int): 0 being the first.
            max_epochs (int): Of the training.
            batch (int): Clips of a batch at full size.
            optimizer (str): Its type.
            clips (int, optional): Of an epoch on each GPU: no batch has more.

        Returns:
            ClipSize: Size, batch and factor of the learning rate.
        """
        begins = self._begins(max_epochs)
        step = next(step for begin, step in zip(reversed(begins), reversed(self.schedule),
                                                strict=True) if begin <= epoch)
        full = self.input_size[0] * self.input_size[1] * self.num_frames
        width, height = self.input_size
        if step['scale'] != 1:
            # Halves are rounded up; Python's round() would take them to even numbers.
            width, height = (
                max(self.divisor, self.divisor * math.floor(
                    side * step['scale'] / self.divisor + 0.5))
                for side in self.input_size)
        frames = step.get('num_frames', self.num_frames)
        larger = batch
        if self.scale_batch:
            fitting = batch * full // (width * height * frames)
            larger = max(batch, min(fitting, clips or fitting))
        rule = self.scale_lr
        if rule == 'auto':
            rule = 'sqrt' if 'Adam' in optimizer else 'linear'
        power = {None: 0, 'sqrt': 0.5, 'linear': 1}[rule]
        return ClipSize(width, height, frames, larger, (larger / batch) ** power)

    def _begins(self, max_epochs: int) -> list[int]:
        begins = [step['begin'] if type(step['begin']) is int
                  else math.floor(round(step['begin'] * max_epochs, 6))
                  for step in self.schedule]
        if begins[0] != 0 or begins != sorted(begins) or begins[-1] >= max_epochs:
            raise HRI30Error(
                f'progressive_size: the schedule begins at epochs {begins} of '
                f'{max_epochs}, expected growing numbers from 0 on that end before '
                f'{max_epochs}, so that full clips are seen.\nSet begin as fractions, such '
                'as 0, 0.35 and 0.7, or max_epochs higher.')
        return begins

    # ---- Before the first epoch ---------------------------------------------------------

    def before_run(self, runner) -> None:
        """Checks all, and tells the training loop how many steps there will be."""
        loop = runner.train_loop
        if loop is None:  # a run that only tests
            return
        loader = loop.dataloader
        self._full_length = len(loader)
        self._resizable = find_resizable(loader.dataset)
        fewer = any(step.get('num_frames', self.num_frames) != self.num_frames
                    for step in self.schedule)
        self._samplers = _share_clip_len(loader.dataset) if fewer else []
        optimizer = type(runner.optim_wrapper.optimizer).__name__
        self._sizes = [
            self.size_of(epoch, loop.max_epochs, loader.batch_size, optimizer,
                         clips=len(loader.batch_sampler.sampler))
            for epoch in range(loop.max_epochs)]
        # Gradient accumulation and the time left count on it.
        loop.batch_sizes = [size.batch for size in self._sizes]
        loop._max_iters = sum(count_batches(loader, size) for size in loop.batch_sizes)

    def before_train(self, runner) -> None:
        """Tries a clip of each size, so that no training fails at its middle."""
        for size in dict.fromkeys(self._sizes):
            _try(unwrap(runner.model), size)

    # ---- Each epoch ---------------------------------------------------------------------

    def before_train_epoch(self, runner) -> None:
        """Sets size, frames and batch of the epoch, in all loading processes."""
        size = self._sizes[runner.epoch]
        for step in self._resizable:
            step.scale_WH.copy_(torch.tensor([size.width, size.height]))
        for step in self._samplers:
            step.clip_len = size.frames
        # The loader itself lets nothing be set; it asks its batch sampler at each epoch.
        runner.train_dataloader.batch_sampler.batch_size = size.batch
        if size != self._size:
            self._size = size
            runner.logger.info(f'Epoch {runner.epoch + 1}: {size}')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Scales the learning rates of a step."""
        groups = runner.optim_wrapper.optimizer.param_groups
        self._rates = [group['lr'] for group in groups]
        for group in groups:
            group['lr'] *= self._size.lr_factor

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Sets the learning rates back, and lets their schedules keep up."""
        for group, rate in zip(runner.optim_wrapper.optimizer.param_groups, self._rates,
                               strict=True):
            group['lr'] = rate
        keep_up(runner.param_schedulers or (), batch_idx,
                len(runner.train_loop.dataloader), self._full_length)


def _try(model: torch.nn.Module, size: ClipSize) -> None:
    """Runs a model once on a blank clip.

    Raises:
        HRI30Error: it takes no clip of that size.
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
        text = str(error).strip()
        raise HRI30Error(
            f'progressive_size: {type(model.backbone).__name__} takes no clip of '
            f'{size.frames} frames of {size.width} x {size.height} '
            f'({text.splitlines()[0][:200] if text else type(error).__name__}).\nSet '
            'progressive_size=size where frames are the reason, otherwise '
            'progressive_size=None.') from error
    finally:
        model.train(training)
