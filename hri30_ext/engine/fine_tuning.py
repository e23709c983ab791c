"""Which parts of a model learn, when, and at which learning rate."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from mmaction.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.hooks import Hook
from mmengine.optim import DefaultOptimWrapperConstructor
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import HRI30Error
from ..hardware import unwrap

#: Class tokens and position tables, which have several dimensions.
_NO_DECAY = re.compile(r'(cls|class)_?(token|embedding)|pos_?embed|rel_pos|'
                       r'(^|[._])(position|positional|temporal)_(embed|bias)')

#: What a transformer has before its blocks, a block, and what ends a stage of Swin.
_STEM = re.compile(r'backbone\.((cls|mask)_token|class_embedding|pos_embed|'
                   r'positional_embedding|patch_embed|conv1|ln_pre)')
_BLOCK = re.compile(r'backbone\.(\w+\.)*(res)?blocks\.\d+(?=\.)')
_DOWNSAMPLE = re.compile(r'(backbone\.layers\.\d+)\.downsample\.')


def _covers(part: str, name: str) -> bool:
    """Whether a parameter or part belongs to a part, by whole components of its name."""
    return f'{name}.'.startswith(f'{part}.')


def _check_parts(parts: Iterable[str], names: Sequence[str], setting: str) -> None:
    for part in parts:
        if not any(_covers(part, name) for name in names):
            depth = part.count('.') + 1
            known = sorted({'.'.join(name.split('.')[:depth]) for name in names})
            raise HRI30Error(f'{setting}: {part!r} names no parameter of the model.\n'
                             f'Expected one of: {", ".join(known)}.')


def find_layers(names: Sequence[str]) -> dict[str, int]:
    """Numbers the layers of a transformer, as fine-tuning recipes of ViTs do.

    >>> find_layers(['backbone.cls_token', 'backbone.blocks.0.norm1.bias',
    ...              'backbone.blocks.1.norm1.bias', 'backbone.norm.bias'])
    {'backbone.cls_token': 0, 'backbone.blocks.0.norm1.bias': 1, \
'backbone.blocks.1.norm1.bias': 2, 'backbone.norm.bias': 3}

    Args:
        names (Sequence[str]): Of the parameters of a recognizer, in the model's order.

    Returns:
        dict[str, int]: 0 for patch embedding, class token and position tables, i for block
        i of all stages, from 1, and one more than the blocks for all else, the head
        included. Swin's downsampling belongs to the block before it.

    Raises:
        HRI30Error: the backbone has no blocks.
    """
    blocks = list(dict.fromkeys(
        match[0] for name in names if (match := _BLOCK.match(name))))
    if not blocks:
        raise HRI30Error('layer_decay: the backbone has no blocks of a transformer.\n'
                         'Expected layer_decay=None.')
    layers = {}
    for name in names:
        block, ends_stage = _BLOCK.match(name), _DOWNSAMPLE.match(name)
        if block:
            layers[name] = blocks.index(block[0]) + 1
        elif ends_stage:
            layers[name] = max(i for i, block in enumerate(blocks, 1)
                               if _covers(ends_stage[1], block))
        else:
            layers[name] = 0 if _STEM.match(name) else len(blocks) + 1
    return layers


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartwiseOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds one parameter group for each part of the model, so that logs show its rate.

    ``paramwise_cfg`` takes everything that mmengine's does, and ``part_lr_mult``: factors
    of the learning rate by the start of parameter names, such as ``{'backbone': 0.1}``; the
    longest match wins. With ``layer_decay``, in (0, 1], each layer of a transformer, as
    :func:`find_layers` numbers them, has that fraction of the rate of the next one, on top
    of the factor of its part; the head and what follows the last block have the whole rate.
    AdamW decays no norms, biases, class tokens and position tables, as
    in the recipes of MViT, Video Swin and VideoMAE.

    Each group has a ``name``: the part (a key of ``part_lr_mult``, otherwise the first
    component of the parameters' names), with ``.layerN`` where ``layer_decay`` lowers the
    rate, with ``.no_decay`` if it has no weight decay and
    others have, and a number if there is a group of that name already.

    Raises:
        HRI30Error: a part names no parameter, or there are no layers to decay.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.part_lr_mult = dict(paramwise_cfg.pop('part_lr_mult', None) or {})
        self.layer_decay = paramwise_cfg.pop('layer_decay', None)
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        # mmengine skips add_params if it is empty.
        self.paramwise_cfg = {'custom_keys': {}, **self.paramwise_cfg}

    def add_params(self, params, module, prefix='', is_dcn_module=None) -> None:
        if prefix:
            # mmengine warns of each parameter that was frozen when the model was built.
            if not any(parameter.requires_grad for parameter in module.parameters()):
                return
            super().add_params(params, module, prefix, is_dcn_module)
            return
        single: list[dict] = []
        super().add_params(single, module, prefix, is_dcn_module)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        _check_parts(self.part_lr_mult, list(names.values()), 'part_lr_mult')
        layers = find_layers(list(names.values())) if self.layer_decay else {}
        last = max(layers.values(), default=0)
        groups: dict[tuple, dict] = {}
        for group in single:
            name = names[id(group['params'][0])]
            part = max((part for part in self.part_lr_mult if _covers(part, name)),
                       key=len, default=name.split('.')[0])
            group = {'lr': self.base_lr, 'weight_decay': self.base_wd, **group}
            if self.optimizer_cfg['type'] == 'AdamW' and (
                    group['params'][0].ndim <= 1 or _NO_DECAY.search(name)):
                group['weight_decay'] = 0.
            group['lr'] *= self.part_lr_mult.get(part, 1.)
            if layers.get(name, last) < last:
                group['lr'] *= self.layer_decay ** (last - layers[name])
                part = f'{part}.layer{layers[name]}'
            extra = sorted((key, value) for key, value in group.items() if key != 'params')
            merged = groups.setdefault((part, str(extra)), {**group, 'params': []})
            merged['params'] += group['params']
        counts: Counter[str] = Counter()
        for (part, _), group in groups.items():
            name = part if group['weight_decay'] or not self.base_wd else f'{part}.no_decay'
            counts[name] += 1
            group['name'] = name if counts[name] == 1 else f'{name}.{counts[name]}'
        params.extend(groups.values())


@HOOKS.register_module()
class UnfreezeHook(Hook):
    """Trains parts of a model from given epochs on, and freezes them before.

    A frozen part gets no gradients, and its modules are in evaluation mode: BatchNorm
    keeps its running statistics, dropout is off. The epoch alone decides what is frozen, so
    that a resumed run needs no replay. The optimizer holds all parameters from the start
    and skips those without gradients, weight decay included.

    Args:
        schedule (list[dict]): Such as ``[dict(begin=0, parts=['cls_head']),
            dict(begin=10, parts=['backbone.layer4'])]``: from epoch ``begin`` on (the first
            is 0), parameters whose names start with one of ``parts``, by whole components,
            learn too.

    Raises:
        HRI30Error: a schedule of another form, no part to train in the first epoch, or a
            part that names no parameter.
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

    def trained_parts(self, epoch: int) -> list[str]:
        """Returns the parts that learn in an epoch, counted from 0."""
        return [part for step in self.schedule if step['begin'] <= epoch
                for part in step['parts']]

    def before_train(self, runner) -> None:
        names = [name for name, _ in unwrap(runner.model).named_parameters()]
        _check_parts((part for step in self.schedule for part in step['parts']), names,
                     'UnfreezeHook')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Freezes and unfreezes at the first batch: the training loop sets all to train."""
        if batch_idx:
            return
        model, parts = unwrap(runner.model), self.trained_parts(runner.epoch)
        freeze_all_but(model, parts)
        if parts != self._trained:
            self._trained = parts
            learning = sum(one.numel() for one in model.parameters() if one.requires_grad)
            runner.logger.info(f'Epoch {runner.epoch + 1}: trains {", ".join(parts)} '
                               f'({learning:,} parameters); all else is frozen')


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keeps the loaded statistics of every BatchNorm; its factors and offsets learn.

    The scores of a clip in training are then independent of the other clips in the batch:
    batches can be small, and any number of processes computes the same.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        # Each time: the training loop sets all modules to training mode.
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm) and module.training:
                module.eval()


def freeze_all_but(model: torch.nn.Module, parts: Sequence[str]) -> None:
    """Lets only parameters of ``parts`` learn; other modules are in evaluation mode."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(_covers(part, name) for part in parts)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
