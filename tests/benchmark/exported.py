"""Exported models against the eager model of MMAction2."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope

from benchmark.rows import Outcome, row
from benchmark.setup import PRIMITIVE, Setup, seconds_of
from benchmark.stock import stock_config
from benchmark.training import initial_weights
from benchmark.turns import compare
from hri30_ext.deploy.runtime import exported

_CLIPS = 5  # a turn
#: Clips for the ranges of int8: few, since random weights have no accuracy to lose, and
#: the time does not depend on them.
_CALIBRATION = 8


def _noise_clip(setup: Setup) -> np.ndarray:
    """Makes a clip of noise, (1, T, H, W, 3) uint8; the content costs no time."""
    cfg = setup.ours()
    width, height = cfg.input_size
    return np.random.default_rng(0).integers(
        0, 256, (1, cfg.num_frames, height, width, 3), np.uint8)


def _time(recognize: Callable) -> Callable:
    return lambda: seconds_of(lambda: [recognize() for _ in range(_CLIPS)]) / _CLIPS


def eager(setup: Setup, checkpoint: str) -> Callable:
    """Recognizes a clip with mmaction2's model in fp32: uint8 to scores."""
    init_default_scope('mmaction')
    cfg = stock_config(setup.ours(), setup.scratch('stock'))
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    model.to(setup.device)
    clip_NCTHW = torch.from_numpy(_noise_clip(setup)).permute(0, 4, 1, 2, 3).contiguous()
    return _time(lambda: model.test_step(
        dict(inputs=[clip_NCTHW], data_samples=[ActionDataSample()])))


def backend(setup: Setup, folder: str) -> Callable:
    """Recognizes the same clip with an exported model: uint8 to scores."""
    _, recognize = exported.load(folder)
    clip_NTHWC = _noise_clip(setup)
    return _time(lambda: recognize(clip_NTHWC))


def openvino(setup: Setup, precision: str) -> Outcome:
    """Measures OpenVINO in one precision."""
    if setup.device == 'cuda':
        return Outcome(None, note='not measured: OpenVINO runs on the CPU')
    from hri30_ext.apis.exporting import export  # needs the extra `deploy`
    setup = setup.with_data()
    checkpoint = initial_weights(setup)
    folder = setup.scratch(f'openvino-{precision}') + '/model'
    export(PRIMITIVE, checkpoint, 'openvino', precision, folder, {
        'data_root': setup.data_root, 'load_from': None, **setup.options},
        calibration_clips=_CALIBRATION)
    pairs = compare(f'openvino_{precision}', setup, (eager, dict(checkpoint=checkpoint)),
                    (backend, dict(folder=folder)), rounds=5)
    return pairs.outcome('SlowOnly R50, one clip in memory to scores',
                         ('eager fp32', f'OpenVINO {precision}'))


for _precision, _goal in (('bf16', 3), ('int8', 5.5)):
    row(f'openvino_{_precision}', f'one clip, OpenVINO {_precision} against eager fp32',
        goal=_goal)(functools.partial(openvino, precision=_precision))
