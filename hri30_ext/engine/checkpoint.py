"""The checkpoint hook, which saves an epoch after its validation, and early stopping."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner.checkpoint import weights_to_cpu

from ..checkpoints import META_KEY, Essentials, save_safetensors, write_message_hub
from ..errors import HRI30Error
from ..utils.background import later, wait
from ..utils.fileio import atomic_path, atomic_write_text
from .loops import WITHIN_EPOCH, ResumableTrainLoop, is_validated

#: Metrics of :class:`~hri30_ext.evaluation.HRI30Metric` that can choose the best one.
_GREATER = ['top1', 'top5', 'mean_class', 'macro_precision', 'macro_recall', 'macro_f1']
_LESS = ['loss']


def _check_metric(name: str | None, rule: str | None, setting: str) -> None:
    if name not in (None, *_GREATER, *_LESS) and not rule:
        raise HRI30Error(f'{setting}={name!r}: not a metric of the validation.\n'
                         f'Expected one of: {", ".join(_GREATER + _LESS)}.')


@HOOKS.register_module()
class ValidatedCheckpointHook(CheckpointHook):
    """Saves an epoch's checkpoint after its validation instead of before.

    So the checkpoint to resume from has what the validation decides: the best score and the
    counter of early stopping. An epoch without validation is saved at its end.

    The new checkpoint is on the disk before old ones are removed, and only files with the
    names that this hook gives, in the folder that it writes to, are removed. mmengine
    removes first, and whatever the checkpoint that it resumes names. A thread writes and
    removes the files of an epoch while the next one runs.

    Checkpoints hold plain data, which ``torch.load(weights_only=True)`` reads, and in
    ``meta`` the :class:`~hri30_ext.checkpoints.Essentials` of the model. The best one has a
    second name, ``best.pth``, and its weights are also written as ``best.safetensors``.

    Args:
        save_best (str, optional): The metric that chooses the best one. None: no best one.
        snapshot_interval (int, optional): Keeps the checkpoint of every so many
            epochs as ``snapshot_epoch_N.pth``. The others are those of
            :class:`mmengine.hooks.CheckpointHook`, with ``by_epoch=True``.

    Raises:
        HRI30Error: ``save_best`` is not among the metrics.
    """

    def __init__(self, *args, save_best: str | None = None,
                 snapshot_interval: int | None = None, **kwargs) -> None:
        _check_metric(save_best, kwargs.get('rule'), 'save_best')
        super().__init__(*args, save_best=save_best, greater_keys=_GREATER,
                         less_keys=_LESS, **kwargs)
        self.snapshot_interval = snapshot_interval
        self._epochs: list[int] = []  # whose checkpoints are kept
        self._superseded: list[str] = []  # names of best ones, until an epoch is saved

    def before_train(self, runner) -> None:
        info = runner.message_hub.runtime_info
        # What a checkpoint that is resumed says of others.
        claimed = {key: info.pop(key) for key in list(info)
                   if key in ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt')}
        super().before_train(runner)
        # It sees no files, which mmengine would remove before it writes new ones.
        self.file_backend = SimpleNamespace(
            join_path=os.path.join, isfile=lambda path: False, isdir=lambda path: False)
        folder = Path(self.out_dir)
        if is_main_process():
            remove_leftovers(folder)
        epochs = claimed.get('keep_ckpt_ids')
        if runner._resume and isinstance(epochs, list) and (
                Path(runner._load_from).parent == folder):
            self._epochs = sorted({epoch for epoch in epochs
                                   if type(epoch) is int and 0 < epoch <= runner.epoch})
        path = claimed.get('best_ckpt')
        if self.save_best is None or path is None:
            return
        name = Path(str(path)).name
        if (folder / name).is_file() and re.fullmatch(
                rf'best_{self.key_indicators[0]}_epoch_\d+\.pth', name) and isinstance(
                info.get('best_score'), int | float):
            runner.message_hub.update_info('best_ckpt', str(folder / name))
        else:
            info.pop('best_score', None)
            runner.logger.warning(
                f'The best checkpoint so far is not in {folder}, and was named '
                f'{str(path)[:200]!r}. It is kept, and the search for the best '
                'starts over.')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Makes plain data of what mmengine saves, and adds the essentials."""
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
        if not is_validated(runner, runner.epoch + 1):
            wait()
            self._save_epoch(runner, runner.epoch + 1)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Saves the best, then the epoch, and removes what they replace."""
        wait()
        # With a path here, mmengine saves the epoch each time the best one changes.
        self.last_ckpt = None
        if metrics:
            before = runner.message_hub.runtime_info.get('best_ckpt')
            super().after_val_epoch(runner, metrics)
            best = runner.message_hub.runtime_info.get('best_ckpt')
            if best != before:
                if before:
                    self._superseded.append(Path(before).name)
                if is_main_process():
                    later(_name_best, Path(best))
        self._save_epoch(runner, runner.epoch)

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
        old, self._superseded = self._superseded, []
        if self.max_keep_ckpts > 0:
            old += map(self.filename_tmpl.format, self._epochs[:-self.max_keep_ckpts])
            self._epochs = self._epochs[-self.max_keep_ckpts:]
        if is_main_process():
            later(atomic_write_text, Path(runner.work_dir) / 'last_checkpoint',
                  self.last_ckpt, True)
            for name in (WITHIN_EPOCH, *old):
                later(Path.unlink, Path(self.out_dir) / name, True)


def _name_best(path: Path) -> None:
    """Names a checkpoint ``best.pth``, and writes its weights as ``best.safetensors``."""
    with atomic_path(path.with_name('best.pth')) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)
    # Mapped, not read. A copy handed over would wait beside those of both checkpoints.
    checkpoint = torch.load(path, weights_only=True, mmap=True)
    save_safetensors(checkpoint['state_dict'], path.with_name('best.safetensors'),
                     checkpoint['meta'].get(META_KEY))


def remove_leftovers(folder: str | Path) -> None:
    """Removes temporary files of checkpoints that a killed run was writing."""
    for path in Path(folder).glob('.*'):
        if re.fullmatch(r'\.(within_epoch|(best_\w+_|snapshot_)?epoch_\d+|best)'
                        r'-\w{8}\.(pth|safetensors)', path.name):
            path.unlink(missing_ok=True)


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's early stopping, with a counter that is saved and resumed.

    Arguments are those of :class:`mmengine.hooks.EarlyStoppingHook`, whose default
    ``min_delta`` of 0.1 would stop almost at once on an accuracy.

    Raises:
        HRI30Error: ``monitor`` is not among the metrics, and has no ``rule``.
    """

    # Before the checkpoint hook (VERY_LOW), which saves what is decided here.
    priority = 'LOW'
    _STATE = ('wait_count', 'best_score')
    _default_greater_keys, _default_less_keys = _GREATER, _LESS

    def __init__(self, monitor: str, rule: str | None = None, **kwargs) -> None:
        _check_metric(monitor, rule, 'early_stopping.monitor')
        super().__init__(monitor, rule, **kwargs)

    def before_run(self, runner) -> None:
        pass  # a run that only tests has no training loop to check

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        state = {name: float(getattr(self, name)) for name in self._STATE}
        checkpoint['early_stopping'] = dict(
            state, monitor=self.monitor, stopped=bool(runner.train_loop.stop_training))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
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
