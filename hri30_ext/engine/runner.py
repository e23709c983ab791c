"""mmengine's runner, with checked checkpoints and a readable console."""

import logging
import os
import resource

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_to_model

from ..checkpoints import META_KEY
from ..errors import HRI30Error, first_cases
from ..hardware import autocast_dtype, unwrap
from ..models.encoders import FrozenEncoder
from .resuming import (
    advance_schedules,
    check_resumable,
    explain_misfit,
    needs_validations,
    read_settings,
)

#: Messages of mmengine that no user can act on, or that the line of an epoch replaces.
_NOISE = ('The prefix is not set', 'FileClient', 'HardDiskBackend',
          'Distributed training is not used', 'Exp name:', 'Loads checkpoint by',
          'Epoch(train)', 'Epoch(val)', 'The best checkpoint with',
          'Checkpoints will be saved to',
          # Of each epoch: none of its gradients is left for the next.
          'the gradient of some iterations is lost',
          'Gradient accumulative may slightly decrease')


def _is_for_console(record: logging.LogRecord) -> bool:
    """Keeps long dumps and noise off the console; the log file has them."""
    message = record.getMessage()
    is_dump = record.levelno <= logging.INFO and message.count('\n') > 12
    return not is_dump and not any(noise in message for noise in _NOISE)


