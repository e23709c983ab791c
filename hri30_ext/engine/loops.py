"""The training loop, whose epochs do not depend on whether the training was stopped."""

import contextlib
import functools
import os
import signal
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from ..errors import Interrupted
from .distributed import max_over_ranks
from .loading import prefetch
from .signals import StopRequest, leave_signals_to_parent


class _StopHook(Hook):
    """Ends all processes at the same batch of a training or validation, after a signal."""

    priority = 'HIGHEST'

    def __init__(self, loop: 'ResumableTrainLoop') -> None:
        self.loop = loop
        self._val_batches = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.loop.stop_if_asked()

    def before_val_epoch(self, runner) -> None:
        # All processes must agree at the same batches; one may have a batch less.
        self._val_batches = -max_over_ranks(-len(runner.val_loop.dataloader))

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        if batch_idx < self._val_batches:
            self.loop.stop_if_asked()


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's training by epochs, which a resumed training continues bit for bit.

    An epoch depends on the seed, its number, and what
    :class:`~hri30_ext.engine.ValidatedCheckpointHook` saves before it: on the CPU with the
    same settings, threads and versions, if clips depend only on seed, epoch and index, as
    from datasets with ``set_epoch(seed, epoch)``. Gradients are not accumulated over the
    end of an epoch: its last step has the batches that are left.

    At a signal (:class:`~hri30_ext.engine.signals.StopRequest`), all processes end at the
    next batch, also of a validation. Nothing is saved then: the training resumes with the
    epoch after the last one that was saved.

    Arguments are those of :class:`mmengine.runner.EpochBasedTrainLoop`.

    Attributes:
        saved (Path, optional): The last checkpoint of an epoch.
        saved_epochs (int): The epochs that it has.

    Raises:
        Interrupted: a signal came.
    """

    def __init__(self, runner, dataloader, max_epochs: int, **kwargs) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self.saved: Path | None = None
        self.saved_epochs = 0
        self._request = StopRequest(self._on_signal)
        self._is_idle = True  # no batch was trained
        runner.register_hook(_StopHook(self))

    def run(self) -> torch.nn.Module:
        """Trains from the current epoch."""
        for loop in (self, self.runner.val_loop):
            if loop is not None:
                # It draws a seed for its processes, from the model's generator by default.
                loop.dataloader.generator = torch.Generator()
                loop.dataloader.worker_init_fn = functools.partial(
                    leave_signals_to_parent, loop.dataloader.worker_init_fn)
        with self._request:
            return super().run()

    def run_epoch(self) -> None:
        """Trains an epoch."""
        runner = self.runner
        runner.call_hook('before_train_epoch')
        runner.model.train()
        dataset = self.dataloader.dataset
        if hasattr(dataset, 'set_epoch'):
            dataset.set_epoch(runner.seed, self._epoch)
        # The last batch of the epoch makes a step, of as many batches as are left.
        runner.optim_wrapper.initialize_count_status(runner.model, 0, len(self.dataloader))
        device = next(runner.model.parameters()).device
        for index, batch in enumerate(prefetch(self.dataloader, device)):
            self.run_iter(index, batch)
            self._is_idle = False
        runner.call_hook('after_train_epoch')
        self._epoch += 1

    def stop_if_asked(self) -> None:
        """Ends the training if a signal came to any process; all must call it."""
        number = max_over_ranks(self._request.number)
        if number:
            self._stop(number)

    def _on_signal(self, number: int) -> None:
        """Ends at once before the first batch; the signal's handler calls it."""
        # Several processes stop together, at a batch.
        if self._is_idle and get_world_size() == 1:
            self._stop(number)
        if get_rank() == 0:
            # Not by print(), which this may interrupt; and the terminal may be closed.
            with contextlib.suppress(OSError):
                os.write(2, b'\nEnds after this batch. A second signal ends at once.\n')

    def _stop(self, number: int) -> None:
        self.runner.visualizer.close()
        name = signal.Signals(number).name
        if self.saved is None:
            raise Interrupted(f'{name}: no epoch was complete yet.\nStart again with the '
                              'same command.', number)
        raise Interrupted(
            f'{name}: {self.saved} has {self.saved_epochs} of {self._max_epochs} epochs.\n'
            f'With the same command and --resume, epoch {self.saved_epochs + 1} is next.',
            number)
