"""The checkpoint hook, which saves an epoch after its validation, and early stopping."""

import bisect
import os
import re
import shutil
from pathlib import Path

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner.checkpoint import weights_to_cpu

from ..checkpoints import (
    META_KEY,
    Essentials,
    load_from_local,
    save_safetensors,
    write_message_hub,
)
from ..errors import HRI30Error
from ..utils.background import later, wait
from ..utils.fileio import atomic_path, atomic_write_text
from .loops import WITHIN_EPOCH, ResumableTrainLoop

#: Metrics of :class:`~hri30_ext.evaluation.HRI30Metric` that can choose the best one.
_BY_METRIC = dict(top1='greater', top5='greater', mean_class='greater',
                  macro_precision='greater', macro_recall='greater', macro_f1='greater',
                  loss='less')


@HOOKS.register_module()
class ValidatedCheckpointHook(CheckpointHook):
    """Saves an epoch's checkpoint after its validation instead of before.

    mmengine saves before it, so that the checkpoint to resume from lacks what the
    validation decides: the best score and the counter of early stopping. An epoch without
    validation is saved at its end.

    mmengine also removes the old checkpoint before it writes the new one, and takes the
    paths of those that it removes from the checkpoint that it resumes. Here the new one is
    on the disk first, and only files with the names that this hook gives are removed, in
    the folder that it writes to.

    Checkpoints hold plain data, which ``torch.load(weights_only=True)`` reads, and in
    ``meta`` the :class:`~hri30_ext.checkpoints.Essentials` of the model. The best one has a
    second name, ``best.pth``, and its weights are also written as ``best.safetensors``
    (``best_METRIC`` with several metrics).

    A thread writes and removes the files of an epoch while the next one runs.

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
        self._epochs: list[int] = []  # whose checkpoints are kept
        self._superseded: list[str] = []  # names of best ones, until an epoch is saved

    # ---- Hooks --------------------------------------------------------------------------

    def before_train(self, runner) -> None:
        """Finds the checkpoints of the run that is resumed."""
        info = runner.message_hub.runtime_info
        claimed = {key: info.pop(key) for key in list(info)
                   if key in ('keep_ckpt_ids', 'last_ckpt') or key.startswith('best_ckpt')}
        super().before_train(runner)
        if is_main_process():
            remove_leftovers(self.out_dir)
        epochs = claimed.get('keep_ckpt_ids')
        if runner._resume and isinstance(epochs, list) and (
                Path(runner._load_from).parent == Path(self.out_dir)):
            self._epochs = sorted({epoch for epoch in epochs
                                   if type(epoch) is int and 0 < epoch <= runner.epoch})
        for suffix, metric in self._best_metrics():
            path = claimed.get(f'best_ckpt{suffix}')
            if path is None:
                continue
            name = Path(str(path)).name
            if self._is_best_name(metric, name) and (Path(self.out_dir) / name).is_file():
                self._set_best(runner, suffix, metric, str(Path(self.out_dir) / name))
            else:
                info.pop(f'best_score{suffix}', None)
                runner.logger.warning(
                    f'The best checkpoint so far is not in {self.out_dir}, and was named '
                    f'{str(path)[:200]!r}. It is kept, and the search for the best '
                    'starts over.')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Makes plain data of what mmengine saves, and adds the essentials.

        Hooks of a higher priority have added theirs.
        """
        checkpoint['message_hub'] = write_message_hub(checkpoint['message_hub'])
        for state in checkpoint.get('param_schedulers', []):
            # A schedule that is resumed has its own functions, from the config.
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]
        essentials = Essentials.from_config(runner.cfg)
        if essentials is not None:
            checkpoint['meta'][META_KEY] = essentials.to_dict()
        for name in {'state_dict', 'ema_state_dict'} & checkpoint.keys():
            checkpoint[name] = weights_to_cpu(checkpoint[name])  # averaged ones are not

    def after_train_epoch(self, runner) -> None:
        """Saves an epoch that no validation follows."""
        if not _is_validated(runner, runner.epoch + 1):
            wait()
            self._save_epoch(runner, runner.epoch + 1)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Saves the best, then the epoch, and removes what they replace."""
        wait()
        # With a path here, mmengine saves the epoch each time the best one changes.
        self.last_ckpt = None
        if metrics:
            before = {suffix: self._hide_best(suffix, metric)
                      for suffix, metric in self._best_metrics()}
            super().after_val_epoch(runner, metrics)
            for suffix, metric in self._best_metrics():
                now = self._hide_best(suffix, metric)
                if now and before[suffix] and now != before[suffix]:
                    self._superseded.append(Path(before[suffix]).name)
                if now and is_main_process():
                    later(_name_best, Path(now), f'best{suffix}')
                if now or before[suffix]:
                    self._set_best(runner, suffix, metric, now or before[suffix])
        self._save_epoch(runner, runner.epoch)

    # ---- Saving and removing ------------------------------------------------------------

    def _save_epoch(self, runner, epoch: int) -> None:
        meta = dict(epoch=epoch, iter=runner.iter)
        last = epoch == runner.max_epochs or runner.train_loop.stop_training
        if (epoch > self.save_begin and (epoch - self.save_begin) % self.interval == 0
                or last and self.save_last):
            self._save_checkpoint_with_step(runner, epoch, meta)
        if self.snapshot_interval and epoch % self.snapshot_interval == 0:
            runner.save_checkpoint(self.out_dir, f'snapshot_epoch_{epoch}.pth', meta=meta)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """Saves an epoch, names it in ``last_checkpoint``, and removes the oldest."""
        self._epochs = [epoch for epoch in self._epochs if epoch < step] + [step]
        path = Path(self.out_dir) / self.filename_tmpl.format(step)
        self.last_ckpt = str(path)
        # Includes the one that is removed below; a run that is killed first does so later.
        runner.message_hub.update_info('keep_ckpt_ids', list(self._epochs))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, path.name, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, **self.args)
        if isinstance(runner.train_loop, ResumableTrainLoop):
            runner.train_loop.note_saved(path)
        old = [*self._superseded]
        self._superseded = []
        if self.max_keep_ckpts > 0:
            old += map(self.filename_tmpl.format, self._epochs[:-self.max_keep_ckpts])
            self._epochs = self._epochs[-self.max_keep_ckpts:]
        if is_main_process():
            later(atomic_write_text, Path(runner.work_dir) / 'last_checkpoint',
                  self.last_ckpt, True)
            for name in (WITHIN_EPOCH, *old):
                later(Path.unlink, Path(self.out_dir) / name, True)

    # ---- The best -----------------------------------------------------------------------

    def _best_metrics(self) -> list[tuple[str, str]]:
        """Returns each metric with the suffix of mmengine's entries for it."""
        metrics = self.key_indicators if self.save_best else []
        return [('' if len(metrics) == 1 else f'_{metric}', metric) for metric in metrics]

    def _is_best_name(self, metric: str, name: str) -> bool:
        before, after = f'best_{metric}_{self.filename_tmpl}'.split('{}')
        return re.fullmatch(rf'{re.escape(before)}\d+{re.escape(after)}', name) is not None

    def _set_best(self, runner, suffix: str, metric: str, path: str) -> None:
        runner.message_hub.update_info(f'best_ckpt{suffix}', path)
        if suffix:
            self.best_ckpt_path_dict[metric] = path
        else:
            self.best_ckpt_path = path

    def _hide_best(self, suffix: str, metric: str) -> str | None:
        """Returns the best checkpoint and hides it from mmengine, which would remove it."""
        if suffix:
            path = self.best_ckpt_path_dict.get(metric)
            self.best_ckpt_path_dict[metric] = None
        else:
            path, self.best_ckpt_path = self.best_ckpt_path, None
        return path


