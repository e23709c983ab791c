"""The trained model as a backend: the reference of exported ones.

Shapes: N clips, M frames, T frames of a clip, H height, W width, C channels, K classes.
"""

import copy
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_to_model
from torch import nn

from .. import modules  # noqa: F401  (first: it fixes what the others import)
from ..engine.resuming import explain_misfit
from ..engine.runner import fit_weights
from ..errors import HRI30Error
from .runtime.backends import CLIP_STAGE, FRAME_STAGE, WHOLE, Backend

# Modules that neither mix frames nor depend on their number.
_ELEMENTWISE = (nn.BatchNorm3d, nn.ReLU, nn.Identity)
_WINDOWED = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d)


def normalise(preprocessor: nn.Module, frames_xHWC: torch.Tensor) -> torch.Tensor:
    """Normalises frames, (..., H, W, C) uint8, to float32, as a data preprocessor does."""
    if not hasattr(preprocessor, 'mean'):
        return frames_xHWC.float()
    return (frames_xHWC.float() - preprocessor.mean.flatten()) / preprocessor.std.flatten()


class Whole(nn.Module):
    """From frames to class probabilities: (N, T, H, W, C) uint8 to (N, K) float32."""

    def __init__(self, recognizer: nn.Module) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.frames_first = isinstance(recognizer, MODELS.get('Recognizer2D'))

    def forward(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        x_NTHWC = normalise(self.recognizer.data_preprocessor, clips_NTHWC)
        if self.frames_first:
            x = x_NTHWC.permute(0, 1, 4, 2, 3)  # N, T, C, H, W
        else:
            x = x_NTHWC.permute(0, 4, 1, 2, 3).unsqueeze(1)  # N, one view, C, T, H, W
        # The recognizers call view(), which needs contiguous memory.
        logits_NK = self.recognizer.extract_feat(x.contiguous(), stage='head')[0]
        return logits_NK.float().softmax(dim=1)


class FrameStage(nn.Module):
    """What sees single frames: (M, H, W, C) uint8 to features (M, C, H, W) float32.

    It is the stem and the first stages of a ResNet, or a frozen encoder, whose features are
    tokens (M, 1 + P, D, 1).
    """

    def __init__(self, recognizer: nn.Module, stages: int) -> None:
        super().__init__()
        self.preprocessor = recognizer.data_preprocessor
        self.has_tokens, backbone = not stages, recognizer.backbone
        self.encoder = backbone if self.has_tokens else nn.Sequential(
            backbone.conv1, *([backbone.maxpool] if backbone.with_pool1 else []),
            *(getattr(backbone, name) for name in backbone.res_layers[:stages]))

    def forward(self, frames_MHWC: torch.Tensor) -> torch.Tensor:
        x_MCHW = normalise(self.preprocessor, frames_MHWC).permute(0, 3, 1, 2)
        if self.has_tokens:
            return self.encoder.encode_frames(x_MCHW.contiguous()).unsqueeze(3)
        return self.encoder(x_MCHW.unsqueeze(2)).squeeze(2)


class ClipStage(nn.Module):
    """The rest: features (N, T, C, H, W) float32 to class probabilities, (N, K)."""

    def __init__(self, recognizer: nn.Module, stages: int) -> None:
        super().__init__()
        self.has_tokens, backbone = not stages, recognizer.backbone
        self.stages = nn.Sequential(*([] if self.has_tokens else (
            getattr(backbone, name) for name in backbone.res_layers[stages:])))
        self.head = recognizer.cls_head

    def forward(self, features_NTCHW: torch.Tensor) -> torch.Tensor:
        x = features_NTCHW.squeeze(4) if self.has_tokens else self.stages(
            features_NTCHW.permute(0, 2, 1, 3, 4))
        return self.head(x).float().softmax(dim=1)


def _sees_single_frames(module: nn.Module) -> bool:
    """Whether the output of a module for a frame depends on that frame alone."""
    for part in module.modules():
        if next(part.children(), None) is not None or isinstance(part, _ELEMENTWISE):
            continue
        if not isinstance(part, _WINDOWED):
            return False
        along_time = [value if isinstance(value, int) else value[0]
                      for value in (part.kernel_size, part.stride, part.padding)]
        if along_time != [1, 1, 0]:
            return False
    return True


def count_frame_stages(recognizer: nn.Module) -> int:
    """Counts the residual stages, after the stem, that see one frame at a time.

    SlowOnly has two; 0: the model of mmaction2 cannot be split by stages.
    """
    backbone = recognizer.backbone
    if (not isinstance(recognizer, MODELS.get('Recognizer3D'))
            or not isinstance(backbone, MODELS.get('ResNet3d'))
            or recognizer.with_neck or getattr(backbone, 'lateral', False)
            or tuple(backbone.out_indices) != (backbone.num_stages - 1, )):
        return 0
    # pool2, after the first stage, halves the frames.
    if backbone.with_pool2 or not _sees_single_frames(backbone.conv1) or (
            backbone.with_pool1 and not _sees_single_frames(backbone.maxpool)):
        return 0
    return len([*takewhile(_sees_single_frames, (
        getattr(backbone, name) for name in backbone.res_layers))])


class TorchBackend(Backend):
    """A trained model as a backend.

    Args:
        cfg (Config): As :func:`~hri30_ext.config.load_config` returns it.
        checkpoint (str | Path): Its weights; all must fit.
        device (str): Device of torch.
        dtype (torch.dtype, optional): Of autocast, see
            :func:`~hri30_ext.hardware.autocast_dtype`; by default float32. Probabilities
            are always float32.

    Attributes:
        recognizer (nn.Module): The model of mmaction2, in evaluation mode.
        parts (dict[str, nn.Module]): Its graphs, by :data:`~.runtime.backends.WHOLE` etc.

    Raises:
        HRI30Error: a checkpoint of another model, or a model whose scores are no
            probabilities of single clips.
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str = 'cpu',
                 dtype: torch.dtype | None = None) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.recognizer = build_recognizer(cfg, checkpoint).to(self.device)
        self.parts = {WHOLE: Whole(self.recognizer).eval()}
        stages = count_frame_stages(self.recognizer)
        self.splittable = stages > 0 or getattr(
            self.recognizer.backbone, 'per_frame', False)
        if self.splittable:
            self.parts |= {FRAME_STAGE: FrameStage(self.recognizer, stages).eval(),
                           CLIP_STAGE: ClipStage(self.recognizer, stages).eval()}

    @torch.inference_mode()
    def run(self, part: str, array: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        # TensorFloat-32 rounds to 10 bits, too few for a reference. flags() disables cuDNN
        # unless told otherwise.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), \
                autocast(self.device.type, self.dtype, enabled=bool(self.dtype)):
            return self.parts[part].to(self.device)(inputs).float().cpu().numpy()


def drop_pretrained(cfg: Config) -> None:
    """Switches off a backbone's own download, for models that get a checkpoint anyway."""
    backbone = cfg.model.backbone
    if backbone.get('pretrained'):
        backbone.pretrained = None
    if (backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        backbone.init_cfg = None


def build_recognizer(cfg: Config, checkpoint: str | Path) -> nn.Module:
    """Builds the model of a config with the weights of a checkpoint, on the CPU, in
    evaluation mode. Errors are those of :class:`TorchBackend`.
    """
    cfg = copy.deepcopy(cfg)
    drop_pretrained(cfg)
    if cfg.model.cls_head.get('average_clips') != 'prob':
        raise HRI30Error('model.cls_head.average_clips: scores are no probabilities.\n'
                         "Expected 'prob'.")
    if cfg.model.data_preprocessor.get('to_rgb'):
        raise HRI30Error('model.data_preprocessor.to_rgb: expects BGR frames, and the '
                         'pipelines here read RGB.\nRemove it.')
    init_default_scope('mmaction')
    model = MODELS.build(cfg.model)
    if not isinstance(model, (MODELS.get('Recognizer2D'), MODELS.get('Recognizer3D'))):
        raise HRI30Error(f'model.type={cfg.model.type}: expected Recognizer2D or '
                         'Recognizer3D.')
    weights = _load_checkpoint(str(Path(checkpoint).expanduser()), map_location='cpu',
                               logger='silent')
    with explain_misfit(str(checkpoint)):
        fit_weights(weights, model, str(checkpoint), new_head_allowed=False,
                    classes=cfg.get('classes'))
        _load_checkpoint_to_model(model, weights, strict=False,
                                  revise_keys=[(r'^module.', '')])
    return model.eval()
