"""Checkpoints that know the validation of their epoch, and early stopping."""

from mmaction.registry import HOOKS
from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from ..errors import HRI30Error

#: Metrics of :class:`~hri30_ext.evaluation.HRI30Metric` to choose a checkpoint by.
_BY_METRIC = dict(top1='greater', top5='greater', mean_class='greater',
                  macro_precision='greater', macro_recall='greater', macro_f1='greater',
                  loss='less')


@HOOKS.register_module()
class ValidatedCheckpointHook(CheckpointHook):
    """Saves an epoch's checkpoint after its validation instead of before.

    mmengine saves before, so that the checkpoint to resume from lacks what the
    validation decides: the best score, and the counter of early stopping. An epoch
    without validation is saved at its end.

    Args:
        save_best (str | list[str], optional): As in mmengine. For this project's
            metrics the rule is known.
        snapshot_interval (int, optional): Keeps the checkpoint of every so many
            epochs as ``snapshot_epoch_N.pth``.

    The others are those of :class:`mmengine.hooks.CheckpointHook`, with
    ``by_epoch=True``.

    Raises:
        HRI30Error: ``save_best`` is not among the metrics.
    """

    def __init__(self, *args, save_best=None, rule=None,
                 snapshot_interval: int | None = None, **kwargs) -> None:
        names = [save_best] if isinstance(save_best, str) else list(save_best or [])
        unknown = [name for name in names if name not in _BY_METRIC]
        if unknown and rule is None:
            raise HRI30Error(f'save_best={unknown[0]!r}: not a metric of the validation.\n'
                             f'Expected one of: {", ".join(_BY_METRIC)}.')
        if rule is None and names:
            rule = [_BY_METRIC[name] for name in names]
        super().__init__(*args, save_best=save_best, rule=rule, **kwargs)
        self.snapshot_interval = snapshot_interval

    def after_train_epoch(self, runner) -> None:
        """Saves an epoch that no validation follows."""
        if not _is_validated(runner, runner.epoch + 1):
            self._save_epoch(runner, runner.epoch + 1)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Saves the best, then the epoch."""
        # Without it, mmengine saves the epoch each time the best one changes.
        self.last_ckpt = None
        if metrics:
            super().after_val_epoch(runner, metrics)
        self._save_epoch(runner, runner.epoch)

    def _save_epoch(self, runner, epoch: int) -> None:
        meta = dict(epoch=epoch, iter=runner.iter)
        last = epoch == runner.max_epochs or runner.train_loop.stop_training
        if (epoch > self.save_begin and (epoch - self.save_begin) % self.interval == 0
                or last and self.save_last):
            self._save_checkpoint_with_step(runner, epoch, meta)
        if self.snapshot_interval and epoch % self.snapshot_interval == 0:
            runner.save_checkpoint(self.out_dir, f'snapshot_epoch_{epoch}.pth', meta=meta)


def _is_validated(runner, epoch: int) -> bool:
    """Whether the training loop validates after an epoch, counted from 1."""
    loop = runner.train_loop
    return runner.val_loop is not None and epoch >= loop.val_begin and (
        epoch % loop.val_interval == 0 or epoch == runner.max_epochs)


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's early stopping, whose counter is saved and resumed.

    In mmengine the counter and the best value are plain attributes: after each
    resume the patience starts anew. Arguments are those of
    :class:`mmengine.hooks.EarlyStoppingHook`. The default ``min_delta`` there, 0.1,
    would stop almost at once on an accuracy.
    """

    # Before the checkpoint hook (VERY_LOW), which saves what was decided here.
    priority = 'LOW'
    _STATE = ('wait_count', 'best_score')

    def before_run(self, runner) -> None:
        """Nothing: a run that only tests has no training loop to check."""

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the counter, and whether the training was stopped."""
        state = {name: float(getattr(self, name)) for name in self._STATE}
        checkpoint['early_stopping'] = dict(
            state, monitor=self.monitor, stopped=bool(runner.train_loop.stop_training))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes the counter up when a training is resumed."""
        state = checkpoint.get('early_stopping')
        if not runner._resume or not state or state['monitor'] != self.monitor:
            return
        self.wait_count = int(state['wait_count'])
        self.best_score = state['best_score']
        # A longer patience goes on where a shorter one had stopped.
        if state['stopped'] and self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'Nothing to resume: validation {self.monitor} had not improved for '
                f'{self.wait_count} epochs. To go on, set early_stopping.patience '
                'higher, or early_stopping=None.')
        else:
            runner.logger.info(
                f'Early stopping: {self.wait_count} of {self.patience} epochs without '
                f'improvement, best {self.monitor} {self.best_score:.4f}')
