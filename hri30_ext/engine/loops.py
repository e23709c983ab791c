"""A training loop that can stop at any batch and resume bit for bit."""

import bisect
import contextlib
import functools
import itertools
import math
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from ..datasets import randomness
from ..errors import HRI30Error, Interrupted
from ..hardware import unwrap
from ..utils import background
from ..utils.text import printable
from .distributed import max_over_ranks
from .loading import prefetch
from .signals import StopRequest, leave_signals_to_parent
from .skipped import SkippedVideosHook

#: The checkpoint within an epoch, in the work folder.
WITHIN_EPOCH = 'within_epoch.pth'

#: What follows N complete epochs, in this order: the validation of the Nth, the next epoch,
#: or the rest of its batches.
STAGES = ('validation', 'epoch', 'batches')

# Flags for max_over_ranks(): the largest wins. The number of a signal is added to the last.
_CONTINUE, _SAVE, _STOP = 0, 1, 2


class Progress(msgspec.Struct):
    """The position of a training, as checkpoints hold it."""

    run: str  # the same in all checkpoints of a training that are not of another branch
    stage: Literal[STAGES]
    clips: Annotated[int, msgspec.Meta(ge=0)]  # seen of the epoch, in all processes
    randomness: list  # states of the random number generators, one per process
    gradients: dict  # accumulated for the next step, by parameter name
    buffers: list = []  # per process, those that differ between processes, by name


@contextlib.contextmanager
def explain_other_form(filename: str) -> Iterator[None]:
    """Raises an HRI30Error with the checkpoint's name where a part of it has another form.

    A checkpoint has many parts, and its author may have stored anything in them.
    """
    try:
        yield
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError,
            ValueError) as error:
        text = printable(' '.join(str(error).split()))[:200]
        raise HRI30Error(
            f'{filename}: a part of it does not fit this config '
            f'({type(error).__name__}: {text}).\nExpected a checkpoint of a training with '
            'the same model and optimizer; use another.') from error


def is_validated(runner, epoch: int) -> bool:
    """Returns whether a validation follows an epoch, counted from 1."""
    loop = runner.train_loop
    # mmengine updates loop.val_interval only after the hooks of the epoch.
    interval = loop.dynamic_intervals[
        bisect.bisect(loop.dynamic_milestones, epoch + 1) - 1]
    return runner.val_loop is not None and epoch >= loop.val_begin and (
        epoch % interval == 0 or epoch == runner.max_epochs)


class _StopValidation(BaseException):
    """Ends a validation that will run again after resuming."""


