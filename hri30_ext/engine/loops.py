"""The training loop, which can be stopped at any moment and goes on as if it had not been.

Words: a position is where a training stands, an epoch's share of clips is global, over all
processes.
"""

import contextlib
import functools
import itertools
import math
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from ..datasets import randomness
from ..errors import HRI30Error, Interrupted
from .distributed import max_over_ranks
from .fine_tuning import unwrap
from .signals import StopRequest, leave_signals_to_parent
from .skipped import SkippedVideosHook

#: The checkpoint between those of two epochs, in the work folder.
WITHIN_EPOCH = 'within_epoch.pth'

#: Where a training can stand after N epochs, in this order: the validation of the Nth is
#: due, the next begins, or some of its batches are done.
STAGES = ('validation', 'epoch', 'batches')

# Flags for max_over_ranks(). The number of a signal is added to _END.
_GO_ON, _SAVE, _END = 0, 1, 2


def count_batches(loader, batch: int) -> int:
    """Counts the batches of an epoch if each had ``batch`` clips."""
    clips = len(loader.batch_sampler.sampler)
    return clips // batch if loader.drop_last else math.ceil(clips / batch)


class _Rest:
    """A sampler without its first clips."""

    def __init__(self, sampler, skip: int) -> None:
        self.sampler = sampler
        self.skip = skip

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self.sampler, self.skip, None)


class _StopValidation(BaseException):
    """Leaves a validation that will be done anew when the training goes on."""


