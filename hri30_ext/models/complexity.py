"""Parameters of a model, and operations on one clip."""

import math
from typing import NamedTuple

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import nn

from ..errors import HRI30Error

#: Height and width of HRI30's frames, which a test view may depend on.
_FRAME_SIZE = (480, 720)


class Complexity(NamedTuple):
    """Size of a model and its operations on one clip."""

    input_shape: tuple[int, ...]  # of the test view: views, C, T, H, W; or T, C, H, W
    parameters: int
    flops: int  # multiply-adds, each counted as one


class _Logits(nn.Module):
    """A recognizer as a module from frames to logits, for tracing."""

    def __init__(self, recognizer: nn.Module) -> None:
        super().__init__()
        self.recognizer = recognizer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.recognizer.extract_feat(inputs, stage='head')[0]


def _shape(value) -> list[int]:
    return value.type().sizes()


def _lstm_flops(inputs: list, outputs: list) -> int:
    """Counts ``aten::lstm``: the four gates of a layer each multiply its input and its
    state, at every time step."""
    batch, steps = _shape(inputs[0])[:2]
    # The third input lists the weights: of each layer two matrices, and biases.
    weights = [_shape(weight) for weight in inputs[2].node().inputs()]
    return batch * steps * sum(math.prod(shape) for shape in weights if len(shape) == 2)


def _attention_flops(inputs: list, outputs: list) -> int:
    """Counts attention in one operator."""
    *batch, queries, channels = _shape(inputs[0])
    keys, values = _shape(inputs[2])[-2:]
    return math.prod(batch) * queries * keys * (channels + values)


def count(model: nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    """Counts the parameters of a model, and the operations on its input.

    Operations are as :class:`mmengine.analysis.FlopAnalyzer` counts them: a multiply-add as
    one, normalisation and average pooling by element, activations and additions not at all.
    Added here are LSTMs and fused attention. The model is in evaluation mode afterwards.
    """
    analyzer = FlopAnalyzer(model.eval(), (inputs, ))
    analyzer.set_op_handle('aten::lstm', _lstm_flops,
                           'aten::scaled_dot_product_attention', _attention_flops)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    # With gradients on: without, torch runs attention in one operator that cannot be read.
    with torch.enable_grad():
        flops = analyzer.total()
    return int(parameter_count(model)['']), int(flops)


def make_test_view(cfg: Config) -> torch.Tensor:
    """Returns the test pipeline's output for a black clip of HRI30's size.

    Raises:
        HRI30Error: the pipeline decodes nothing.
    """
    decoding = [i for i, step in enumerate(cfg.test_pipeline)
                if step.type.endswith('Decode')]
    if not decoding:
        raise HRI30Error('test_pipeline: no step with a type that ends with Decode, so the '
                         'size of its frames is unknown.')
    init_default_scope('mmaction')
    frames = [np.zeros((*_FRAME_SIZE, 3), np.uint8) for _ in range(cfg.num_frames)]
    packed = Compose(cfg.test_pipeline[decoding[-1] + 1:])(dict(
        imgs=frames, img_shape=_FRAME_SIZE, original_shape=_FRAME_SIZE, modality='RGB',
        num_clips=1, clip_len=cfg.num_frames, label=-1, video_id='black'))
    return packed['inputs']


def measure_complexity(cfg: Config) -> Complexity:
    """Measures the model of a config on one clip, as it is tested, with random weights."""
    view = make_test_view(cfg)
    model = _Logits(MODELS.build(cfg.model))
    return Complexity(tuple(view.shape), *count(model, view[None].float()))
