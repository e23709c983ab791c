"""Frozen backbones run by OpenVINO where there is no GPU."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from mmengine.logging import print_log
from torch import nn

from ..deploy.runtime.backends import import_package, openvino_core

#: Largest difference of features from torch's, as a part of the largest feature: in
#: float32, and under autocast, where OpenVINO computes in bfloat16 if the processor can.
_TOLERANCE, _AUTOCAST_TOLERANCE = 1e-3, 5e-2


@contextlib.contextmanager
def openvino_inference(backbone: nn.Module) -> Iterator[None]:
    """Runs a backbone with OpenVINO within the context, on a CPU, which is faster.

    It is converted at the first batch and takes the rows of a batch one at a time. On a
    GPU, and where OpenVINO is not installed, cannot convert it, or gives other features,
    torch computes them.
    """
    by_torch, run = backbone.forward, None

    def forward(x: torch.Tensor):
        nonlocal run
        if not x.is_cpu or torch.jit.is_tracing():
            return by_torch(x)
        if run:
            return run(x)
        expected = by_torch(x)
        run = _find_graph(backbone, x, expected) or by_torch
        return expected

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward


def _find_graph(backbone: nn.Module, x: torch.Tensor, expected) -> Callable | None:
    """Returns what computes features with OpenVINO, or None where it gives others."""
    tolerance = _AUTOCAST_TOLERANCE if torch.is_autocast_enabled('cpu') else _TOLERANCE
    try:
        run = partial(_infer, _convert(backbone, x[:1]))
        difference = _difference(run(x), expected)
        if difference <= tolerance:  # nan is not
            return run
        reason = f'a difference of {difference:.2g}'
    except Exception as error:  # of any operation that it cannot convert
        reason = type(error).__name__
    print_log(f'Features: by torch, OpenVINO cannot compute them: {reason}', 'current')
    return None


def _convert(backbone: nn.Module, row: torch.Tensor):
    openvino = import_package('openvino')
    with torch.autocast('cpu', enabled=False):
        # OpenVINO would trace it three times, to check it.
        traced = torch.jit.trace(backbone, row, check_trace=False)
        model = openvino.convert_model(traced, example_input=row, input=[list(row.shape)])
    precision = 'bf16' if torch.is_autocast_enabled('cpu') else 'f32'
    return openvino_core().compile_model(model, 'CPU', {
        'INFERENCE_PRECISION_HINT': precision, 'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_NUM_THREADS': torch.get_num_threads()})


def _infer(graph, x: torch.Tensor):
    rows = [[torch.tensor(output) for output in graph(row.numpy(force=True)).values()]
            for row in x.contiguous().split(1)]
    outputs = tuple(map(torch.cat, zip(*rows, strict=True)))
    return outputs if len(outputs) > 1 else outputs[0]


def _difference(outputs, expected) -> float:
    """Returns the largest difference, as a part of the largest expected value, or nan."""
    if torch.is_tensor(expected):
        outputs, expected = [outputs], [expected]
    return torch.stack([(a - b).abs().max() / b.abs().max() for a, b in zip(
        outputs, expected, strict=True)]).max().item()
