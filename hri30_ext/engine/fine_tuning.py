"""What of a model is trained, when, and at which learning rate."""

from collections.abc import Iterable, Sequence

import torch
from mmaction.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import HRI30Error


def _covers(part: str, name: str) -> bool:
    """Whether a parameter belongs to a part: by whole components of its name."""
    return name == part or name.startswith(f'{part}.')


def _check_parts(parts: Iterable[str], names: Sequence[str], setting: str) -> None:
    for part in parts:
        if not any(_covers(part, name) for name in names):
            depth = part.count('.') + 1
            known = sorted({'.'.join(name.split('.')[:depth]) for name in names})
            raise HRI30Error(f'{setting}: {part!r} names no parameter of the model.\n'
                             f'Expected one of: {", ".join(known)}.')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartwiseOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds one parameter group for each part of the model.

    mmengine's constructor, which makes a group of every single parameter, with two
    additions: ``part_lr_mult`` in ``paramwise_cfg``, and parameters of one part with
    the same learning rate and weight decay share a group, so that a log can say the
    rate of each.

    ``paramwise_cfg`` takes all that mmengine's does, and

    - ``part_lr_mult`` (dict, optional): factors of the learning rate by the beginning
      of parameter names, such as ``{'backbone': 0.1}``; the longest that fits wins.

    Each group has a ``name``: the part (the key of ``part_lr_mult``, otherwise the
    first component of the parameters' names), with ``no_decay`` where it has no weight
    decay and others have, and a number where it is not alone.

    Raises:
        HRI30Error: a part that names no parameter.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.part_lr_mult = dict(paramwise_cfg.pop('part_lr_mult', None) or {})
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        # Never empty: mmengine then skips add_params.
        self.paramwise_cfg = {'custom_keys': {}, **self.paramwise_cfg}

    def add_params(self, params, module, prefix='', is_dcn_module=None) -> None:
        """Adds the groups of ``module``; arguments are mmengine's."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        single: list[dict] = []
        super().add_params(single, module, prefix, is_dcn_module)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        _check_parts(self.part_lr_mult, list(names.values()), 'part_lr_mult')
        groups: dict[tuple, dict] = {}
        for group in single:
            part, factor = self._part(names[id(group['params'][0])])
            group = {'lr': self.base_lr, 'weight_decay': self.base_wd, **group}
            group['lr'] *= factor
            extra = sorted((key, value) for key, value in group.items() if key != 'params')
            merged = groups.setdefault((part, str(extra)), {**group, 'params': []})
            merged['params'] += group['params']
        for (part, _), group in groups.items():
            group['name'] = part if group['weight_decay'] or not self.base_wd else (
                f'{part}.no_decay')
        _number_repeated(groups.values())
        params.extend(groups.values())

    def _part(self, name: str) -> tuple[str, float]:
        fitting = [part for part in self.part_lr_mult if _covers(part, name)]
        if not fitting:
            return name.split('.')[0], 1.0
        part = max(fitting, key=len)
        return part, self.part_lr_mult[part]


def _number_repeated(groups: Iterable[dict]) -> None:
    groups = list(groups)
    names = [group['name'] for group in groups]
    for i, group in enumerate(groups):
        if names.count(names[i]) > 1:
            group['name'] += f'.{names[:i + 1].count(names[i])}'


@HOOKS.register_module()
class UnfreezeHook(Hook):
    """Trains parts of a model from given epochs on; until then they are frozen.

    A frozen part gets no gradients, and its modules are in evaluation mode: BatchNorm
    keeps its running statistics, dropout is off. What is frozen follows from the number
    of the epoch alone, so a resumed run needs nothing replayed. The optimizer holds all
    parameters from the start; those without gradients are skipped, weight decay
    included.

    Args:
        schedule (list[dict]): ``dict(begin=E, parts=[...])``: from epoch ``E`` on, 0 being
            the first, the parameters whose names begin with one of ``parts`` are trained
            too. A part's name ends at a dot: ``backbone.layer1`` is not
            ``backbone.layer10``.

    Raises:
        HRI30Error: a schedule of another form, nothing to train in the first epoch, or a
            part that names no parameter.

    Example:
        >>> hook = dict(type='UnfreezeHook', schedule=[
        ...     dict(begin=0, parts=['cls_head']),
        ...     dict(begin=10, parts=['backbone.layer4']),
        ...     dict(begin=20, parts=['backbone'])])
    """

    def __init__(self, schedule: Sequence[dict]) -> None:
        for step in schedule:
            if set(step) != {'begin', 'parts'} or not isinstance(step['begin'], int) or (
                    isinstance(step['parts'], str)):
                raise HRI30Error(f'UnfreezeHook: schedule has {dict(step)}, expected '
                                 'dict(begin=EPOCH, parts=[NAME, ...]).')
        self.schedule = sorted(schedule, key=lambda step: step['begin'])
        if not self.schedule or self.schedule[0]['begin'] > 0:
            raise HRI30Error('UnfreezeHook: nothing is trained in the first epoch; '
                             'expected a step with begin=0 in schedule.')
        self._trained: list[str] | None = None
        self._epoch = -1

    def trained_parts(self, epoch: int) -> list[str]:
        """Returns the parts that are trained in an epoch, 0 being the first."""
        return [part for step in self.schedule if step['begin'] <= epoch
                for part in step['parts']]

    def before_train(self, runner) -> None:
        """Checks the names before the first epoch."""
        names = [name for name, _ in unwrap(runner.model).named_parameters()]
        _check_parts((part for step in self.schedule for part in step['parts']), names,
                     'UnfreezeHook')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Freezes and unfreezes, at the first batch of an epoch, or of what is left of it.

        Not before the epoch: the training loop then calls ``model.train()``, which
        would undo it.
        """
        if batch_idx > 0 and self._epoch == runner.epoch:
            return
        self._epoch = runner.epoch
        model = unwrap(runner.model)
        parts = self.trained_parts(runner.epoch)
        freeze_all_but(model, parts)
        if parts != self._trained:
            self._trained = parts
            runner.logger.info(f'Epoch {runner.epoch + 1}: {describe_trained(model)}')


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keeps the statistics of every BatchNorm as they were loaded.

    Its factors and offsets still learn. A clip's scores in training then depend on no
    other clip of the batch: batches may be small, and any number of processes compute the
    same. For weights that were trained before: without statistics to keep, a network does
    not learn like this.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Sets them to evaluate: the training loop sets all to train before an epoch."""
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm) and module.training:
                module.eval()


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the model itself, where several processes have it wrapped."""
    return model.module if is_model_wrapper(model) else model


def freeze_all_but(model: torch.nn.Module, parts: Sequence[str]) -> None:
    """Lets only parameters of ``parts`` learn; modules without any are in eval mode."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(_covers(part, name) for part in parts)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def describe_trained(model: torch.nn.Module) -> str:
    """Says which parts learn and how many parameters they have.

    Returns:
        str: Such as ``trains cls_head (61,470 of 31,696,030 parameters); frozen:
        backbone``.
    """
    learns: dict[str, set] = {}
    count = total = 0
    for name, parameter in model.named_parameters():
        # Two components tell the stages of a backbone apart.
        for depth in (1, 2):
            learns.setdefault('.'.join(name.split('.')[:depth]), set()).add(
                parameter.requires_grad)
        total += parameter.numel()
        count += parameter.numel() * parameter.requires_grad

    def parts(wanted):
        # A part that is of one kind stands for all within it.
        whole = [part for part, kinds in learns.items() if kinds == {wanted}]
        return [part for part in whole if part.split('.')[0] == part
                or part.split('.')[0] not in whole]

    frozen = ', '.join(parts(False))
    return (f'trains {", ".join(parts(True))} ({count:,} of {total:,} parameters)'
            + (f'; frozen, BatchNorm included: {frozen}' if frozen else ''))
