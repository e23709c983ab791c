"""The checkpoint hook, which saves an epoch after its validation, and early stopping."""

import os
import re
import shutil
from pathlib import Path

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner.checkpoint import weights_to_cpu

from ..checkpoints import META_KEY, Essentials, save_safetensors, write_message_hub
from ..datasets import randomness
from ..errors import HRI30Error
from ..utils.fileio import atomic_path, atomic_write_text
from ..utils.text import printable
from .recovery import list_epochs
from .resuming import TRAINING, explain_misfit, fixed_settings

#: Metrics of :class:`~hri30_ext.evaluation.HRI30Metric` that can choose the best one.
_GREATER = ['top1', 'top5', 'mean_class', 'macro_precision', 'macro_recall', 'macro_f1']
_LESS = ['loss']


def _check_metric(name: str | None, rule: str | None, setting: str) -> None:
    if name not in (None, *_GREATER, *_LESS) and not rule:
        raise HRI30Error(f'{setting}={name!r}: not a metric of the validation.\n'
                         f'Expected one of: {", ".join(_GREATER + _LESS)}.')


@HOOKS.register_module()
class ValidatedCheckpointHook(CheckpointHook):
    """Saves an epoch's checkpoint when the next one starts, or the training ends.

    So the checkpoint to resume from has what the validation decides, the best score and the
    counter of early stopping, and the random numbers of the next epoch. The new checkpoint
    is on the disk before old ones are removed.

    Checkpoints hold plain data, which ``torch.load(weights_only=True)`` reads: in ``meta``
    the :class:`~hri30_ext.checkpoints.Essentials` of the model; and in ``training`` the
    states of the random number generators, one per process, and the settings that a resumed
    training must have. The best one has a second name, ``best.pth``, and its weights are
    also written as ``best.safetensors``.

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
        self._randomness: list | None = None  # by process, of the last checkpoint

    # ---- Resuming -----------------------------------------------------------------------

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self._randomness = checkpoint[TRAINING]['randomness']

    def before_train(self, runner) -> None:
        info, loop = runner.message_hub.runtime_info, runner.train_loop
        # What a checkpoint that is resumed says of other files. mmengine would remove them.
        best, _, _ = (info.pop(key, None) for key in (
            'best_ckpt', 'keep_ckpt_ids', 'last_ckpt'))
        super().before_train(runner)
        folder = Path(self.out_dir)
        if is_main_process():
            remove_leftovers(folder)
        if runner._resume:
            loop.saved, loop.saved_epochs = Path(runner._load_from), runner.epoch
        if self.save_best is None or best is None:
            return
        path = folder / Path(str(best)).name
        if path.is_file() and isinstance(info.get('best_score'), int | float) and (
                re.fullmatch(rf'best_{self.key_indicators[0]}_epoch_\d+\.pth', path.name)):
            self.best_ckpt_path = str(path)
            runner.message_hub.update_info('best_ckpt', str(path))
        else:
            info.pop('best_score', None)
            runner.logger.warning(
                f'{printable(str(best))[:200]}: was the best checkpoint, and is not in '
                f'{folder}. The search for the best starts over.')

    def before_train_epoch(self, runner) -> None:
        """Saves the epoch before, or restores the generators of the one that starts."""
        if runner.epoch > runner.train_loop.saved_epochs:
            self._save_epoch(runner)
        elif runner._resume:
            with explain_misfit(runner._load_from):
                randomness.set_states(self._randomness[get_rank()])

    # ---- Saving -------------------------------------------------------------------------

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Makes plain data of what mmengine saves, and adds what it lacks."""
        checkpoint['message_hub'] = write_message_hub(checkpoint['message_hub'])
        for state in checkpoint.get('param_schedulers', []):
            # A schedule that is resumed has its own functions, from the config.
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]
        essentials = Essentials.from_config(runner.cfg)
        if essentials is not None:
            checkpoint['meta'][META_KEY] = essentials.to_dict()
        if 'optimizer' in checkpoint:
            checkpoint[TRAINING] = dict(
                settings=fixed_settings(runner.cfg), randomness=self._randomness)
        for name in {'state_dict', 'ema_state_dict'} & checkpoint.keys():
            checkpoint[name] = weights_to_cpu(checkpoint[name])  # averaged ones are not

    def after_train_epoch(self, runner) -> None:
        pass  # mmengine would save here, before the validation

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Saves the best."""
        # With a path here, mmengine saves the epoch each time the best one changes.
        self.last_ckpt = None
        if metrics and self.save_best:
            # With a path here, it removes the best one before it saves the new one.
            before, self.best_ckpt_path = self.best_ckpt_path, None
            super().after_val_epoch(runner, metrics)
            if self.best_ckpt_path is None:
                self.best_ckpt_path = before
            elif is_main_process():
                _name_best(Path(self.best_ckpt_path))

    def after_train(self, runner) -> None:
        if runner.epoch > runner.train_loop.saved_epochs:
            self._save_epoch(runner)

    def _save_epoch(self, runner) -> None:
        epoch = runner.epoch
        meta = dict(epoch=epoch, iter=runner.iter)
        self._randomness = all_gather_object(randomness.get_states())
        if self.snapshot_interval and epoch % self.snapshot_interval == 0:
            runner.save_checkpoint(self.out_dir, f'snapshot_epoch_{epoch}.pth', meta=meta)
        is_last = epoch == runner.max_epochs or runner.train_loop.stop_training
        if epoch > self.save_begin and (epoch - self.save_begin) % self.interval == 0 or (
                is_last and self.save_last):
            self._save_checkpoint_with_step(runner, epoch, meta)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """Saves an epoch, names it in ``last_checkpoint``, and removes what it replaces."""
        folder, loop = Path(self.out_dir), runner.train_loop
        path = folder / self.filename_tmpl.format(step)
        runner.message_hub.update_info('last_ckpt', str(path))
        runner.save_checkpoint(
            self.out_dir, path.name, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, **self.args)
        loop.saved, loop.saved_epochs = path, step
        if not is_main_process():
            return
        atomic_write_text(Path(runner.work_dir) / 'last_checkpoint', str(path), True)
        old, epochs = [], list_epochs(folder)
        if self.max_keep_ckpts > 0:  # those of later epochs are of another training
            old += epochs[epochs.index(path) + self.max_keep_ckpts:]
        if self.save_best and self.best_ckpt_path:
            old += [best for best in list_epochs(folder, f'best_{self.key_indicators[0]}_')
                    if best != Path(self.best_ckpt_path)]
        for checkpoint in old:
            checkpoint.unlink()


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
        if re.fullmatch(r'\.((best_\w+_|snapshot_)?epoch_\d+|best)-\w{8}'
                        r'\.(pth|safetensors)', path.name):
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
    _default_greater_keys, _default_less_keys = _GREATER, _LESS

    def __init__(self, monitor: str, rule: str | None = None, **kwargs) -> None:
        _check_metric(monitor, rule, 'early_stopping.monitor')
        super().__init__(monitor, rule, **kwargs)

    def before_run(self, runner) -> None:
        pass  # a run that only tests has no training loop to check

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['early_stopping'] = dict(
            monitor=self.monitor, wait_count=self.wait_count,
            best_score=float(self.best_score), stopped=runner.train_loop.stop_training)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        state = checkpoint.get('early_stopping')
        if not runner._resume or not state or state['monitor'] != self.monitor:
            return
        self.wait_count, self.best_score = int(state['wait_count']), state['best_score']
        # With more patience now, a training continues that had stopped.
        if state['stopped'] and self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'Nothing to resume: validation {self.monitor} had not improved for '
                f'{self.wait_count} epochs. To continue, set early_stopping.patience '
                'higher, or early_stopping=None.')
