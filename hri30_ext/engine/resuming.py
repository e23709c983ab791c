"""What a resumed training must share with the one that was stopped, and its rates."""

import contextlib
import json
import warnings
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..errors import HRI30Error, first_cases
from ..utils.text import printable

#: The entry of a checkpoint with what resuming needs beside mmengine's.
TRAINING = 'training'
#: Settings that must not change; what tables give for them is compared as well.
_FIXED = ('lr', 'base_batch_size', 'scale_lr', 'optimizer', 'momentum', 'weight_decay',
          'betas', 'clip_grad', 'batch_size', 'accumulate', 'warmup_epochs', 'decay',
          'strategy', 'layer_decay')


def fixed_settings(cfg: Config) -> dict:
    """Returns the settings that must stay as they are when a training resumes.

    Args:
        cfg (Config): Resolved.

    Returns:
        dict: Plain data by name, and the number of processes.
    """
    schedule = [{name: value for name, value in step.items() if name != 'end'}
                for step in cfg.get('param_scheduler') or ()]  # it ends with max_epochs
    settings = dict(
        {name: cfg.get(name) for name in _FIXED}, processes=get_world_size(),
        strategies=cfg.get('strategies', {}).get(cfg.get('strategy')),
        optimizers=cfg.optim_wrapper.optimizer, param_scheduler=schedule)
    return json.loads(json.dumps(settings, default=str))


def check_resumable(checkpoint: dict, filename: str, cfg: Config) -> None:
    """Refuses a checkpoint that this training cannot resume from.

    Raises:
        HRI30Error: it is not one of a training, or of one with other settings.
    """
    meta, training = checkpoint.get('meta'), checkpoint.get(TRAINING)
    counts = [meta.get('epoch'), meta.get('iter')] if isinstance(meta, dict) else [None]
    if any(type(count) is not int or count < 0 for count in counts) or not all(
            isinstance(checkpoint.get(part), dict)
            for part in ('message_hub', 'optimizer', TRAINING)):
        raise HRI30Error(f'{filename}: cannot be resumed from.\nExpected epoch_N.pth of a '
                         'training; to start from its weights, set load_from.')
    saved, now = training.get('settings') or {}, fixed_settings(cfg)
    changed = [f'{name}: {str(saved.get(name))[:100]} there, {str(value)[:100]} now'
               for name, value in now.items() if saved.get(name) != value]
    if changed:
        cases = printable(first_cases(changed), keep='\n')
        raise HRI30Error(
            f'{filename}: was trained with other settings:\n'
            f'{cases}\nResume with the same ones; or start from '
            f'its weights, with load_from={filename} and another --work-dir.')


@contextlib.contextmanager
def explain_misfit(filename: str) -> Iterator[None]:
    """Raises an HRI30Error with the checkpoint's name where a part of it has another form.

    A checkpoint has many parts, and its author may have stored anything in them.
    """
    try:
        yield
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError,
            ValueError) as error:
        text = printable(' '.join(str(error).split()))[:200]
        raise HRI30Error(
            f'{filename}: a part of it does not fit this config '
            f'({type(error).__name__}: {text}).\nExpected a checkpoint of a training with '
            'the same model and optimizer; use another.') from error


def read_settings(runner) -> list[dict]:
    """Returns the settings of each parameter group, with its current learning rate."""
    return [{name: value for name, value in group.items() if name != 'params'}
            for group in runner.optim_wrapper.param_groups]


def needs_validations(runner) -> bool:
    """Whether a schedule follows the validation; such a one cannot run again."""
    return any(getattr(one, 'need_val_args', False)
               for one in runner.param_schedulers or ())


def advance_schedules(runner, initial: list[dict]) -> None:
    """Gives a resumed training the learning rates of one that was not stopped.

    torch's optimizers and mmengine's schedules load their settings from the checkpoint, the
    length of the training included. Here the schedules of the config run again.

    Args:
        runner (HRI30Runner): Resumed, except for its schedules.
        initial (list[dict]): What :func:`read_settings` returned before.
    """
    for group, settings in zip(runner.optim_wrapper.param_groups, initial, strict=True):
        group.update(settings)
    batches = len(runner.train_dataloader)
    with warnings.catch_warnings():
        # That the optimizer has not stepped before its schedules.
        warnings.simplefilter('ignore', UserWarning)
        # In the order of a training, so that rates are rounded alike.
        for step in range(min(runner.epoch, runner.max_epochs) * (batches + 1)):
            ends_epoch = step % (batches + 1) == batches
            for scheduler in runner.param_schedulers or ():
                if scheduler.by_epoch == ends_epoch:
                    scheduler.step()
