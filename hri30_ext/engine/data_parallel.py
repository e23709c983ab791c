"""One model in many processes: gradients and logged values are those of all clips together.

N processes with b clips each take the very step of one process with N * b clips, but for
rounding, where a clip's output depends on no other clip: not with a BatchNorm that computes
its statistics from the batch, unless it is synchronised.
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
from . import distributed
from .hooks import to_channels_last


@MODEL_WRAPPERS.register_module()
class GlobalMeanDataParallel(MMDistributedDataParallel):
    """DistributedDataParallel whose losses are means over the clips of all processes.

    mmengine's averages the processes' means. That is another number where their batches
    differ in length, as the last of an epoch may, or in the weights of their classes; and
    what it logs, draws and stops by are values of the first process alone.

    Args:
        module (torch.nn.Module): A recognizer.
        device_ids (list[int], optional): The GPU; without meaning on the CPU, where
            mmengine gives it and torch refuses it.
        channels_last (bool): Whether weights are to be stored like that. Gradients are
            gathered in the layout that weights have here.

    The others are those of :class:`torch.nn.parallel.DistributedDataParallel`.

    Attributes:
        repeats (bool): Whether the last clip of the next batch only fills it up, and must
            not count. Set by :class:`RepeatedClipHook`, and taken back by the step.
    """

    def __init__(self, module: torch.nn.Module, device_ids: Sequence[int] | None = None,
                 channels_last: bool = False, **kwargs) -> None:
        if next(module.parameters()).device.type == 'cpu':
            device_ids = None
        if channels_last:
            to_channels_last(module)
        with warnings.catch_warnings():
            # torch 2.13 has a new name for broadcast_buffers, which older ones lack.
            warnings.simplefilter('ignore', FutureWarning)
            super().__init__(module, device_ids=device_ids, **kwargs)
        self.repeats = False

    def train_step(self, data: dict, optim_wrapper) -> dict[str, torch.Tensor]:
        """Takes one step on the clips of all processes.

        Args:
            data (dict): ``inputs`` and ``data_samples`` of this process's clips.
            optim_wrapper (mmengine.optim.OptimWrapper): Of the module's parameters.

        Returns:
            dict[str, torch.Tensor]: Values to log, the same in all processes.
        """
        samples = data['data_samples']
        counted = samples[:-1] if self.repeats else samples
        if self.repeats and counted:
            data = _without_last(data)
        self.repeats = False
        own = torch.tensor([loss_weight(self.module.cls_head, counted), len(counted)],
                           dtype=torch.float64)
        total = own.clone()
        # On its way while the model computes.
        summing = distributed.begin_sum(total)
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            losses = self._run_forward(data, mode='loss')
        summing.wait()
        # Exactly 1 where all processes have as much.
        of_losses, of_others = (own * get_world_size() / total).tolist()
        losses = {name: _times(value, of_losses if 'loss' in name else of_others)
                  for name, value in losses.items()}
        loss, logged = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)  # gradients are averaged over the processes
        return _means(logged)


def loss_weight(head: torch.nn.Module, samples: Sequence[ActionDataSample]) -> float:
    """Returns what a head's loss divides by: the clips, or the weights of their classes.

    Args:
        head (torch.nn.Module): With ``loss_cls``.
        samples (Sequence[ActionDataSample]): Clips, with ``gt_label``.
    """
    weights_K = getattr(head.loss_cls, 'class_weight', None)
    if weights_K is None or not samples:
        return float(len(samples))
    weights_K = weights_K.double().cpu()
    labels_N = torch.cat([sample.gt_label for sample in samples]).cpu()
    smoothing = head.label_smooth_eps
    return float((1 - smoothing) * weights_K[labels_N].sum()
                 + smoothing * weights_K.mean() * len(labels_N))


def _without_last(data: dict) -> dict:
    """Leaves the last clip out: of a list, or of the rows of cached features."""
    count = len(data['data_samples'])
    inputs = data['inputs']
    if isinstance(inputs, tuple):
        inputs = tuple(rows[:-(len(rows) // count)] for rows in inputs)
    else:
        inputs = inputs[:-1]
    return dict(data, inputs=inputs, data_samples=data['data_samples'][:-1])


def _times(value: torch.Tensor | list[torch.Tensor], factor: float):
    return ([item * factor for item in value] if isinstance(value, list)
            else value * factor)


def _means(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Averages scalars over the processes: one small message."""
    stacked = torch.stack([value.detach().double() for value in values.values()])
    dist.all_reduce(stacked)
    stacked /= get_world_size()
    return {name: mean.to(value.dtype)
            for (name, value), mean in zip(values.items(), stacked, strict=True)}


