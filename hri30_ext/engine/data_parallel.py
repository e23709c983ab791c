"""Data-parallel training in several processes, with mmengine's DistributedDataParallel."""

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS

from ..errors import HRI30Error


@MODEL_WRAPPERS.register_module()
class HRI30DataParallel(MMDistributedDataParallel):
    """mmengine's DistributedDataParallel, on the CPU as well as on CUDA.

    Args:
        module (torch.nn.Module): A recognizer.
        device_ids (list[int], optional): The GPU; ignored on the CPU, where mmengine passes
            one and torch refuses it.
        **kwargs: Of :class:`mmengine.model.MMDistributedDataParallel`.
    """

    def __init__(self, module: torch.nn.Module, device_ids: list[int] | None = None,
                 **kwargs) -> None:
        is_on_cpu = next(module.parameters()).device.type == 'cpu'
        super().__init__(module, device_ids=None if is_on_cpu else device_ids, **kwargs)


def use_processes(cfg: Config) -> None:
    """Adds the model wrapper of data-parallel training to a resolved config.

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
    types = {hook['type'] for hook in cfg.get('custom_hooks', [])}
    cfg.model_wrapper_cfg = dict(
        type='HRI30DataParallel',
        # DDP must expect frozen parameters, which have no gradients.
        find_unused_parameters='UnfreezeHook' in types
        or cfg.get('find_unused_parameters', False))


def scale_learning_rate(cfg: Config) -> str | None:
    """Scales ``lr`` from ``base_batch_size`` to the clips of a step if ``scale_lr`` is set.

    SGD's grows in proportion (arXiv 1706.02677), Adam's and AdamW's by the square root
    (arXiv 2205.10287), or in proportion with ``scale_lr='linear'``.

    Args:
        cfg (Config): Resolved; the optimizer's ``lr`` is changed.

    Returns:
        str | None: A line for the log; None if ``scale_lr`` is not set, with one process
        or a step of just ``base_batch_size`` clips.
    """
    processes, optimizer = get_world_size(), cfg.optim_wrapper.optimizer
    batch, accumulate = cfg.train_dataloader.batch_size, cfg.get('accumulate', 1)
    clips, base = processes * batch * accumulate, cfg.get('base_batch_size', 16)
    is_root = 'Adam' in optimizer.type and cfg.get('scale_lr') != 'linear'
    lr, factor = optimizer.lr, (clips / base) ** (0.5 if is_root else 1)
    step = (f'a step has {clips} clips ({processes} processes x {batch} x accumulate '
            f'{accumulate}), and lr is for {base}')
    if cfg.get('scale_lr'):
        optimizer.lr = lr * factor
        return f'Learning rate {lr:g} x {factor:g} = {optimizer.lr:g}: {step}'
    if processes > 1 and clips != base:
        return f'Learning rate {lr:g}: {step}. scale_lr=True would make it {lr * factor:g}'
    return None
