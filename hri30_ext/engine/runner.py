"""The runner: mmengine's, with loading that is checked and a readable console."""

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_to_model

from ..errors import HRI30Error, first_cases
from ..utils.fileio import disk_full, ran_out_of_disk
from ..utils.text import printable
from .fine_tuning import unwrap
from .loops import ResumableTrainLoop
from .schedules import Horizon

#: Upstream's notes at every start that nobody can act on.
_NOISE = ('The prefix is not set', 'FileClient', 'HardDiskBackend',
          'Distributed training is not used', 'Exp name:',
          # They are not: the training loop restores them, or says so.
          'the gradient of some iterations is lost')


class _ForPeople(logging.Filter):
    """Keeps dumps of many lines and noise off the console; the log file has them."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno <= logging.INFO and message.count('\n') > 12:
            return False
        return not any(noise in message for noise in _NOISE)


def _end_on_full_disk(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """Ends the run where its log cannot be written: its checkpoints could not either.

    Python would print a traceback for each line, and go on.
    """
    error = sys.exc_info()[1]
    if ran_out_of_disk(error):
        raise disk_full(handler.baseFilename) from error
    logging.FileHandler.handleError(handler, record)


class HRI30Runner(Runner):
    """mmengine's runner, which believes no checkpoint unseen.

    - ``load_from`` in training: the backbone must fit, the head may be new; one
      line says what was taken.
    - Resuming and testing: every weight must fit, and so must the classes.
    - ``deterministic`` warns where an operation has no deterministic form.
    - The console shows no environment and config dumps; the log file has them.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Builds the logger, with a console for people."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_ForPeople())
            elif isinstance(handler, logging.FileHandler):
                handler.handleError = functools.partial(_end_on_full_disk, handler)
        return logger

    def set_randomness(self, seed, diff_rank_seed=False, deterministic=False) -> None:
        """Sets the seed of all generators, and deterministic operations if asked.

        mmengine's lets an operation that has no deterministic form end the training;
        on CUDA that is the gradient of MaxPool3d, which SlowOnly has. Here torch warns,
        and names it.
        """
        super().set_randomness(seed, diff_rank_seed, deterministic)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resumes, with the optimizer's state in the layout of the parameters.

        Under settings that give other batches, learning rates are those of a whole training
        of these settings.

        Raises:
            HRI30Error: the checkpoint is of another model, other classes or another
                optimizer, or was not saved by a training.
        """
        horizon = Horizon(self)
        with explain_other_form(filename):
            super().resume(filename, *args, **kwargs)
            _check_optimizer(self.optim_wrapper.optimizer, filename)
            match_layouts(self.optim_wrapper.optimizer)
            horizon.keep()

    def save_checkpoint(self, *args, save_optimizer: bool = True, **kwargs) -> None:
        """Saves, and where it may be resumed from says where the training stands.

        Args are those of :meth:`mmengine.runner.Runner.save_checkpoint`. To be called by
        all processes.
        """
        loop = self.train_loop
        with (loop.describe() if save_optimizer and isinstance(loop, ResumableTrainLoop)
              else contextlib.nullcontext()):
            super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)

    def load_checkpoint(self, filename, map_location='cpu', strict=False,
                        revise_keys=((r'^module.', ''),)):
        """Loads weights after comparing them with the model.

        Args and returns are those of :meth:`mmengine.runner.Runner.load_checkpoint`.

        Raises:
            HRI30Error: the checkpoint is of another model or other classes, or of a form
                that none has.
        """
        checkpoint = _load_checkpoint(filename, map_location=map_location)
        if self._resume:
            _check_resumable(checkpoint, filename, self.logger)
        model = unwrap(self.model)
        fine_tuning = self._train_dataloader is not None and not self._resume
        with explain_other_form(filename):
            message = fit_weights(checkpoint, model, str(filename),
                                  new_head_allowed=fine_tuning,
                                  classes=self.cfg.get('classes'))
            # After the new head is in: averaged weights start from the same ones.
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            checkpoint = _load_checkpoint_to_model(
                model, checkpoint, strict, revise_keys=list(revise_keys))
        self._has_loaded = True
        self.logger.info(message)
        return checkpoint


@contextlib.contextmanager
def explain_other_form(filename: str) -> Iterator[None]:
    """Says that a checkpoint has not the form that it should have.

    What is read of one has many parts, each with a form of its own, and whoever wrote the
    file may have put anything there: what Python says of it is said of the file.

    Args:
        filename (str): The checkpoint that is used within.

    Raises:
        HRI30Error: a part of it was of another type, or absent.
    """
    try:
        yield
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError,
            ValueError) as error:
        text = printable(' '.join(str(error).split()))[:200]
        raise HRI30Error(
            f'{filename}: a part of it is not as a checkpoint of this config has it '
            f'({type(error).__name__}: {text}).\nExpected one that a training with the '
            'same model and optimizer has saved; take another.') from error


def _check_optimizer(optimizer: torch.optim.Optimizer, filename: str) -> None:
    """Refuses the state of another optimizer, of which torch takes what it finds."""
    for group in optimizer.param_groups:
        missing = sorted(optimizer.defaults.keys() - group.keys())
        if missing:
            raise HRI30Error(
                f'{filename}: its optimizer is no {type(optimizer).__name__}: it has no '
                f'{", ".join(missing)}.\nExpected a checkpoint of this optimizer. To '
                'resume, set the one that it was trained with; to begin anew from its '
                f'weights, set load_from={filename}.')


def _check_resumable(checkpoint, filename: str, logger: MMLogger) -> None:
    """Refuses what no training can go on from; see :meth:`HRI30Runner.load_checkpoint`."""
    meta = checkpoint.get('meta')
    counts = [meta.get('epoch'), meta.get('iter')] if isinstance(meta, dict) else [None]
    if any(type(count) is not int or count < 0 for count in counts) or not isinstance(
            checkpoint.get('message_hub'), dict):
        raise HRI30Error(f'{filename}: no training can go on from it: it does not say how '
                         'far it had come.\nExpected a checkpoint of a training; to start '
                         'from its weights, set load_from.')
    if 'optimizer' not in checkpoint:
        logger.warning(f'{filename}: has no state of an optimizer, which begins anew. '
                       'Expected epoch_N.pth or within_epoch.pth; the best has weights '
                       'alone.')


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Stores an optimizer's state in the memory layout of its parameters.

    torch's fused optimizers walk parameter, gradient and state as they lie in memory, and
    do not look whether they lie alike (seen in torch 2.13: wrong weights, and no error). A
    state that was saved under another ``memory_format`` would therefore be misread.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if (torch.is_tensor(value) and value.shape == parameter.shape
                    and value.stride() != parameter.stride()):
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _is_head(name: str) -> bool:
    return name.split('.')[0] == 'cls_head'


def fit_weights(checkpoint: dict, model, filename: str, new_head_allowed: bool,
                classes=None) -> str:
    """Compares a checkpoint with a model, and makes a new head loadable.

    Args:
        checkpoint (dict): With ``state_dict``, or a state dict itself. Where
            the head is new, its weights are replaced by the model's own.
        model (torch.nn.Module): What the weights are for.
        filename (str): For messages.
        new_head_allowed (bool): Whether the head may be missing or of another
            size, as for fine-tuning.
        classes (Sequence[str], optional): Compared with those the checkpoint
            was trained on, where it says them and no new head is allowed.

    Returns:
        str: One line that says what is loaded.

    Raises:
        HRI30Error: backbone or, where it may not be new, head do not fit.
    """
    if not isinstance(checkpoint, dict):
        raise HRI30Error(f'{filename}: holds a {type(checkpoint).__name__}, expected a '
                         'checkpoint with a state_dict.')
    weights = checkpoint.get('state_dict', checkpoint)
    stripped = {name.removeprefix('module.'): name for name in weights}
    own = model.state_dict()
    # What a model computes when it is built (position embeddings of fixed waves, window
    # indices) may be missing; BatchNorm's statistics are learnt and may not.
    computed = {name for name, _ in model.named_buffers()
                if not name.endswith(('running_mean', 'running_var'))}
    unfit = [name for name, tensor in own.items()
             if not (name in computed and name not in stripped) and (
                 name not in stripped
                 or getattr(weights[stripped[name]], 'shape', None) != tensor.shape)]
    surplus = [name for name in stripped if name not in own]
    wrong = [name for name in unfit if not (new_head_allowed and _is_head(name))]
    wrong += [f'{name} (surplus)' for name in surplus
              if not (new_head_allowed and _is_head(name))]
    if wrong:
        raise HRI30Error(
            f'{filename}: is of another model: {len(wrong)} weights do not fit '
            f'{type(model).__name__} with {type(model.backbone).__name__}:\n'
            f'{first_cases(wrong)}\n'
            'Expected the checkpoint of this config; name the config that it was '
            'trained with.')
    trained_on = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    trained_on = list(trained_on.get('classes') or [])
    if not new_head_allowed and classes and trained_on and trained_on != list(classes):
        differing = [f'id {i}: {a} in the checkpoint, {b} in the config' for i, (a, b)
                     in enumerate(zip(trained_on, classes, strict=True), 1) if a != b]
        raise HRI30Error(
            f'{filename}: was trained on other classes:\n{first_cases(differing)}\n'
            'Expected the same names in the same order; set classes to them.')
    new = [name for name in unfit if _is_head(name)]
    for name in new:
        weights[name] = own[name]
    for name in surplus:
        del weights[stripped[name]]
    backbone = sum(not _is_head(name) for name in own)
    head = ', '.join(f'{name} {tuple(own[name].shape)}' for name in new)
    return (f'Loaded {filename}: {backbone} backbone tensors, '
            + (f'head new: {head}' if new else 'and the head'))
