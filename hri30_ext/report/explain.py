"""Where a model looks: Grad-CAM over the frames of clips."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from mmaction.utils import GradCAM
from mmengine.dataset import pseudo_collate
from torch import nn

# The last stage that still has a map over the frame, where mmaction2's models keep it.
_LAYERS = ('backbone/slow_path/layer4', 'backbone/layer4')


def find_target_layer(model: nn.Module) -> str | None:
    """Returns the layer of a recognizer that Grad-CAM reads, such as ``backbone/layer4``;
    None for a model without ResNet stages, such as a transformer."""
    modules = {name.replace('.', '/') for name, _ in model.named_modules()}
    return next((name for name in _LAYERS if name in modules), None)


def explain_clips(model: nn.Module, samples: Sequence[dict]
                  ) -> tuple[list[np.ndarray | None], str]:
    """Overlays clips with a map of what speaks for a class in the last stage.

    Args:
        model (nn.Module): A recognizer without wrapper. It is left in evaluation mode, all
            its parameters with gradients.
        samples (Sequence[dict]): N clips as the test pipeline packs them; the label of
            each is the class to look for.

    Returns:
        tuple[list[np.ndarray | None], str]: For each clip RGB frames, (T, H, W, 3) uint8,
        those of the first view first, or None; and why they are missing, or empty.
    """
    nothing: list[np.ndarray | None] = [None] * len(samples)
    if not samples:
        return nothing, ''
    layer = find_target_layer(model)
    if layer is None:
        kind = type(getattr(model, 'backbone', model)).__name__
        return nothing, (f'Where a {kind} looks is not shown: '
                         'Grad-CAM needs the last stage of a ResNet (layer4).')
    camera = GradCAM(model, layer)
    # After GradCAM's eval(), which freezes the frozen stages again: no gradient would
    # come back through them.
    model.requires_grad_(True)
    try:
        return [_overlay(camera, sample) for sample in samples], ''
    except RuntimeError as error:
        return nothing, ('Where the model looks is not shown: Grad-CAM failed '
                         f'({str(error).splitlines()[0][:160]}).')


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