def _name_best(path: Path, name: str) -> None:
    """Gives a checkpoint another name, and writes its weights as ``NAME.safetensors``."""
    with atomic_path(path.with_name(f'{name}.pth')) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)
    checkpoint = load_from_local(str(path))
    save_safetensors(checkpoint['state_dict'], path.with_name(f'{name}.safetensors'),
                     checkpoint['meta'].get(META_KEY))


def remove_leftovers(folder: str | Path) -> None:
    """Removes temporary files of checkpoints that a killed run was writing."""
    for path in Path(folder).glob('.*'):
        if re.fullmatch(r'\.(within_epoch|(best_\w+_|snapshot_)?epoch_\d+|best(_\w+)?)'
                        r'-\w{8}\.(pth|safetensors)', path.name):
            path.unlink(missing_ok=True)


def _is_validated(runner, epoch: int) -> bool:
    """Whether the training loop validates after an epoch, counted from 1."""
    loop = runner.train_loop
    # The loop decides so once the epoch is over.
    interval = loop.dynamic_intervals[
        bisect.bisect(loop.dynamic_milestones, epoch + 1) - 1]
    return runner.val_loop is not None and epoch >= loop.val_begin and (
        epoch % interval == 0 or epoch == runner.max_epochs)


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's early stopping, with a counter that is saved and resumed.

    In mmengine the counter and the best value are plain attributes: each resume resets the
    patience. Arguments are those of :class:`mmengine.hooks.EarlyStoppingHook`, whose
    default ``min_delta`` of 0.1 would stop almost at once on an accuracy.
    """

    # Before the checkpoint hook (VERY_LOW), which saves what is decided here.
    priority = 'LOW'
    _STATE = ('wait_count', 'best_score')

    def before_run(self, runner) -> None:
        """Does nothing: a run that only tests has no training loop to check."""

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the counter, and whether the training was stopped."""
        state = {name: float(getattr(self, name)) for name in self._STATE}
        checkpoint['early_stopping'] = dict(
            state, monitor=self.monitor, stopped=bool(runner.train_loop.stop_training))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores the counter of a training that is resumed."""
        state = checkpoint.get('early_stopping')
        if not runner._resume or not state or state['monitor'] != self.monitor:
            return
        self.wait_count = int(state['wait_count'])
        self.best_score = state['best_score']
        # With more patience now, a training continues that had stopped.
        if state['stopped'] and self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'Nothing to resume: validation {self.monitor} had not improved for '
                f'{self.wait_count} epochs. To continue, set early_stopping.patience '
                'higher, or early_stopping=None.')
        else:
            runner.logger.info(
                f'Early stopping: {self.wait_count} of {self.patience} epochs without '
                f'improvement, best {self.monitor} {self.best_score:.4f}')
