"""The first step of a training, and the memory that it takes: ``train.sh --dry-run``."""

import contextlib
import math
import tempfile

import torch
from mmengine.hooks import Hook

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..config import load_config
from .training import train

_CLIPS = 2  # of the step; BatchNorm needs two


class _Done(Exception):
    """Ends the training after its first step."""


class _Measure(Hook):
    """Makes the first step small, and adds up what stays in memory for it.

    Attributes:
        nbytes (dict[str, int]): By what it is for; activations for a whole batch.
        lr (float): What the schedules start from.
    """

    priority = 'LOWEST'

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._shapes, self._stored, self._saved = set(), set(), {}

    def before_train(self, runner) -> None:
        self.lr = runner.cfg.optim_wrapper.optimizer.lr
        runner.train_loop.dataloader.batch_sampler.batch_size = _CLIPS

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._shapes = {parameter.shape for parameter in runner.model.parameters()}
        self._stored = {parameter.untyped_storage().data_ptr()
                        for parameter in runner.model.parameters()}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Notes a tensor that is saved for the backward pass."""
        storage = tensor.untyped_storage()
        # Recomputed activations are saved within the backward pass, and are counted once.
        if storage.data_ptr() not in self._stored and torch._C._current_graph_task_id() < 0:
            # Weights that autocast converts do not grow with the batch.
            growth = 1 if tensor.shape in self._shapes else self.batch / _CLIPS
            self._saved[storage.data_ptr()] = storage.nbytes() * growth
        return tensor

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        parameters = list(runner.model.parameters())
        self.nbytes = {
            'parameters': sum(each.nbytes for each in parameters),
            'gradients': sum(each.nbytes for each in parameters if each.requires_grad),
            'optimizer state': sum(
                value.nbytes for state in runner.optim_wrapper.optimizer.state.values()
                for value in state.values() if torch.is_tensor(value)),
            'saved activations': math.ceil(sum(self._saved.values()))}
        raise _Done


def dry_run(config: str, options: dict | None = None) -> str:
    """Takes the first step of a training in one process, with two clips.

    Nothing is downloaded or kept. What a training prints before its first step is printed;
    arguments are those of :func:`.training.train`.

    Returns:
        str: The batch, the learning rate, and an estimate of the memory.

    Raises:
        HRI30Error: whatever a training refuses.
    """
    cfg, options = load_config(config, options), dict(options or {})
    options.update(num_workers=0, clip_cache=None, leak_check=None, cache_features=None)
    if '://' in str(cfg.get('load_from')):
        options['load_from'] = None
    backbone = f'backbones.{cfg.backbone}' if 'backbones' in cfg else 'model.backbone'
    options.update({f'{backbone}.{name}': None for name in ('pretrained', 'init_cfg')
                    if cfg.model.backbone.get(name)})
    hook = _Measure(cfg.train_dataloader.batch_size)
    with tempfile.TemporaryDirectory(prefix='hri30-dry-run-') as folder, (
            torch.autograd.graph.saved_tensors_hooks(hook.pack, lambda tensor: tensor)), (
            contextlib.suppress(_Done)):
        train(config, work_dir=folder, options=options, hooks=[hook])
    rows = {'batch': f'{hook.batch} clips',
            'learning rate': f'{hook.lr:g} after the warm-up',
            **{name: f'{nbytes / 1e9:.3f} GB' for name, nbytes in hook.nbytes.items()},
            'in all': f'{sum(hook.nbytes.values()) / 1e9:.3f} GB'}
    return '\n'.join([
        f'Dry run: took one step of {_CLIPS} clips. Memory of a process, an estimate:',
        *(f'  {name:<18} {text}' for name, text in rows.items()),
        'Activations are those of the step, in proportion to the batch, in the precision '
        'of this machine.\nNot counted: the CUDA context and work space of the kernels.'])