class _ConsoleFormatter(logging.Formatter):
    """Leaves the time out, which the log file has."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else (
            f'{record.levelname.lower()}: {text}')


class HRI30Runner(Runner):
    """mmengine's runner, which compares a checkpoint with the model before loading it.

    - ``load_from`` in training: the backbone must fit, the head may be new; one line says
      what was loaded.
    - Resuming and testing: every weight and the classes must fit.
    - ``deterministic`` warns about operations without a deterministic form.
    - The console shows no dumps of environment and config; the log file has them.
    """

    def __init__(self, *args, **kwargs) -> None:
        # Loading processes pass open files.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().__init__(*args, **kwargs)
        dtype = autocast_dtype(self.cfg)
        if dtype:  # the loops of validation and testing name none
            torch.set_autocast_dtype(get_device(), dtype)
        self.logger.info('Training, validation and testing compute in '
                         + str(dtype or torch.float32).removeprefix('torch.'))

    def train(self):
        """Trains, and ends the loading processes; returns the model."""
        try:
            return super().train()
        finally:
            self._end_loading()

    def test(self) -> dict:
        """Tests, and ends the loading processes; returns the metrics."""
        try:
            return super().test()
        finally:
            self._end_loading()

    def _end_loading(self) -> None:
        """Ends persistent loading processes now.

        The garbage collector would close the queues to them before it collects the
        iterator, and torch would then wait 5 seconds for each process.
        """
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            loader = getattr(loop, 'dataloader', None)
            if getattr(loader, '_iterator', None) is not None:
                loader._iterator._shutdown_workers()
                loader._iterator = None

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module
                   ) -> torch.nn.Module:
        """Stores the weights of convolutions channels-last, which makes them faster, and
        wraps the model, whose gradients are then reduced in that layout."""
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in model.parameters():
            if parameter.dim() in formats:  # module.to() takes one format for all
                parameter.data = parameter.data.to(
                    memory_format=formats[parameter.dim()])
        return super().wrap_model(model_wrapper_cfg, model)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_is_for_console)
                handler.setFormatter(_ConsoleFormatter())
        return logger

    def set_randomness(self, seed, diff_rank_seed=False, deterministic=False) -> None:
        """Sets the seed of all generators, and deterministic operations on request."""
        if deterministic:  # cuBLAS reads it when it starts, with the first product
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)
        # mmengine's call ends a training at an operation without a deterministic form.
        torch.use_deterministic_algorithms(deterministic, warn_only=True)

    def resume(self, filename: str, **kwargs) -> None:
        """Resumes a training, maybe with more epochs.

        Raises:
            HRI30Error: the checkpoint is not of a training, or of one with another model,
                other classes or other settings.
        """
        initial, keeps_rates = read_settings(self), needs_validations(self)
        with explain_misfit(filename):
            super().resume(filename, **kwargs, resume_param_scheduler=keeps_rates)
            if not keeps_rates:
                advance_schedules(self, initial)
            # Drawn from the seed of the checkpoint, also if the config has another or none.
            self.train_dataloader.batch_sampler.sampler.seed = self.seed

    def load_checkpoint(self, filename, map_location='cpu', strict=False,
                        revise_keys=((r'^module.', ''),)):
        """Loads weights after comparing them with the model; arguments are mmengine's.

        Raises:
            HRI30Error: the checkpoint has another model, other classes or another form.
        """
        checkpoint = _load_checkpoint(filename, map_location, self.logger)
        if self._resume:
            check_resumable(checkpoint, filename, self.cfg)
        model = unwrap(self.model)
        fine_tuning = self._train_dataloader is not None and not self._resume
        if fine_tuning and isinstance(model.backbone, FrozenEncoder):
            checkpoint = model.backbone.adopt(checkpoint, filename)
        with explain_misfit(filename):
            message = fit_weights(checkpoint, model, str(filename),
                                  new_head_allowed=fine_tuning,
                                  classes=self.cfg.get('classes'))
            # With the new head: averaged weights start from the same.
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            checkpoint = _load_checkpoint_to_model(
                model, checkpoint, strict, revise_keys=list(revise_keys))
        self._has_loaded = True
        self.logger.info(message)
        return checkpoint


def _is_head(name: str) -> bool:
    return name.split('.')[0] == 'cls_head'


def _check_normalisation(checkpoint: dict, model, filename: str) -> None:
    """Refuses a checkpoint of this project whose record has another mean or deviation."""
    record = (checkpoint.get('meta') or {}).get(META_KEY) or {}
    for name in ('mean', 'std'):
        trained = record.get(name)
        values = getattr(getattr(model, 'data_preprocessor', None), name, None)
        if trained and values is not None and not np.allclose(
                trained, values.flatten().cpu()):
            raise HRI30Error(
                f'{filename}: was trained on frames of {name} {trained}, and the config '
                f'has {values.flatten().tolist()}.\nSet start to the entry of starts that '
                'it was trained from; load_from can stay.')


def fit_weights(checkpoint: dict, model, filename: str, new_head_allowed: bool,
                classes=None) -> str:
    """Compares a checkpoint with a model, and makes a new head loadable.

    Args:
        checkpoint (dict): With ``state_dict``, or a state dict itself. Weights of a head
            that does not fit are replaced by the model's own.
        model (torch.nn.Module): The model to load into.
        filename (str): For messages.
        new_head_allowed (bool): Whether the head may be missing or have another size, as
            in fine-tuning. It gets the rows of classes that both name.
        classes (Sequence[str], optional): Those of the model.

    Returns:
        str: One line that says what is loaded.

    Raises:
        HRI30Error: the backbone or, unless it may be new, the head does not fit, or the
            checkpoint was trained on frames that were normalised in another way.
    """
    if not isinstance(checkpoint, dict):
        raise HRI30Error(f'{filename}: holds a {type(checkpoint).__name__}, expected a '
                         'checkpoint with a state_dict.')
    _check_normalisation(checkpoint, model, filename)
    weights = checkpoint.get('state_dict', checkpoint)
    stored = {name.removeprefix('module.'): name for name in weights}
    own = model.state_dict()
    trained_on = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    trained_on, classes = list(trained_on.get('classes') or []), list(classes or [])
    others = classes and trained_on and trained_on != classes
    shared = [name for name in classes if name in trained_on]
    if others and new_head_allowed:
        for name in filter(_is_head, own.keys() & stored.keys()):
            old, new = weights[stored[name]], own[name].clone()
            if not shared:
                del weights[stored.pop(name)]
            elif new.shape[:1] == (len(classes), ) and getattr(old, 'shape', None) == (
                    len(trained_on), *new.shape[1:]):
                new[[*map(classes.index, shared)]] = old[
                    [*map(trained_on.index, shared)]].to(new)
                weights[stored[name]] = new
    # Buffers that a model computes (position embeddings, window indices) may be missing;
    # BatchNorm's statistics may not.
    optional = {name for name, _ in model.named_buffers() if name not in stored
                and not name.endswith(('running_mean', 'running_var'))}
    shapes = {name: getattr(weights[key], 'shape', None) for name, key in stored.items()}
    unfit = [name for name, tensor in own.items()
             if name not in optional and shapes.get(name) != tensor.shape]
    surplus = [name for name in stored if name not in own]
    wrong = [name for name in (*unfit, *(f'{name} (surplus)' for name in surplus))
             if not (new_head_allowed and _is_head(name))]
    if wrong:
        raise HRI30Error(
            f'{filename}: is of another model: {len(wrong)} weights do not fit '
            f'{type(model).__name__} with {type(model.backbone).__name__}:\n'
            f'{first_cases(wrong)}\nExpected a checkpoint of this config; use the config '
            'that it was trained with.')
    if others and not new_head_allowed:
        differing = [f'id {i}: {a} in the checkpoint, {b} in the config' for i, (a, b)
                     in enumerate(zip(trained_on, classes, strict=True), 1) if a != b]
        raise HRI30Error(
            f'{filename}: was trained on other classes:\n{first_cases(differing)}\n'
            'Expected the same names in the same order; set classes to them.')
    new = [name for name in unfit if _is_head(name)]
    weights.update({name: own[name] for name in new})
    for name in surplus:
        del weights[stored[name]]
    backbone = sum(not _is_head(name) for name in own)
    head = ', '.join(f'{name} {tuple(own[name].shape)}' for name in new)
    return (f'Loaded {filename}: {backbone} backbone tensors, '
            + (f'head new: {head}' if new else 'and the head'
               + (f', {len(shared)} of its {len(classes)} classes by name, the others new'
                  if others else '')))
