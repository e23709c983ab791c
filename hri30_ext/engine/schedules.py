"""Learning rates of a training that resumes with other settings.

mmengine's schedules load everything from the checkpoint, the length of the training
included, and would ignore other batches, epochs or processes.
"""

import warnings

from .loops import ResumableTrainLoop


def advance_schedules(schedulers, by_epoch: bool, steps: int = 1) -> None:
    """Advances those of mmengine's schedules that count epochs, or batches."""
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            for _ in range(steps):
                scheduler.step()


def count_steps(batch: int, batches: int, full_batches: int) -> int:
    """Returns how many steps of full clips a batch of an epoch counts for.

    Args:
        batch (int): Index of the batch.
        batches (int): Batches of this epoch.
        full_batches (int): Batches of an epoch of full clips.
    """
    return (batch + 1) * full_batches // batches - batch * full_batches // batches


class InitialSchedules:
    """The schedules and learning rates of a new training, before it loads a checkpoint."""

    def __init__(self, runner) -> None:
        self.runner = runner
        self._schedulers = runner.param_schedulers or []
        self._states = [scheduler.state_dict() for scheduler in self._schedulers]
        names = {name for scheduler in self._schedulers
                 for name in (scheduler.param_name, f'initial_{scheduler.param_name}')}
        self._rates = [{name: group[name] for name in names if name in group}
                       for group in runner.optim_wrapper.param_groups]

    def adapt(self) -> None:
        """Moves a resumed training to where a complete one with its settings would be.

        Does nothing if the checkpoint's training has as many epochs and batches: it then
        resumes bit for bit.
        """
        runner, loop = self.runner, self.runner.train_loop
        if not isinstance(loop, ResumableTrainLoop):
            return
        # From the checkpoint; LearningRatesHook replaces them when the training starts.
        info = runner.message_hub.runtime_info
        before = info.get('max_epochs'), info.get('max_iters')
        now = loop.max_epochs, loop.max_iters
        iteration = sum(loop.epoch_batches[:loop.epoch]) + loop.seen_batches
        if before == now and iteration == loop.iter:
            return
        loop._iter = iteration
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in
               self._schedulers):
            rates = 'its learning rates follow the validation, and stay as they are'
        else:
            self._replay()
            largest = max(group['lr'] for group in runner.optim_wrapper.param_groups)
            rates = ('its learning rates are those of a complete training with these '
                     f'settings, {largest:.3g} the largest')
        runner.logger.info(
            f'The training had {before[0]} epochs and {before[1]} batches, and now has '
            f'{now[0]} and {now[1]}. It resumes after batch {iteration}; {rates}')

    def _replay(self) -> None:
        loop = self.runner.train_loop
        for group, rates in zip(self.runner.optim_wrapper.param_groups, self._rates,
                                strict=True):
            group.update(rates)
        for scheduler, state in zip(self._schedulers, self._states, strict=True):
            scheduler.load_state_dict(state)
        with warnings.catch_warnings():
            # That the optimizer has not stepped before its schedules.
            warnings.simplefilter('ignore', UserWarning)
            for epoch, length in enumerate(loop.epoch_batches[:loop.epoch + 1]):
                is_over = epoch < loop.epoch
                for batch in range(length if is_over else loop.seen_batches):
                    steps = count_steps(batch, length, loop.full_batches)
                    # In the order of a training, so that rates are rounded alike.
                    advance_schedules(self._schedulers, by_epoch=False, steps=steps - 1)
                    advance_schedules(self._schedulers, by_epoch=False)
                if is_over:
                    advance_schedules(self._schedulers, by_epoch=True)