@HOOKS.register_module()
class RepeatedClipHook(Hook):
    """Says when the last clip of a batch is there a second time.

    Samplers give every process as many clips as the others: where the clips of an epoch
    cannot be divided, some processes end with one that another has as well.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Tells the model, before its step."""
        loader = runner.train_loop.dataloader
        clips = loader.batch_sampler.sampler
        last = (len(clips) - 1) // loader.batch_sampler.batch_size
        if batch_idx == last and getattr(clips, 'round_up', False):
            runner.model.repeats = ends_with_repeated(
                len(clips.dataset), *get_dist_info())


def ends_with_repeated(clips: int, rank: int, processes: int) -> bool:
    """Whether a process's share of an epoch ends with a clip that fills it up.

    Clip i of an epoch's order is seen by process i modulo the processes.

    >>> [ends_with_repeated(7, rank, processes=3) for rank in range(3)]
    [False, True, True]
    """
    return 0 < clips % processes <= rank


def use_processes(cfg: Config) -> None:
    """Sets a config up for the processes that :func:`distributed.start` has joined.

    Args:
        cfg (Config): Resolved; changed where there are several.

    Raises:
        HRI30Error: ``sync_bn`` without CUDA.
    """
    if not dist.is_initialized():
        return
    if cfg.get('sync_bn') and not torch.cuda.is_available():
        raise HRI30Error(
            f'sync_bn={cfg.sync_bn}: BatchNorm over several processes needs CUDA.\nSet '
            "sync_bn=None; batch_norm='frozen' also gives the same in any number of them.")
    hooks = cfg.get('custom_hooks', [])
    types = {hook['type'] for hook in hooks}
    cfg.model_wrapper_cfg = dict(
        type='GlobalMeanDataParallel', broadcast_buffers=False,
        channels_last='ChannelsLastHook' in types,
        # Frozen parameters have no gradients, which must be expected.
        find_unused_parameters='UnfreezeHook' in types
        or cfg.get('find_unused_parameters', False))
    cfg.custom_hooks = [*hooks, dict(type='RepeatedClipHook')]


def scale_learning_rate(cfg: Config) -> str | None:
    """Scales ``lr`` by the clips of a step, where ``scale_lr`` asks for it.

    Args:
        cfg (Config): Resolved; its optimizer is changed.

    Returns:
        str | None: A line that says how; None where nothing is scaled.
    """
    if not cfg.get('scale_lr'):
        return None
    processes, optimizer = get_world_size(), cfg.optim_wrapper.optimizer
    batch, accumulate = cfg.train_dataloader.batch_size, cfg.get('accumulate', 1)
    clips = processes * batch * accumulate
    lr = optimizer.lr
    optimizer.lr = lr * clips / LR_CLIPS
    return (f'Learning rate {lr:g} x {clips / LR_CLIPS:g} = {optimizer.lr:g}: a step has '
            f'{clips} clips ({processes} processes x {batch} x accumulate {accumulate}), '
            f'and lr is for {LR_CLIPS}')


#: The clips of a step that the learning rates of configs are for.
LR_CLIPS = 16


def draw_apart(seed: int) -> None:
    """Has each process draw other random numbers, such as for dropout, than the first."""
    if get_rank():
        torch.manual_seed(seed + get_rank())
