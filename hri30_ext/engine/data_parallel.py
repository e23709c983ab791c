"""Data-parallel training whose gradients and logged values are means over all clips.

N processes with b clips each take the same step as one process with N * b clips, up to
rounding, if the output for a clip does not depend on other clips: not with a BatchNorm that
computes its statistics from the batch, unless it is synchronized.
"""

import warnings
from collections.abc import Sequence

import torch
import torch.distributed as dist
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dist import get_dist_info, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import HOOKS, MODEL_WRAPPERS

from ..errors import HRI30Error
from .distributed import control_group
from .hooks import to_channels_last


@MODEL_WRAPPERS.register_module()
class GlobalMeanDataParallel(MMDistributedDataParallel):
    """DistributedDataParallel whose losses are means over the clips of all processes.

    mmengine's averages the means of the processes. That differs if their batches differ in
    length (the last of an epoch) or in the weights of their classes, and mmengine logs the
    values of rank 0 alone.

    Args:
        module (torch.nn.Module): A recognizer.
        device_ids (list[int], optional): The GPU.
        channels_last (bool): Whether to store weights in channels-last layout. Gradients
            are reduced in the layout that weights have here.
        **kwargs: Of :class:`torch.nn.parallel.DistributedDataParallel`.

    Attributes:
        repeats (bool): Whether the last clip of the next batch is a repeated one and must
            not count. :class:`RepeatedClipHook` sets it; the step resets it.
    """

    def __init__(self, module: torch.nn.Module, device_ids: Sequence[int] | None = None,
                 channels_last: bool = False, **kwargs) -> None:
        if next(module.parameters()).device.type == 'cpu':
            device_ids = None  # mmengine passes it, and torch would refuse it
        if channels_last:
            to_channels_last(module)
        with warnings.catch_warnings():
            # torch 2.13 renames broadcast_buffers; older versions lack the new name.
            warnings.simplefilter('ignore', FutureWarning)
            super().__init__(module, device_ids=device_ids, **kwargs)
        self.repeats = False

    def train_step(self, data: dict, optim_wrapper) -> dict[str, torch.Tensor]:
        """Takes one step on the clips of all processes.

        Returns:
            dict[str, torch.Tensor]: Scalars to log, equal on all ranks.
        """
        samples = data['data_samples']
        counted = samples[:-1] if self.repeats else samples
        if self.repeats and counted:
            data = _without_last(data)
        self.repeats = False
        own = torch.tensor([loss_weight(self.module.cls_head, counted), len(counted)],
                           dtype=torch.float64)
        total = own.clone()
        # Runs while the model computes.
        reduction = dist.all_reduce(total, group=control_group(), async_op=True)
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            losses = self._run_forward(data, mode='loss')
        reduction.wait()
        # Exactly 1 if all processes have the same weight.
        loss_factor, other_factor = (own * get_world_size() / total).tolist()
        losses = {name: value * (loss_factor if 'loss' in name else other_factor)
                  for name, value in losses.items()}
        loss, logged = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)  # gradients are averaged over the processes
        # All values in one message.
        means = torch.stack([value.detach().double() for value in logged.values()])
        dist.all_reduce(means)
        means /= get_world_size()
        return {name: mean.to(value.dtype)
                for (name, value), mean in zip(logged.items(), means, strict=True)}


def loss_weight(head: torch.nn.Module, samples: Sequence[ActionDataSample]) -> float:
    """Returns what the loss divides by: clips, or the weights of their classes."""
    weights_K = getattr(head.loss_cls, 'class_weight', None)
    if weights_K is None or not samples:
        return float(len(samples))
    weights_K = weights_K.double().cpu()
    labels_N = torch.cat([sample.gt_label for sample in samples]).cpu()
    smoothing = head.label_smooth_eps
    return float((1 - smoothing) * weights_K[labels_N].sum()
                 + smoothing * weights_K.mean() * len(labels_N))


