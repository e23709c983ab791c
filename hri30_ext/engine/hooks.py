"""Hooks."""

import time
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook, RuntimeInfoHook
from sklearn.utils.class_weight import compute_class_weight

from ..datasets.hri30 import list_clips
from ..errors import HRI30Error
from ..utils.curves import plot_training_curves, read_curves, write_curves
from .fine_tuning import unwrap


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores a model's weights channels-last, which convolves faster.

    The numbers are the same within rounding.
    """

    def before_run(self, runner) -> None:
        """Converts the model once, before its first step."""
        to_channels_last(runner.model)


def to_channels_last(model: torch.nn.Module) -> None:
    """Stores the weights of convolutions with the channels last."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        memory_format = formats.get(parameter.dim())
        if memory_format:  # module.to() takes one format for all, and buffers too
            parameter.data = parameter.data.to(memory_format=memory_format)


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws loss and accuracy of training against validation, and learning rates.

    After each validation ``training_curves.csv`` gets a row (with the minutes since the
    training began, pauses between resumed runs left out) and
    ``training_curves.png`` is drawn anew, both in the work folder. A resumed
    run goes on with the rows of the epochs before it, which its checkpoint holds.
    """

    # Before CheckpointHook (VERY_LOW), which saves the point as well.
    priority = 'LOW'

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._rates: dict[str, float] = {}
        self._history: list[dict] = []
        self._started = 0.0  # so that minutes go on where the resumed run stopped
        self._resumed: dict | None = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the curves, and the means of the epoch so far."""
        checkpoint['curves'] = dict(history=self._history, sums=self._sums,
                                    rates=self._rates, minutes=self._minutes())

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes the curves up when a training is resumed."""
        if runner._resume:
            self._resumed = checkpoint.get('curves')
            if self._resumed:
                _check_curves(self._resumed)

    def before_train(self, runner) -> None:
        """Goes on with the curves of the run that is resumed."""
        path = Path(runner.work_dir) / 'training_curves.csv'
        minutes = 0
        if self._resumed:
            self._history = list(self._resumed['history'])
            self._sums, self._rates = self._resumed['sums'], self._resumed['rates']
            minutes = self._resumed['minutes']
            if self._history:  # it may have been killed before it wrote them
                self._write(Path(runner.work_dir), Path(runner.cfg.filename).stem)
        elif runner.epoch and path.is_file():
            self._history = [point for point in read_curves(path)
                             if point['epoch'] <= runner.epoch]
            minutes = self._history[-1].get('minutes', 0) if self._history else 0
        self._started = time.monotonic() - 60 * minutes

    def _minutes(self) -> float:
        return round((time.monotonic() - self._started) / 60, 4)

    def before_train_epoch(self, runner) -> None:
        """Starts the means of an epoch, unless the rest of one is resumed."""
        if not getattr(runner.train_loop, 'resumes_within_epoch', False):
            self._sums = {'loss': [], 'top1': []}

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Keeps the learning rates; the last ones used in an epoch stand for it."""
        self._rates = learning_rates(runner.optim_wrapper)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Collects the loss and accuracy of a batch."""
        for name, key in (('loss', 'loss'), ('top1', 'top1_acc')):
            if outputs and key in outputs:
                self._sums[name].append(outputs[key].item())

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Adds a point."""
        point = {'epoch': runner.epoch}
        for name, values in self._sums.items():
            if values:
                point[f'train_{name}'] = sum(values) / len(values)
            if metrics and name in metrics:
                point[f'val_{name}'] = float(metrics[name])
        point.update(self._rates, minutes=self._minutes())
        self._history.append(point)

    def after_val(self, runner) -> None:
        """Draws: after the checkpoint, which a failing picture must not cost."""
        self._write(Path(runner.work_dir), Path(runner.cfg.filename).stem)

    @master_only
    def _write(self, folder: Path, title: str) -> None:
        write_curves(folder / 'training_curves.csv', self._history)
        plot_training_curves(folder / 'training_curves.png', self._history, title)


def _check_curves(curves: dict) -> None:
    """Raises what Python does where curves in a checkpoint have another form."""
    lists = [*curves['sums'].values(), curves['rates'].values(), [curves['minutes']],
             *(point.values() for point in curves['history']),
             [point['epoch'] for point in curves['history']]]
    for number in (number for numbers in lists for number in numbers):
        if not isinstance(number, int | float):
            raise TypeError(f'curves with a {type(number).__name__}')


@HOOKS.register_module()
class LearningRatesHook(RuntimeInfoHook):
    """Logs the learning rate of every parameter group.

    mmengine's hook logs the first group's alone. Where all rates are equal there is one,
    ``lr``; otherwise one a group, such as ``backbone_lr``.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Updates iteration and learning rates."""
        runner.message_hub.update_info('iter', runner.iter)
        for name, rate in learning_rates(runner.optim_wrapper).items():
            runner.message_hub.update_scalar(f'train/{name}', rate)


def learning_rates(optim_wrapper) -> dict[str, float]:
    """Returns the current learning rates: ``lr``, or one ``NAME_lr`` a group.

    Groups that differ in weight decay alone (``NAME.no_decay``) are one.
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
    """Weighs the loss of each class inversely to its training clips.

    The weights are scikit-learn's 'balanced' ones, ``N / (K * clips of the class)``, over
    the K classes that occur: 1 for all where classes are equally frequent. They are
    computed from the training split, so a resumed run has the same.

    Raises:
        HRI30Error: the head's loss takes no class weights.
    """

    def before_train(self, runner) -> None:
        """Sets the weights of the head's loss."""
        dataset = runner.train_dataloader.dataset
        labels_N = np.array([clip['label'] for clip in list_clips(dataset)])
        weights_K = balanced_weights(labels_N, len(dataset.classes))
        loss = unwrap(runner.model).cls_head.loss_cls
        if not hasattr(loss, 'class_weight'):
            raise HRI30Error(f'class_weights: {type(loss).__name__} takes none.\n'
                             'Expected CrossEntropyLoss, or class_weights=None.')
        loss.class_weight = torch.from_numpy(weights_K).float()
        runner.logger.info(
            'Class weights from the training split: '
            f'{weights_K.min():.3f} ({dataset.classes[weights_K.argmin()]}) to '
            f'{weights_K.max():.3f} ({dataset.classes[weights_K.argmax()]})')


def balanced_weights(labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Computes scikit-learn's balanced class weights.

    Args:
        labels_N (np.ndarray): Labels in [0, K), shape (N, ).
        num_classes (int): K.

    Returns:
        np.ndarray: float64, shape (K, ); 1 for classes that do not occur.
    """
    weights_K = np.ones(num_classes)
    occurring = np.unique(labels_N)
    weights_K[occurring] = compute_class_weight(
        'balanced', classes=occurring, y=labels_N)
    return weights_K
