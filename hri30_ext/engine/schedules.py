"""Learning rates of a training that resumes with other settings.

mmengine's schedules load everything from the checkpoint, the length of the training
included, and would ignore other batches, epochs or processes.
"""

import warnings

from .loops import ResumableTrainLoop


def advance_schedules(schedulers, batch: int, batches: int, full_batches: int) -> None:
    """Advances schedules that count steps of full clips, by all but the last step.

    Args:
        schedulers (list): mmengine's.
        batch (int): Index of the batch in its epoch.
        batches (int): Batches of this epoch.
        full_batches (int): Batches of an epoch of full clips.
    """
    steps = (batch + 1) * full_batches // batches - batch * full_batches // batches
    for scheduler in schedulers:
        if not scheduler.by_epoch:
            for _ in range(steps - 1):  # ParamSchedulerHook adds the last
                scheduler.step()


class InitialSchedules:
    """The schedules and learning rates of a new training, before it loads a checkpoint.

    Args:
        runner (Runner): mmengine's, with its optimizer and schedules built.
    """

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
        loop.move_to(iteration)
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
        """Advances the schedules from the start to the current batch."""
        loop = self.runner.train_loop
        for group, rates in zip(self.runner.optim_wrapper.param_groups, self._rates,
                                strict=True):
            group.update(rates)
        for scheduler, state in zip(self._schedulers, self._states, strict=True):
            scheduler.load_state_dict(state)
        with warnings.catch_warnings():
            # That the optimizer has not stepped before its schedules.
            warnings.simplefilter('ignore', UserWarning)
            for length in loop.epoch_batches[:loop.epoch]:
                self._replay_batches(length, length)
                self._step(by_epoch=True)
            if loop.seen_batches:
                self._replay_batches(loop.seen_batches, loop.epoch_batches[loop.epoch])

    def _replay_batches(self, count: int, length: int) -> None:
        for batch in range(count):
            advance_schedules(self._schedulers, batch, length,
                              self.runner.train_loop.full_batches)
            self._step(by_epoch=False)

    def _step(self, by_epoch: bool) -> None:
        for scheduler in self._schedulers:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()