class _LoopHook(Hook):
    """Saves and loads the position of a loop, and stops its validation."""

    def __init__(self, loop: 'ResumableTrainLoop') -> None:
        self.loop = loop

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self.loop.progress is not None:
            checkpoint['progress'] = msgspec.structs.asdict(self.loop.progress)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.loop.load_progress(checkpoint.get('progress'), checkpoint['meta']['epoch'])

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if batch_idx < self.loop.interruptible_batches and (
                max_over_ranks(self.loop.request.number)):
            raise _StopValidation


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's training by epochs, with checkpoints that hold the complete state.

    They have the random number generators, the position in the epoch and accumulated
    gradients too. A resumed training ends with the same weights as one that was never
    stopped, on the CPU with the same settings, seed, threads and versions, if clips depend
    only on seed, epoch and index, as from datasets with ``set_epoch(seed, epoch)``.

    - Every ``save_minutes``, ``within_epoch.pth`` is saved; the next checkpoint of an epoch
      replaces it.
    - Files are written in a thread (:mod:`hri30_ext.utils.background`), whose error ends
      the training at the next batch.
    - At a signal (:class:`~hri30_ext.engine.signals.StopRequest`) the current batch
      completes and everything is saved. A validation stops and runs again after resuming.
    - A resumed epoch starts after the clips that were seen, without decoding them again.
      The number of processes, the batch size and the number of epochs may change: learning
      rates are then those of a complete training with the new settings. If batches do not
      fit, less than one batch of clips is seen twice.

    Args:
        save_minutes (float, optional): None: within an epoch, save only on a signal.
            Defaults to 10. The others are those of
            :class:`mmengine.runner.EpochBasedTrainLoop`.

    Attributes:
        progress (Progress, optional): Set while a checkpoint is saved.
        request (StopRequest): Whether a signal came.
        interruptible_batches (int): Of the validation that runs; else 0.

    Raises:
        Interrupted: a signal came.
    """

    # Stage, clips, and states of the generators (None: as they are).
    _END_OF_EPOCH = ('epoch', 0, None)

    def __init__(self, runner, dataloader, max_epochs: int,
                 save_minutes: float | None = 10, **kwargs) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self.save_minutes = math.inf if save_minutes is None else save_minutes
        self.progress: Progress | None = None
        self._run = uuid.uuid4().hex
        self._resumed: Progress | None = None  # until the position is restored
        self._position = self._END_OF_EPOCH  # of the checkpoint that is saved
        self.request = StopRequest(self._on_signal)
        self._is_idle = True  # no batch was trained in this process
        self._is_dirty = False  # trained since the last checkpoint
        self._saved: str | None = None
        self._saved_at = time.monotonic()
        self.interruptible_batches = 0
        runner.register_hook(_LoopHook(self))

    @property
    def resumes_within_epoch(self) -> bool:
        """Whether the next epoch is the rest of one."""
        return self._resumed is not None and self._resumed.stage == 'batches'

    @property
    def seen_batches(self) -> int:
        """The number of batches that a resumed training has seen of its epoch; if clips are
        gone since, all but one of those that there are now."""
        if not self.resumes_within_epoch or self._epoch >= self._max_epochs:
            return 0
        batch = self.dataloader.batch_sampler.batch_size
        return min(self._resumed.clips // (batch * get_world_size()),
                   len(self.dataloader) - 1)

    # ---- Training -----------------------------------------------------------------------

    def run(self) -> torch.nn.Module:
        """Trains from the current position."""
        with self.request, background.Background():
            self._prepare_loaders()
            self.runner.call_hook('before_train')
            if self._resumed:
                with explain_other_form(self._saved):
                    self._restore_gradients(self._resumed.gradients)
                    self._restore_buffers(self._resumed.buffers)
            self._saved_at = time.monotonic()
            if self._resumed and self._resumed.stage == 'validation':
                self._restore_randomness()
                self._validate()
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                self._validate()
                if self._epoch < self._max_epochs and not self.stop_training:
                    self._save_or_stop('epoch')
            self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains an epoch, or the rest of one."""
        resumes = self.resumes_within_epoch
        if not resumes:
            self._restore_randomness()
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        dataset = self.dataloader.dataset
        if hasattr(dataset, 'set_epoch'):
            dataset.set_epoch(self.runner.seed, self._epoch)
        # The hooks have set the loader of the epoch.
        batch_sampler = self.dataloader.batch_sampler
        sampler, batch = batch_sampler.sampler, batch_sampler.batch_size
        first = self._count_seen(batch * get_world_size()) if resumes else 0
        batch_sampler.sampler = list(sampler)[first * batch:]
        device = next(self.runner.model.parameters()).device
        batches = prefetch(iter(self.dataloader), device)
        if resumes:
            self._restore_randomness()
        for index in itertools.count(first):
            # Before the batch: loading it in this process may draw numbers too.
            states = randomness.get_states()
            data_batch = next(batches, None)
            batch_sampler.sampler = sampler  # the iterator has its own by now
            if data_batch is None:
                break
            self._save_or_stop('batches', index * batch * get_world_size(), states)
            self._is_idle = False
            self.run_iter(index, data_batch)
            self._is_dirty = True
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate(self) -> None:
        runner = self.runner
        if not is_validated(runner, self._epoch):
            return
        # All processes must agree at the same batches; one may have a batch less.
        self.interruptible_batches = -max_over_ranks(-len(runner.val_loop.dataloader))
        states = randomness.get_states()
        try:
            runner.val_loop.run()
        except _StopValidation:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # the model holds the averaged weights
                    hook.after_val_epoch(runner)
            self._save_or_stop('validation', states=states)
        finally:
            self.interruptible_batches = 0

    def _prepare_loaders(self) -> None:
        """Leaves signals to this process, and its random numbers to the model."""
        for loop in (self, self.runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                # It draws a seed whenever it starts its processes, also after resuming.
                loader.generator = torch.Generator().manual_seed(self.runner.seed)
                loader.worker_init_fn = functools.partial(
                    leave_signals_to_parent, loader.worker_init_fn)

    # ---- Saving -------------------------------------------------------------------------

    def gather_progress(self) -> Progress:
        """Returns the position, from all processes; all must call it."""
        stage, clips, states = self._position
        for hook in self.runner.hooks:
            if isinstance(hook, SkippedVideosHook):
                hook.gather(self.runner)
        return Progress(
            self._run, stage, clips, all_gather_object(states or randomness.get_states()),
            self._gather_gradients(), self._gather_buffers() if stage == 'batches' else [])

    def note_saved(self, path: Path | str) -> None:
        """Notes that a checkpoint holds everything that was trained."""
        self._saved = str(path)
        self._saved_at = time.monotonic()
        self._is_dirty = False

    def _save_or_stop(self, stage: str, clips: int = 0, states: dict | None = None) -> None:
        """Saves when it is time, and saves and stops if a signal came."""
        background.wait(until_done=False)
        number = self.request.number
        is_time = time.monotonic() - self._saved_at >= 60 * self.save_minutes
        flag = max_over_ranks(_STOP + number if number else _SAVE if is_time else _CONTINUE)
        if flag == _CONTINUE:
            return
        if self._is_dirty:
            background.wait()
            self._position = (stage, clips, states)
            self.runner.save_checkpoint(self.runner.work_dir, WITHIN_EPOCH,
                                        meta=dict(epoch=self._epoch, iter=self._iter))
            self._position = self._END_OF_EPOCH
            self.note_saved(Path(self.runner.work_dir) / WITHIN_EPOCH)
        self._saved_at = time.monotonic()
        if flag > _STOP:
            self._stop(flag - _STOP, stage, clips)

    def _gather_gradients(self) -> dict[str, torch.Tensor]:
        """Returns the accumulated gradients, averaged over the processes."""
        gradients = {}
        for name, parameter in unwrap(self.runner.model).named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.detach().clone()
                all_reduce(gradient, 'mean')
                gradients[name] = gradient.cpu()
        return gradients

    def _gather_buffers(self) -> list[dict[str, torch.Tensor]]:
        """Returns the buffers that differ between processes, such as BatchNorm's."""
        if get_world_size() == 1:
            return []
        everyone = all_gather_object({
            name: buffer.detach().cpu()
            for name, buffer in unwrap(self.runner.model).named_buffers()})
        differing = [name for name, buffer in everyone[0].items()
                     if any(not torch.equal(buffer, other[name]) for other in everyone)]
        return [{name: own[name] for name in differing} for own in everyone]

    # ---- Stopping -----------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        """Stops at once while nothing would be saved; the signal's handler calls it."""
        # Several processes stop together, at a batch.
        if self._is_idle and get_world_size() == 1:
            self._stop(number)
        if get_rank() == 0:
            # Not by print(), which this may interrupt; and the terminal may be closed.
            with contextlib.suppress(OSError):
                os.write(2, b'\nSaves and ends after this batch. A second signal ends at '
                            b'once, without saving.\n')

    def _stop(self, number: int, stage: str = '', clips: int = 0) -> None:
        self.runner.visualizer.close()
        background.wait()
        name = signal.Signals(number).name
        if self._saved is None:
            raise Interrupted(f'{name}: nothing was trained yet.\nStart again with the '
                              'same command.', number)
        epochs = f'of {self._max_epochs}'
        position = dict(batches=f' (epoch {self._epoch + 1} {epochs}, {clips} clips of it '
                                'seen)',
                        validation=f' (epoch {self._epoch} {epochs}, its validation due)',
                        epoch=f' ({self._epoch} {epochs} epochs)').get(stage, '')
        raise Interrupted(
            f'{name}: all that was trained is saved in {self._saved}{position}.\n'
            'Resume with the same command and --resume.', number)

    # ---- Resuming -----------------------------------------------------------------------

    def load_progress(self, progress: dict | None, epoch: int) -> None:
        """Takes the :class:`Progress` of a checkpoint, to restore it in :meth:`run`."""
        self._saved = self.runner._load_from
        if progress is None:
            self.runner.logger.warning(
                f'{self._saved}: was not saved by {type(self).__name__}. The training '
                'resumes with the next epoch and other random numbers.')
            return
        self._resumed = msgspec.convert(progress, Progress)  # the runner explains errors
        # Where it went further before, what is saved from here on is of another run.
        numbers = [path.stem[6:] for path in Path(self.runner.work_dir).glob('epoch_*.pth')]
        if all(int(number) <= epoch for number in numbers if number.isdecimal()):
            self._run = self._resumed.run

    def _restore_randomness(self) -> None:
        """Restores the random number generators, the last part of a position."""
        if self._resumed is None:
            return
        states, self._resumed = self._resumed.randomness, None
        if len(states) != get_world_size():
            self.runner.logger.warning(
                f'{self._saved}: was saved by {len(states)} processes, and there are '
                f'{get_world_size()} now. Dropout draws other numbers than without the '
                'stop.')
            return
        with explain_other_form(self._saved):
            randomness.set_states(states[get_rank()])

    def _restore_gradients(self, gradients: dict) -> None:
        wrapper = self.runner.optim_wrapper
        if wrapper.inner_count % wrapper._accumulative_counts == 0:
            if gradients:
                self.runner.logger.warning(
                    f'{self._saved}: its accumulated gradients are dropped: with these '
                    'settings a new step starts here.')
            return
        parameters = dict(unwrap(self.runner.model).named_parameters())
        for name, gradient in gradients.items():
            parameter = parameters[name]
            assert gradient.shape == parameter.shape, f'gradient of {name}'
            # In the layout of the parameter, as from autograd.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        if not gradients:
            self.runner.logger.warning(
                f'{self._saved}: lacks accumulated gradients; the next step has fewer '
                'clips.')

    def _restore_buffers(self, buffers: list) -> None:
        if len(buffers) != get_world_size():
            return  # all keep those of the first process
        own = dict(unwrap(self.runner.model).named_buffers())
        for name, saved in buffers[get_rank()].items():
            assert saved.shape == own[name].shape, f'buffer {name}'
            own[name].copy_(saved)

    def _count_seen(self, clips: int) -> int:
        """Returns how many batches of ``clips`` were seen of the epoch."""
        batches = self.seen_batches
        rest = self._resumed.clips - batches * clips
        self.runner.logger.info(
            f'Resuming in epoch {self._epoch + 1} after {batches} of '
            f'{len(self.dataloader)} batches')
        if rest:
            self.runner.logger.warning(
                f'{self._resumed.clips} clips of the epoch were seen, and a batch now has '
                f'{clips}: {rest} of them are seen again.')
        return batches
