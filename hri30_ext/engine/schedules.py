"""Learning rates and counts of a training that goes on under other settings.

mmengine's schedules take all from the checkpoint, the length of the training as well: with
other batches, epochs or processes they would go on to count those that there were.
"""

import warnings

from .loops import ResumableTrainLoop


def keep_up(schedulers, batch: int, batches: int, full_batches: int) -> None:
    """Advances schedules that count the steps of full clips by all but the last of a batch.

    Args:
        schedulers (list): mmengine's.
        batch (int): Which one of the epoch, 0 being the first.
        batches (int): Of this epoch.
        full_batches (int): Of an epoch of full clips.
    """
    passed = (batch + 1) * full_batches // batches - batch * full_batches // batches
    for scheduler in schedulers:
        if not scheduler.by_epoch:
            for _ in range(passed - 1):  # ParamSchedulerHook adds the last
                scheduler.step()


class Horizon:
    """The schedules of a new training, before it takes up a checkpoint.

    Args:
        runner (Runner): mmengine's, whose optimizer and schedules are built, and not yet
            resumed.
    """

    def __init__(self, runner) -> None:
        self.runner = runner
        self._schedulers = runner.param_schedulers or []
        self._states = [scheduler.state_dict() for scheduler in self._schedulers]
        names = {name for scheduler in self._schedulers
                 for name in (scheduler.param_name, f'initial_{scheduler.param_name}')}
        self._rates = [{name: group[name] for name in names if name in group}
                       for group in runner.optim_wrapper.param_groups]

    def keep(self) -> None:
        """Puts a training that was resumed where a whole one of its settings would be.

        Nothing is done where the checkpoint is of a training of as many epochs and batches:
        it then goes on bit for bit.
        """
        runner, loop = self.runner, self.runner.train_loop
        if not isinstance(loop, ResumableTrainLoop):
            return
        # What the checkpoint has brought; LearningRatesHook sets them as training begins.
        then = [runner.message_hub.runtime_info.get(name)
                for name in ('max_epochs', 'max_iters')]
        now = [loop.max_epochs, loop.max_iters]
        seen = loop.seen_batches
        iteration = sum(loop.epoch_batches[:loop.epoch]) + seen
        if then == now and iteration == loop.iter:
            return
        loop.move_to(iteration)
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in
               self._schedulers):
            told = 'its learning rates follow the validation, and go on as they were'
        else:
            self._replay(loop.epoch_batches[:loop.epoch], seen)
            largest = max(group['lr'] for group in runner.optim_wrapper.param_groups)
            told = ('its learning rates are those that a whole training of these settings '
                    f'has there, {largest:.3g} the largest')
        runner.logger.info(
            f'The training was of {then[0]} epochs and {then[1]} batches, and now is of '
            f'{now[0]} and {now[1]}. It goes on after batch {iteration}; {told}')

    def _replay(self, lengths: list[int], seen: int) -> None:
        """Advances the schedules from the beginning through epochs and some batches."""
        loop = self.runner.train_loop
        for group, rates in zip(self.runner.optim_wrapper.param_groups, self._rates,
                                strict=True):
            group.update(rates)
        for scheduler, state in zip(self._schedulers, self._states, strict=True):
            scheduler.load_state_dict(state)
        with warnings.catch_warnings():
            # That the optimizer has taken no step before its schedules.
            warnings.simplefilter('ignore', UserWarning)
            for length in lengths:
                self._replay_batches(length, length)
                self._step(by_epoch=True)
            if seen:
                self._replay_batches(seen, loop.epoch_batches[loop.epoch])

    def _replay_batches(self, count: int, length: int) -> None:
        for batch in range(count):
            keep_up(self._schedulers, batch, length, self.runner.train_loop.full_batches)
            self._step(by_epoch=False)

    def _step(self, by_epoch: bool) -> None:
        for scheduler in self._schedulers:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()