def _without_last(data: dict) -> dict:
    """Removes the last clip from a list of inputs, or from the rows of cached features."""
    count, inputs = len(data['data_samples']), data['inputs']
    if isinstance(inputs, tuple):
        inputs = tuple(rows[:-(len(rows) // count)] for rows in inputs)
    else:
        inputs = inputs[:-1]
    return dict(data, inputs=inputs, data_samples=data['data_samples'][:-1])


@HOOKS.register_module()
class RepeatedClipHook(Hook):
    """Marks batches whose last clip is a repeated one.

    Samplers give every process the same number of clips. If the clips of an epoch cannot be
    divided, some processes end with a clip that another process has too.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        loader = runner.train_loop.dataloader
        clips = loader.batch_sampler.sampler
        last = (len(clips) - 1) // loader.batch_sampler.batch_size
        if batch_idx == last and getattr(clips, 'round_up', False):
            runner.model.repeats = ends_with_repeated(
                len(clips.dataset), *get_dist_info())


def ends_with_repeated(clips: int, rank: int, processes: int) -> bool:
    """Returns whether the clips of a rank in an epoch end with a repeated one.

    Rank r gets the clips r, r + processes, ... of an epoch's order.
    """
    return 0 < clips % processes <= rank


def use_processes(cfg: Config) -> None:
    """Adds the model wrapper and the hook of data-parallel training to a resolved config.

    Changes nothing unless :func:`hri30_ext.engine.distributed.start` joined processes.

    Raises:
        HRI30Error: ``sync_bn`` without CUDA.
    """
    if not dist.is_initialized():
        return
    if cfg.get('sync_bn') and not torch.cuda.is_available():
        raise HRI30Error(
            f'sync_bn={cfg.sync_bn}: BatchNorm over several processes needs CUDA.\nSet '
            "sync_bn=None. batch_norm='frozen' is equal in any number of processes.")
    hooks = cfg.get('custom_hooks', [])
    types = {hook['type'] for hook in hooks}
    cfg.model_wrapper_cfg = dict(
        type='GlobalMeanDataParallel', broadcast_buffers=False,
        channels_last='ChannelsLastHook' in types,
        # DDP must expect frozen parameters, which have no gradients.
        find_unused_parameters='UnfreezeHook' in types
        or cfg.get('find_unused_parameters', False))
    cfg.custom_hooks = [*hooks, dict(type='RepeatedClipHook')]


def scale_learning_rate(cfg: Config) -> str | None:
    """Scales ``lr`` from ``base_batch_size`` to the clips of a step if ``scale_lr`` is set.

    Args:
        cfg (Config): Resolved; the optimizer's ``lr`` is changed.

    Returns:
        str | None: A line for the log; None if ``scale_lr`` is not set, with one process
        or a step of just ``base_batch_size`` clips.
    """
    processes, optimizer = get_world_size(), cfg.optim_wrapper.optimizer
    batch, accumulate = cfg.train_dataloader.batch_size, cfg.get('accumulate', 1)
    clips, base = processes * batch * accumulate, cfg.get('base_batch_size', 16)
    lr, factor = optimizer.lr, lr_factor(clips / base, optimizer.type)
    step = (f'a step has {clips} clips ({processes} processes x {batch} x accumulate '
            f'{accumulate}), and lr is for {base}')
    if cfg.get('scale_lr'):
        optimizer.lr = lr * factor
        return f'Learning rate {lr:g} x {factor:g} = {optimizer.lr:g}: {step}'
    if processes > 1 and clips != base:
        return f'Learning rate {lr:g}: {step}. scale_lr=True would make it {lr * factor:g}'
    return None


def lr_factor(growth: float, optimizer: str) -> float:
    """Returns the factor of the learning rate for a batch that is ``growth`` times as big.

    SGD's grows in proportion (arXiv 1706.02677), Adam's and AdamW's by the square root
    (arXiv 2205.10287).
    """
    return growth ** (0.5 if 'Adam' in optimizer else 1)


def draw_apart(seed: int) -> None:
    """Seeds each rank but 0 differently, so that for example dropout differs."""
    if get_rank():
        torch.manual_seed(seed + get_rank())
