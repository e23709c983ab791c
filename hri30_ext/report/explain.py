"""Where a model looks: Grad-CAM over the frames of clips."""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints import load_from_local
from ..errors import HRI30Error

# The last stage that still has a map over the frame, where mmaction2's models keep it.
_LAYERS = ('backbone/slow_path/layer4', 'backbone/layer4')


def find_target_layer(model: nn.Module) -> str | None:
    """Names the layer that Grad-CAM reads, as mmaction2 spells it.

    Args:
        model (nn.Module): A recognizer.

    Returns:
        str | None: Such as ``backbone/layer4``; None for a model without stages of a
        ResNet (a transformer, say).
    """
    for name in _LAYERS:
        try:
            model.get_submodule(name.replace('/', '.'))
        except AttributeError:
            continue
        return name
    return None


def explain_clips(cfg: Config, checkpoint: str | Path, filenames: Sequence[str],
                  classes: Sequence[int]) -> tuple[list[np.ndarray | None], str]:
    """Lays a map over each clip: what speaks for a class in the last stage.

    Clips are read by ``cfg.test_pipeline``. Of several views, the first is shown.

    Args:
        cfg (Config): Of the model.
        checkpoint (str | Path): Its weights.
        filenames (Sequence[str]): N clips.
        classes (Sequence[int]): The class to look for in each, 0-based, (N, ).

    Returns:
        tuple[list[np.ndarray | None], str]: For each clip RGB frames, (T, H, W, 3)
        uint8, or None where there are none; and why, empty where all is well.

    Raises:
        HRI30Error: a checkpoint that cannot be loaded, or is not for this model.
    """
    from mmaction.apis import init_recognizer
    from mmaction.utils import GradCAM

    nothing: list[np.ndarray | None] = [None] * len(filenames)
    if not filenames:
        return nothing, ''
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    # A copy: mmaction2 switches the backbone's own weights off in it.
    model = init_recognizer(copy.deepcopy(cfg), device=get_device())
    _load(model, checkpoint)
    layer = find_target_layer(model)
    if layer is None:
        kind = type(getattr(model, 'backbone', model)).__name__
        return nothing, (f'Where a {kind} looks is not shown: '
                         'Grad-CAM needs the last stage of a ResNet (layer4).')
    camera = GradCAM(model, layer)
    # After GradCAM's eval(), which freezes the frozen stages anew: no gradient would
    # come back through them.
    model.requires_grad_(True)
    pipeline = Compose(cfg.test_pipeline)
    # Models of 2D frames get all views in one row; where each frame is a view of its own
    # (clip_len=1), all are shown.
    frames = next((step['clip_len'] for step in cfg.test_pipeline
                   if step.get('clip_len', 1) > 1), None)
    overlays, failures = list(nothing), []
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
            return nothing, ('Where the model looks is not shown: Grad-CAM failed '
                             f'({str(error).splitlines()[0][:160]}).')
    return overlays, '; '.join(failures)


def _load(model: nn.Module, checkpoint: str | Path) -> None:
    """Loads all weights of a model; mmengine's loading would go on without some."""
    state = load_from_local(str(checkpoint), map_location='cpu')
    try:
        missing = model.load_state_dict(state.get('state_dict', state),
                                        strict=False).missing_keys
        problem = f'it lacks {missing[0]}' if missing else ''
    except (RuntimeError, TypeError, AttributeError) as error:
        problem = str(error).strip().splitlines()[-1].strip()[:160]
    if problem:
        raise HRI30Error(f'{checkpoint}: does not fit the model of the config '
                         f'({problem}).\nExpected a checkpoint '
                         'that was trained with this config.')


def _overlay(camera, packed: dict) -> np.ndarray:
    """Returns the frames of one packed clip under their map, (T, H, W, 3) uint8."""
    with warnings.catch_warnings(), torch.enable_grad(), \
            torch.backends.cudnn.flags(enabled=not _has_rnn(camera.model)):
        # mmaction2 hooks the backward pass the old way; the gradient of the layer's
        # output, which it uses, is right.
        warnings.simplefilter('ignore')
        blended_BTHWC, _ = camera(pseudo_collate([packed]), use_labels=True, alpha=.4)
    frames_THWC = blended_BTHWC[0].detach().cpu().numpy()
    return (frames_THWC.clip(0, 1) * 255).round().astype(np.uint8)


def _has_rnn(model: nn.Module) -> bool:
    """Whether cuDNN would refuse the backward pass, as it does for RNNs in eval mode."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())
