"""Exported models against the eager model of MMAction2."""

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope

from ..deploy.runtime import exported
from .processes import SideProcess, median_text, take_turns
from .rows import Outcome, Row, pair_ratios, summarize
from .setup import PRIMITIVE, Setup, seconds_of
from .stock import stock_config
from .training import initial_weights

_CLIPS = 5  # of a turn
#: That int8 looks at to know the ranges of values: few, as random weights have no accuracy
#: to lose, and the time does not depend on them.
_CALIBRATION = 8


def _clip(setup: Setup) -> np.ndarray:
    """Makes a clip of noise, (1, T, H, W, 3) uint8; what it shows costs no time."""
    cfg = setup.ours()
    width, height = cfg.input_size
    return np.random.default_rng(0).integers(
        0, 256, (1, cfg.num_frames, height, width, 3), np.uint8)


def eager(turns, setup: Setup, checkpoint: str) -> None:
    """Recognizes a clip in turns with mmaction2's model in fp32: uint8 to scores."""
    init_default_scope('mmaction')
    cfg = stock_config(setup.ours(), setup.scratch('stock'))
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    model.to(setup.device)
    clip_NCTHW = torch.from_numpy(_clip(setup)).permute(0, 4, 1, 2, 3).contiguous()

    def work():
        for _ in range(_CLIPS):
            model.test_step(dict(inputs=[clip_NCTHW], data_samples=[ActionDataSample()]))

    while True:
        turns.wait()
        turns.report(seconds_of(work) / _CLIPS)


def backend(turns, setup: Setup, folder: str) -> None:
    """Recognizes the same clip in turns with an exported model: uint8 to scores."""
    _, recognize = exported.load(folder)
    clip_NTHWC = _clip(setup)

    def work():
        for _ in range(_CLIPS):
            recognize(clip_NTHWC)

    while True:
        turns.wait()
        turns.report(seconds_of(work) / _CLIPS)


def _measure(setup: Setup, precision: str) -> Outcome:
    if setup.device == 'cuda':
        return Outcome(None, note='not measured: OpenVINO runs on the CPU')
    from ..apis.exporting import export  # wants the packages of the extra `deploy`
    setup = setup.with_data()
    checkpoint = initial_weights(setup)
    folder = setup.scratch(f'openvino-{precision}') + '/model'
    export(PRIMITIVE, checkpoint, 'openvino', precision, folder, {
        'data_root': setup.data_root, 'load_from': None, **setup.options},
        calibration_clips=_CALIBRATION)
    name = f'openvino_{precision}'
    with SideProcess(f'{name}, eager', eager, dict(setup=setup, checkpoint=checkpoint),
                     setup.log(f'{name}-eager')) as stock, \
         SideProcess(f'{name}, exported', backend, dict(setup=setup, folder=folder),
                     setup.log(f'{name}-exported')) as ours:
        pairs = take_turns(stock, ours, setup.repetitions(5))
    return summarize(
        pair_ratios(pairs.stock, pairs.ours),
        f'SlowOnly R50, one clip in memory to scores: eager fp32 '
        f'{median_text(pairs.stock, "s")}, OpenVINO {precision} '
        f'{median_text(pairs.ours, "s")}')


def openvino_bf16(setup: Setup) -> Outcome:
    """Measures OpenVINO in bf16."""
    return _measure(setup, 'bf16')


def openvino_int8(setup: Setup) -> Outcome:
    """Measures OpenVINO in int8."""
    return _measure(setup, 'int8')


ROWS = [
    Row('openvino_bf16', 'one clip, OpenVINO bf16 against eager fp32', openvino_bf16,
        goal=3),
    Row('openvino_int8', 'one clip, OpenVINO int8 against eager fp32', openvino_int8,
        goal=5.5),
]
