"""Parameters of a model, and operations on one clip."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Complexity:
    """Size of a model and its operations on one clip."""

    #: Of the test view, such as (1, 3, 8, 224, 224): views, C, T, H, W; or T, C, H, W.
    input_shape: tuple[int, ...]
    parameters: int
    #: Multiply-adds, each counted as one.
    flops: int


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
    """Multiply-adds of ``aten::lstm``, which mmengine leaves out.

    The four gates of a layer each multiply its input and its state, at every time step.
    """
    batch, steps = _shape(inputs[0])[:2]
    # The third input lists the weights: of each layer two matrices, and biases.
    weights = [_shape(weight) for weight in inputs[2].node().inputs()]
    return batch * steps * sum(rows * columns for rows, columns in
                               (shape for shape in weights if len(shape) == 2))


def _attention_flops(inputs: list, outputs: list) -> int:
    """Multiply-adds of attention in one operator, which mmengine leaves out."""
    *batch, queries, channels = _shape(inputs[0])
    keys, values = _shape(inputs[2])[-2:]
    return int(np.prod(batch)) * queries * keys * (channels + values)


def count(model: nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    """Counts the parameters of a model, and the operations on an input.

    Args:
        model (nn.Module): Called with ``inputs``; in evaluation mode afterwards.
        inputs (torch.Tensor): Its input.

    Returns:
        tuple[int, int]: Parameters; operations as :class:`mmengine.analysis.FlopAnalyzer`
        counts them: a multiply-add as one, normalisation and average pooling by element,
        activations and additions not at all. Added here are LSTMs and fused attention.
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
    steps = cfg.test_pipeline[decoding[-1] + 1:]
    packed = Compose(steps)(dict(
        imgs=frames, img_shape=_FRAME_SIZE, original_shape=_FRAME_SIZE, modality='RGB',
        num_clips=1, clip_len=cfg.num_frames, label=-1, video_id='black'))
    return packed['inputs']


def measure_complexity(cfg: Config) -> Complexity:
    """Measures the model of a config on one clip, as it is tested.

    Args:
        cfg (Config): As :func:`~hri30_ext.config.load_config` returns it.

    Returns:
        Complexity: Weights are random; nothing is downloaded.
    """
    view = make_test_view(cfg)
    model = _Logits(MODELS.build(cfg.model))
    parameters, flops = count(model, view[None].float())
    return Complexity(tuple(view.shape), parameters, flops)
