"""Learning rates of a training that resumes, maybe with other settings.

torch's optimizers and mmengine's schedules load their settings from the checkpoint, the
length of the training included, and would ignore those of the config. Here, only what the
optimizer learned is loaded, and the schedules run again up to the position.
"""

import warnings


def advance_schedules(schedulers, by_epoch: bool) -> None:
    """Advances those of mmengine's schedules that count epochs, or batches."""
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def read_settings(runner) -> list[dict]:
    """Returns the settings of each parameter group, with its current learning rate."""
    return [{name: value for name, value in group.items() if name != 'params'}
            for group in runner.optim_wrapper.param_groups]


def can_replay(runner) -> bool:
    """Whether no schedule follows the validation; such a one cannot run again."""
    return not any(getattr(one, 'need_val_args', False)
                   for one in runner.param_schedulers or ())


def adapt(runner, initial: list[dict]) -> None:
    """Moves a resumed training to where a complete one with its settings would be.

    If these are the settings of the checkpoint's training, it resumes bit for bit.

    Args:
        runner (HRI30Runner): Resumed, except for its schedules.
        initial (list[dict]): What :func:`read_settings` returned before.
    """
    loop = runner.train_loop
    # From the checkpoint; LearningRatesHook replaces them when the training starts.
    info = runner.message_hub.runtime_info
    had = info.get('max_epochs'), info.get('max_iters')
    before = had, loop.iter, read_settings(runner)
    loop._iter = loop.epoch * len(loop.dataloader) + loop.seen_batches
    rates = 'its learning rates follow the validation, and stay as they are'
    if can_replay(runner):
        groups = runner.optim_wrapper.param_groups
        for group, settings in zip(groups, initial, strict=True):
            group.update(settings)
        _replay(loop, runner.param_schedulers or ())
        rates = ('its learning rates are those of a complete training with these settings, '
                 f'{max(group["lr"] for group in groups):.3g} the largest')
    has = loop.max_epochs, loop.max_iters
    if before != (has, loop.iter, read_settings(runner)):
        runner.logger.info(
            ('The checkpoint has other settings of optimizer and schedule' if had == has
             else f'The training had {had[0]} epochs and {had[1]} batches, and now has '
             f'{has[0]} and {has[1]}') + f'. It resumes after batch {loop.iter}; {rates}')


def _replay(loop, schedulers) -> None:
    with warnings.catch_warnings():
        # That the optimizer has not stepped before its schedules.
        warnings.simplefilter('ignore', UserWarning)
        for epoch in range(loop.epoch + 1):
            is_over = epoch < loop.epoch
            for _ in range(len(loop.dataloader) if is_over else loop.seen_batches):
                # In the order of a training, so that rates are rounded alike.
                advance_schedules(schedulers, by_epoch=False)
            if is_over:
                advance_schedules(schedulers, by_epoch=True)
