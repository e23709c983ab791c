"""Hooks for curves, learning rates, class weights and averaged weights."""

import math
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import EMAHook, Hook, RuntimeInfoHook
from sklearn.utils.class_weight import compute_class_weight

from ..datasets.hri30 import list_clips
from ..errors import HRI30Error
from ..hardware import unwrap
from ..utils.curves import plot_training_curves, write_curves


class _Curves(msgspec.Struct):
    """The curves of a training, as checkpoints hold them."""

    history: list[dict[str, int | float]] = []  # a row an epoch
    minutes: float = 0


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws loss and accuracy of training and validation, and learning rates.

    After each validation, or each epoch if there are none, ``training_curves.csv`` in the
    work folder gets a row (with the minutes since the training began, without the pauses
    between resumed runs). ``training_curves.png`` is drawn every 30 seconds at most, and at
    the end. A resumed run continues the rows that its checkpoint holds.
    """

    # Before CheckpointHook (VERY_LOW), which saves the new row too.
    priority = 'LOW'

    def __init__(self) -> None:
        self._curves = _Curves()
        self._rates: dict[str, float] = {}
        self._started = 0.0
        self._drawn_at = -math.inf  # of time.monotonic()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        self._curves.minutes = self._minutes()
        checkpoint['curves'] = msgspec.structs.asdict(self._curves)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume and checkpoint.get('curves'):
            self._curves = msgspec.convert(checkpoint['curves'], _Curves)

    def before_train(self, runner) -> None:
        self._started = time.monotonic() - 60 * self._curves.minutes
        if self._curves.history:  # a killed run may not have written them
            self.after_val(runner)

    def _minutes(self) -> float:
        return round((time.monotonic() - self._started) / 60, 4)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._rates = learning_rates(runner.optim_wrapper)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._add_row(runner, runner.epoch, metrics)

    def after_train_epoch(self, runner) -> None:
        if runner.val_loop is None:
            self._add_row(runner, runner.epoch + 1, None)
            self.after_val(runner)

    def _add_row(self, runner, epoch: int, metrics: dict | None) -> None:
        point = {'epoch': epoch}
        for name, key in (('loss', 'loss'), ('top1', 'top1_acc')):
            if f'train/{key}' in runner.message_hub.log_scalars:
                point[f'train_{name}'] = mean_of_epoch(runner, key)
            if metrics and name in metrics:
                point[f'val_{name}'] = float(metrics[name])
        self._curves.history.append({**point, **self._rates, 'minutes': self._minutes()})

    @master_only
    def after_val(self, runner) -> None:
        """Writes and draws."""
        write_curves(Path(runner.work_dir) / 'training_curves.csv', self._curves.history)
        if time.monotonic() - self._drawn_at >= 30:
            self.after_train(runner)

    @master_only
    def after_train(self, runner) -> None:
        if self._curves.history:
            plot_training_curves(Path(runner.work_dir) / 'training_curves.png',
                                 self._curves.history, Path(runner.cfg.filename).stem)
            self._drawn_at = time.monotonic()


def mean_of_epoch(runner, name: str) -> float:
    """Returns the mean of what the batches of a complete training epoch returned."""
    history = runner.message_hub.get_scalar(f'train/{name}')
    return float(history.mean(len(runner.train_dataloader)))


@HOOKS.register_module()
class LearningRatesHook(RuntimeInfoHook):
    """Logs the learning rate of every parameter group.

    mmengine's hook logs that of the first group. Here, equal rates are logged once as
    ``lr``, others by group, such as ``backbone_lr``.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        runner.message_hub.update_info('iter', runner.iter)
        for name, rate in learning_rates(runner.optim_wrapper).items():
            runner.message_hub.update_scalar(f'train/{name}', rate)


def learning_rates(optim_wrapper) -> dict[str, float]:
    """Returns the current learning rates: ``lr``, or ``NAME_lr`` of each group.

    Groups that differ in weight decay only (``NAME.no_decay``) count as one.
    """
    rates = {}
    for i, group in enumerate(optim_wrapper.optimizer.param_groups):
        name = group.get('name', str(i)).removesuffix('.no_decay')
        rates[f'{name}_lr'] = group['lr']
    if len(set(rates.values())) == 1:
        return {'lr': next(iter(rates.values()))}
    return rates


@HOOKS.register_module()
class ClassWeightsHook(Hook):
    """Weights the loss of each class inversely to its training clips.

    The weights are scikit-learn's 'balanced' ones, ``N / (K * clips of the class)`` for the
    K classes that occur, and 1 for others. They follow from the training split, so that a
    resumed run has the same.

    Raises:
        HRI30Error: the loss of the head has no class weights.
    """

    def before_train(self, runner) -> None:
        dataset = runner.train_dataloader.dataset
        labels_N = np.array([clip['label'] for clip in list_clips(dataset)])
        weights_K, occurring = np.ones(len(dataset.classes)), np.unique(labels_N)
        weights_K[occurring] = compute_class_weight(
            'balanced', classes=occurring, y=labels_N)
        loss = unwrap(runner.model).cls_head.loss_cls
        if not hasattr(loss, 'class_weight'):
            raise HRI30Error(f'class_weights: {type(loss).__name__} takes none.\n'
                             'Expected CrossEntropyLoss, or class_weights=None.')
        loss.class_weight = torch.from_numpy(weights_K).float()
        runner.logger.info('Class weights from the training split: '
                           f'{weights_K.min():.3f} to {weights_K.max():.3f}')


@HOOKS.register_module()
class StepEMAHook(EMAHook):
    """Averages weights after each step of the optimizer, not after each batch.

    The two differ where several batches make a step (``accumulate``). Statistics of
    BatchNorm are averaged like the weights: those of the latest weights do not fit an
    average.

    Args:
        kwargs: Those of :class:`mmengine.hooks.EMAHook`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(update_buffers=True, **kwargs)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, *args, **kwargs)
