"""Where a model looks: Grad-CAM over the frames of clips."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmaction.utils import GradCAM
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

# The last stage that still has a map over the frame, where mmaction2's models keep it.
_LAYERS = ('backbone/slow_path/layer4', 'backbone/layer4')


def find_target_layer(model: nn.Module) -> str | None:
    """Returns the name of the layer that Grad-CAM reads, as mmaction2 spells it.

    Args:
        model (nn.Module): A recognizer.

    Returns:
        str | None: Such as ``backbone/layer4``; None for a model without ResNet stages,
        such as a transformer.
    """
    modules = {name.replace('.', '/') for name, _ in model.named_modules()}
    return next((name for name in _LAYERS if name in modules), None)


def explain_clips(model: nn.Module, cfg: Config, filenames: Sequence[str],
                  classes: Sequence[int]) -> tuple[list[np.ndarray | None], str]:
    """Overlays clips with a map of what speaks for a class in the last stage.

    Clips are read by ``cfg.test_pipeline``. Of several views, the first is shown.

    Args:
        model (nn.Module): A recognizer without wrapper. It is left in evaluation mode, all
            its parameters with gradients.
        cfg (Config): Of the model.
        filenames (Sequence[str]): N clips.
        classes (Sequence[int]): The class to look for in each, 0-based, (N, ).

    Returns:
        tuple[list[np.ndarray | None], str]: For each clip RGB frames, (T, H, W, 3)
        uint8, or None; and the reason for missing ones, empty if there are none.
    """
    overlays: list[np.ndarray | None] = [None] * len(filenames)
    if not filenames:
        return overlays, ''
    layer = find_target_layer(model)
    if layer is None:
        kind = type(getattr(model, 'backbone', model)).__name__
        return overlays, (f'Where a {kind} looks is not shown: '
                          'Grad-CAM needs the last stage of a ResNet (layer4).')
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    camera = GradCAM(model, layer)
    # After GradCAM's eval(), which freezes the frozen stages again: no gradient would
    # come back through them.
    model.requires_grad_(True)
    pipeline = Compose(cfg.test_pipeline)
    # Models of 2D frames get all views in one row; if each frame is a view of its own
    # (clip_len=1), all are shown.
    frames = next((step['clip_len'] for step in cfg.test_pipeline
                   if step.get('clip_len', 1) > 1), None)
    failures = []
    for i, (filename, label) in enumerate(zip(filenames, classes, strict=True)):
        try:
            packed = pipeline(dict(filename=str(filename), label=int(label),
                                   start_index=0, modality='RGB'))
        except Exception as error:  # decoders raise many kinds for a bad file
            reason = str(error).strip().splitlines() or [type(error).__name__]
            failures.append(f'{Path(filename).name}: {reason[0][:160]}')
            continue
        try:
            overlays[i] = _overlay(camera, packed)[:frames]
        except RuntimeError as error:
            return [None] * len(filenames), (
                'Where the model looks is not shown: Grad-CAM failed '
                f'({str(error).splitlines()[0][:160]}).')
    return overlays, '; '.join(failures)


def _overlay(camera: GradCAM, packed: dict) -> np.ndarray:
    """Returns the frames of one packed clip under their map, (T, H, W, 3) uint8."""
    # cuDNN refuses the backward pass of RNNs in evaluation mode.
    has_rnn = any(isinstance(module, nn.RNNBase) for module in camera.model.modules())
    with warnings.catch_warnings(), torch.enable_grad(), \
            torch.backends.cudnn.flags(enabled=not has_rnn):
        # mmaction2 hooks the backward pass the old way; the gradient of the layer's
        # output, which it uses, is right.
        warnings.simplefilter('ignore')
        blended_BTHWC, _ = camera(pseudo_collate([packed]), use_labels=True, alpha=.4)
    frames_THWC = blended_BTHWC[0].detach().cpu().numpy()
    return (frames_THWC.clip(0, 1) * 255).round().astype(np.uint8)
