"""Optimizer wrappers."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BF16OptimWrapper(OptimWrapper):
    """Trains under bfloat16 autocast, on the CPU as well as on CUDA.

    mmengine's ``AmpOptimWrapper`` asserts a GPU. bfloat16 has float32's range,
    so no loss scaling is needed; parameters and their gradients stay float32.
    """

    @contextlib.contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