class _LoopHook(Hook):
    """What the loop has to do with hooks: its state in checkpoints, and validation."""

    def __init__(self, loop: 'ResumableTrainLoop') -> None:
        self.loop = loop

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds where the training stands."""
        if self.loop.progress is not None:
            checkpoint['progress'] = self.loop.progress

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes up where it stood."""
        if runner._resume:
            self.loop.take_up(checkpoint.get('progress'))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Leaves the validation where a signal came."""
        self.loop.check_validation(batch_idx)


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's training by epochs, whose checkpoints say all that the rest depends on.

    mmengine's hold neither the generators of random numbers, nor the position in the epoch,
    nor gradients that were gathered for the next step. Here a training that was stopped,
    however, ends with the very weights of one that was not, on the CPU with the same
    settings, seed, threads and versions. Its clips too have to be a function of seed, epoch
    and index, as those of datasets with ``set_epoch`` are: what other datasets draw depends
    on which process loads a clip, and since when it lives.

    - Every ``save_minutes`` there is a checkpoint within the epoch, ``within_epoch.pth``;
      the next one of an epoch replaces it.
    - SIGTERM, SIGUSR1, SIGHUP and SIGINT (Ctrl-C): the batch at hand is done, all is
      saved, and the run ends with :class:`~hri30_ext.errors.Interrupted`. A validation is
      left, and done anew when the training goes on. A second signal ends the run at once.
    - A resumed epoch begins after the clips that were seen, which are not decoded again.
      Another number of processes may go on, with other batches or more epochs: learning
      rates are then those of a whole training of the new settings. With batches that do not
      fit, less than one batch of clips is seen twice.
    - Datasets that have ``set_epoch(seed, epoch)`` are told each epoch.

    Args:
        runner (Runner): mmengine's.
        dataloader (DataLoader | dict): Of the training clips.
        max_epochs (int): Of the training.
        save_minutes (float, optional): None: within an epoch nothing is saved until a
            signal comes. Defaults to 10.

    The others are those of :class:`mmengine.runner.EpochBasedTrainLoop`.

    Attributes:
        batch_sizes (list[int]): Clips of a batch in each process, epoch by epoch; not all
            the same with :class:`~hri30_ext.engine.ProgressiveSizeHook`.
        full_batches (int): Of an epoch of full clips.
        progress (dict, optional): While a checkpoint is saved, what it is given: ``run``
            (str, the same in all checkpoints of a training, resumed or not), ``stage``
            (``epoch``: an epoch begins; ``batches``: the next batch is due;
            ``validation``: that of the epoch is due), ``clips`` (int, seen in the epoch),
            ``randomness`` (list, one a process), ``gradients`` (dict of tensors by
            parameter name) and ``buffers`` (list, one a process, of dicts of tensors by
            name; empty but of several processes within an epoch).

    Raises:
        HRI30Error: ``save_minutes`` is no number above 0.
        Interrupted: a signal came.
    """

    def __init__(self, runner, dataloader, max_epochs: int,
                 save_minutes: float | None = 10, **kwargs) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        if save_minutes is not None and not (
                isinstance(save_minutes, int | float) and save_minutes > 0):
            raise HRI30Error(f'save_minutes={save_minutes!r}, expected minutes above 0, or '
                             'None.')
        self.save_minutes = save_minutes
        self.batch_sizes = [self.dataloader.batch_sampler.batch_size] * max_epochs
        self.full_batches = len(self.dataloader)
        self.progress: dict | None = None
        self._run = uuid.uuid4().hex
        self._resumed: dict = {}
        self._position: tuple[str, int, dict] | None = None  # of a save within an epoch
        self._request = StopRequest(self._end_before_the_first_batch)
        self._is_idle = True  # no batch was trained in this process
        self._is_moved = False  # is resumed under settings that give other batches
        self._has_news = False  # something was trained that no checkpoint has
        self._saved: str | None = None
        self._saved_at = time.monotonic()
        self._checked_batches = 0
        runner.register_hook(_LoopHook(self))

    @property
    def resumes_within_epoch(self) -> bool:
        """Whether the epoch that begins is the rest of one."""
        return self._resumed.get('stage') == 'batches'

    @property
    def epoch_batches(self) -> list[int]:
        """The batches of each epoch."""
        return [count_batches(self.dataloader, size) for size in self.batch_sizes]

    @property
    def seen_batches(self) -> int:
        """How many batches of its epoch a training that is resumed has seen."""
        if not self.resumes_within_epoch or self._epoch >= self._max_epochs:
            return 0
        return self._resumed['clips'] // (self.batch_sizes[self._epoch] * get_world_size())

    def move_to(self, iteration: int) -> None:
        """Has a resumed training count from another batch, as its epochs have others."""
        self._iter, self._is_moved = iteration, True

    # ---- Training -----------------------------------------------------------------------

    def run(self) -> torch.nn.Module:
        """Trains, from where the training stands."""
        with self._request:
            self._set_loaders_apart()
            self.runner.call_hook('before_train')
            self._restore_gradients()
            self._restore_buffers()
            self._saved_at = time.monotonic()
            if self._resumed.get('stage') == 'validation':
                self._restore_randomness()
                self._resumed = {}
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
        # Hooks before the epoch have set its loader and the size of its batches.
        batch_sampler = self.dataloader.batch_sampler
        sampler, batch = batch_sampler.sampler, batch_sampler.batch_size
        first = self._count_seen(batch * get_world_size()) if resumes else 0
        batch_sampler.sampler = _Rest(sampler, first * batch)
        try:
            batches = iter(self.dataloader)
            if resumes:
                self._restore_randomness()
            self._resumed = {}
            for index in itertools.count(first):
                # As before the batch: loading it in this process may draw as well.
                states = randomness.get_states()
                data_batch = next(batches, None)
                batch_sampler.sampler = sampler  # the loader has begun with the rest
                if data_batch is None:
                    break
                self._save_or_stop('batches', index * batch * get_world_size(), states)
                self._is_idle = False
                self.run_iter(index, data_batch)
                self._has_news = True
        finally:
            batch_sampler.sampler = sampler
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate(self) -> None:
        """Validates, where it is due."""
        runner = self.runner
        self._decide_current_val_interval()
        if runner.val_loop is None or self._epoch < self.val_begin or (
                self._epoch % self.val_interval and self._epoch != self._max_epochs):
            return
        # All processes have to agree at the same batches; one may have a batch less.
        self._checked_batches = -max_over_ranks(-len(runner.val_loop.dataloader))
        states = randomness.get_states()
        try:
            runner.val_loop.run()
        except _StopValidation:
            for hook in runner.hooks:
                if isinstance(hook, SkippedVideosHook):
                    hook.leave_validation()
                if isinstance(hook, EMAHook):  # has the averaged weights in the model
                    hook.after_val_epoch(runner)
            self._save_or_stop('validation', states=states)
        finally:
            self._checked_batches = 0

    def check_validation(self, batch_idx: int) -> None:
        """Leaves the validation of this training where a signal came."""
        if batch_idx < self._checked_batches and max_over_ranks(self._request.number):
            raise _StopValidation

    def _set_loaders_apart(self) -> None:
        """Leaves signals to this process, and random numbers to the model.

        A loader draws a seed for its processes whenever it starts them: where they live on,
        once in a run, and once more when it is resumed.
        """
        for loop in (self, self.runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.generator = torch.Generator().manual_seed(self.runner.seed)
                loader.worker_init_fn = functools.partial(
                    leave_signals_to_parent, loader.worker_init_fn)

    # ---- Saving -------------------------------------------------------------------------

    @contextlib.contextmanager
    def describe(self) -> Iterator[None]:
        """Has checkpoints that are saved within say where the training stands.

        To be called by all processes.
        """
        stage, clips, states = self._position or ('epoch', 0, None)
        for hook in self.runner.hooks:
            if isinstance(hook, SkippedVideosHook):
                hook.gather(self.runner)
        self.progress = dict(
            run=self._run, stage=stage, clips=clips, gradients=self._gather_gradients(),
            buffers=self._gather_buffers() if stage == 'batches' else [],
            randomness=all_gather_object(states or randomness.get_states()))
        try:
            yield
        finally:
            self.progress = None

    def note_saved(self, path: Path | str) -> None:
        """Says that ``--resume`` finds a checkpoint of all that was trained.

        Args:
            path (Path | str): The checkpoint.
        """
        self._saved = str(path)
        self._saved_at = time.monotonic()
        self._has_news = False

    def _save_or_stop(self, stage: str, clips: int = 0, states: dict | None = None) -> None:
        """Saves if it is time to, and ends where a signal came."""
        number = self._request.number
        is_time = self.save_minutes is not None and (
            time.monotonic() - self._saved_at >= 60 * self.save_minutes)
        flag = max_over_ranks(_END + number if number else _SAVE if is_time else _GO_ON)
        if flag == _GO_ON:
            return
        if self._has_news:
            self._save(stage, clips, states)
        self._saved_at = time.monotonic()
        if flag > _END:
            self._end(flag - _END, stage, clips)

    def _save(self, stage: str, clips: int, states: dict | None) -> None:
        folder = self.runner.work_dir
        self._position = (stage, clips, states)
        try:
            self.runner.save_checkpoint(
                folder, WITHIN_EPOCH, meta=dict(epoch=self._epoch, iter=self._iter))
        finally:
            self._position = None
        self.note_saved(Path(folder) / WITHIN_EPOCH)

    def _gather_gradients(self) -> dict[str, torch.Tensor]:
        """Returns what was gathered for the next step; of many processes, the means."""
        gradients = {}
        for name, parameter in unwrap(self.runner.model).named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.detach().clone()
                all_reduce(gradient, 'mean')
                gradients[name] = gradient.cpu()
        return gradients

    def _gather_buffers(self) -> list[dict[str, torch.Tensor]]:
        """Returns the buffers that are not alike in all processes, such as BatchNorm's.

        Within an epoch they are not; the checkpoint itself has those of the first process.
        """
        if get_world_size() == 1:
            return []
        everyone = all_gather_object({
            name: buffer.detach().cpu()
            for name, buffer in unwrap(self.runner.model).named_buffers()})
        differing = [name for name, buffer in everyone[0].items()
                     if any(not torch.equal(buffer, other[name]) for other in everyone)]
        return [{name: own[name] for name in differing} for own in everyone]

    # ---- Stopping -----------------------------------------------------------------------

    def _end_before_the_first_batch(self, number: int) -> None:
        """Ends at once where nothing would be saved; called by the signal's handler.

        Of several processes, each would have to know that the others end as well.
        """
        if self._is_idle and get_world_size() == 1:
            self._end(number)

    def _end(self, number: int, stage: str = '', clips: int = 0) -> None:
        self.runner.visualizer.close()
        name = signal.Signals(number).name
        if self._saved is None:
            raise Interrupted(f'{name}: nothing was trained yet.\nStart again with the '
                              'same command.', number)
        where = dict(batches=f'epoch {self._epoch + 1} of {self._max_epochs}, {clips} '
                             'clips of it seen',
                     validation=f'epoch {self._epoch} of {self._max_epochs}, its '
                                'validation due',
                     epoch=f'{self._epoch} of {self._max_epochs} epochs').get(stage)
        raise Interrupted(
            f'{name}: all that was trained is saved in {self._saved}'
            f'{f" ({where})" if where else ""}.\n'
            'Go on with the same command and --resume.', number)

    # ---- Going on -----------------------------------------------------------------------

    def take_up(self, progress: dict | None) -> None:
        """Takes the position from a checkpoint, to be restored as the training begins.

        Args:
            progress (dict, optional): See the class; None in checkpoints of others.

        Raises:
            HRI30Error: it has another form.
        """
        self._saved = self.runner._load_from
        if progress is None:
            self.runner.logger.warning(
                f'{self._saved}: was not saved by {type(self).__name__}. The training goes '
                'on with the next epoch, with other random numbers than without the stop.')
            return
        try:
            fits = (progress['stage'] in STAGES
                    and type(progress['clips']) is int and progress['clips'] >= 0
                    and isinstance(progress['run'], str)
                    and isinstance(progress['randomness'], list)
                    and isinstance(progress['gradients'], dict)
                    and isinstance(progress.get('buffers', []), list))
        except (KeyError, TypeError):
            fits = False
        if not fits:
            raise HRI30Error(f'{self._saved}: the position in the training is not as '
                             f'{type(self).__name__} saves it.\nResume from another '
                             'checkpoint.')
        self._run = progress['run']
        self._resumed = dict(progress)

    def _restore_randomness(self) -> None:
        """Sets the generators to where they were."""
        states = self._resumed.pop('randomness', None)
        if not states:
            return
        if len(states) != get_world_size():
            self.runner.logger.warning(
                f'{self._saved}: was saved by {len(states)} processes, and these are '
                f'{get_world_size()}. Dropout draws other numbers than without the stop.')
            return
        try:
            randomness.set_states(states[get_rank()])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise HRI30Error(f'{self._saved}: its random numbers cannot be restored '
                             f'({error}).\nResume from another checkpoint.') from error

    def _restore_gradients(self) -> None:
        """Gives parameters the gradients that wait for the next step."""
        gradients = self._resumed.pop('gradients', {})
        parameters = dict(unwrap(self.runner.model).named_parameters())
        wrapper = self.runner.optim_wrapper
        waits = wrapper.inner_count % wrapper._accumulative_counts
        begins = self._is_moved and not waits
        if gradients and begins:
            self.runner.logger.warning(
                f'{self._saved}: its gradients gathered for the next step are dropped: '
                'with these settings a step begins here.')
        for name, gradient in gradients.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.shape != getattr(gradient, 'shape', None):
                raise HRI30Error(f'{self._saved}: has a gradient of {name}, which does not '
                                 'fit the model.\nResume from another checkpoint.')
            if begins:
                continue
            # In the layout of the parameter, as autograd has it.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        if not gradients and waits:
            self.runner.logger.warning(
                f'{self._saved}: lacks the gradients gathered for the next step, which '
                'has fewer clips.')

    def _restore_buffers(self) -> None:
        """Gives each process its own buffers back."""
        buffers = self._resumed.pop('buffers', [])
        if len(buffers) != get_world_size():
            return  # of the first process, in all
        own = dict(unwrap(self.runner.model).named_buffers())
        try:
            for name, saved in buffers[get_rank()].items():
                own[name].copy_(saved)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise HRI30Error(f'{self._saved}: has buffers that do not fit the model '
                             f'({error}).\nResume from another checkpoint.') from error

    def _count_seen(self, clips: int) -> int:
        """Counts the batches of the epoch that were seen.

        Args:
            clips (int): Of a batch, in all processes.
        """
        seen = self._resumed['clips']
        batches = seen // clips
        self.runner.logger.info(
            f'Going on in epoch {self._epoch + 1} after {batches} of '
            f'{len(self.dataloader)} batches')
        if seen % clips:
            self.runner.logger.warning(
                f'{seen} clips of the epoch were seen, and a batch now has {clips}: '
                f'{seen % clips} of them are seen again.')
        return batches
