"""Probes: what learns on the tokens of a frozen model; and the model of both.

Shapes: N clips, S time steps, P patches on a grid of H x W, D channels. A probe is built
with D, S and (H, W): ``in_channels``, ``num_steps`` and ``grid``. It takes ``(N, S, 1 + P,
D)`` tokens, the class token first, and returns one vector of
``out_channels`` for a clip. Parameters are counted for D = 768, without the classifier.
"""

import torch
from mmaction.models.heads import BaseHead
from mmaction.models.recognizers import Recognizer3D
from mmaction.registry import MODELS
from mmengine.model.weight_init import normal_init
from torch import nn
from torch.nn import functional


@MODELS.register_module()
class MeanProbe(nn.Module):
    """The mean of the class tokens, normalised: no parameters, and no order of frames.

    The token of a single step stays as it is: its model has normalised it.
    """

    def __init__(self, in_channels, num_steps, grid) -> None:
        super().__init__()
        self.out_channels, self.num_steps = in_channels, num_steps

    def forward(self, x_NSPD: torch.Tensor) -> torch.Tensor:
        """Returns (N, D)."""
        if self.num_steps == 1:
            return x_NSPD[:, 0, 0]
        return functional.layer_norm(x_NSPD[:, :, 0].mean(1), (self.out_channels, ))


def _count_heads(channels: int) -> int:
    """Returns the heads of attention, with 64 channels each where that is possible."""
    return 1 if channels % 64 else channels // 64


class _Attention(nn.Module):
    """Attention of one query to tokens, with 64 channels a head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = _count_heads(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, query_N1D: torch.Tensor, x_NLD: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x in (self.query(query_N1D), *self.key_value(x_NLD).chunk(2, 2)))
        y_NH1C = functional.scaled_dot_product_attention(query, key, value)
        return self.out(y_NH1C.transpose(1, 2).flatten(2))


@MODELS.register_module()
class AttentiveProbe(nn.Module):
    """One learned query reads all tokens, as V-JEPA evaluates (arXiv 2404.08471).

    Cross-attention and an MLP, each with a normalisation before it: 7,088,640 parameters.
    Without encodings by frame, the order of frames does not matter.
    """

    def __init__(self, in_channels, num_steps, grid) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.query = nn.Parameter(torch.zeros(1, 1, in_channels))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm = nn.LayerNorm(in_channels)
        self.attention = _Attention(in_channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(in_channels), nn.Linear(in_channels, 4 * in_channels), nn.GELU(),
            nn.Linear(4 * in_channels, in_channels))

    def forward(self, x_NSPD: torch.Tensor) -> torch.Tensor:
        """Returns (N, D)."""
        query_N1D = self.query.expand(x_NSPD.shape[0], -1, -1)
        x_N1D = query_N1D + self.attention(query_N1D, self.norm(x_NSPD.flatten(1, 2)))
        return (x_N1D + self.mlp(x_N1D))[:, 0]


@MODELS.register_module()
class VJEPA2AttentiveProbe(nn.Module):
    """V-JEPA 2's own probe (arXiv 2506.09985): the pooler of transformers.

    Three layers of self-attention over the patch tokens of all time steps, then
    cross-attention of one learned query, each with an MLP: 49,336,320 parameters for the
    1024 channels of V-JEPA 2 ViT-L, 27,761,664 for 768. The order of frames matters as far
    as the tokens tell it, as those of V-JEPA 2 do and those of single frames do not.
    """

    def __init__(self, in_channels, num_steps, grid) -> None:
        super().__init__()
        import transformers
        self.out_channels = in_channels
        # The classifier of transformers initialises its pooler; no other part of it is
        # used.
        self.pooler = transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(
            hidden_size=in_channels, num_attention_heads=_count_heads(in_channels),
            num_hidden_layers=0, pred_num_hidden_layers=0)).pooler

    def forward(self, x_NSPD: torch.Tensor) -> torch.Tensor:
        """Returns (N, D)."""
        return self.pooler(x_NSPD[:, :, 1:].flatten(1, 2))


@MODELS.register_module()
class STEPProbe(nn.Module):
    """STEP (arXiv 2503.24298): encodings by frame, one global class token, attention.

    The class token attends to itself and to all tokens, each with the encoding of its time
    step; there is no MLP. Patches also have a learned encoding of their place. Parameters
    with 8 steps and 16 x 16 patches: attention 2,362,368, encodings of time 6,144 and of
    place 196,608, normalisation 1,536, class token 768; 2,567,424 together.

    The paper says 2.6 M, and its summary names encodings by frame alone, with which there
    are 2,370,816; a table of the 256 patches of DINOv2 at 224 x 224 pixels explains the
    rest. Its code was not available.

    The direction of a movement is in time and place together. Where both encodings start
    near zero, neither helps without the other, and the probe stays at chance for long: in
    a toy task, at 1,024 steps with a deviation of 0.02, where 0.5 reaches 0.98. The paper
    does not say with which they start.

    Args:
        places (bool): Whether patches have encodings of their place.
        std (float): Standard deviation of the first encodings.
    """

    def __init__(self, in_channels, num_steps, grid, places=True, std=0.5) -> None:
        super().__init__()
        self.out_channels, self.places = in_channels, places
        # AdamW decays none of them, by their names.
        self.class_token = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.temporal_embed = nn.Parameter(torch.zeros(1, num_steps, 1, in_channels))
        self.pos_embed = nn.Parameter(torch.zeros(
            1, 1, places * grid[0] * grid[1], in_channels))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for parameter in (self.temporal_embed, self.pos_embed):
            nn.init.normal_(parameter, std=std)
        self.norm = nn.LayerNorm(in_channels)
        self.attention = _Attention(in_channels)

    def forward(self, x_NSPD: torch.Tensor) -> torch.Tensor:
        """Returns (N, D)."""
        class_N1D = self.class_token.expand(x_NSPD.shape[0], -1, -1)
        x_NSPD = x_NSPD + self.temporal_embed
        if self.places:
            x_NSPD = x_NSPD + functional.pad(self.pos_embed, (0, 0, 1, 0))
        x_NLD = self.norm(torch.cat([class_N1D, x_NSPD.flatten(1, 2)], 1))
        # Only the class token is read, so only its query is computed.
        return (class_N1D + self.attention(x_NLD[:, :1], x_NLD))[:, 0]


@MODELS.register_module()
class ConvProbe(nn.Module):
    """Three 3x3x3 convolutions over time and grid, of this project.

    A patch is described by the mean of its tokens over time and by the difference from it.
    Both go linearly to ``channels``, the difference to unit variance (what changes is a
    small part of what is there), then through the convolutions and a mean over time and
    grid. 3,051,264 parameters.
    """

    def __init__(self, in_channels, num_steps, grid, channels: int = 256) -> None:
        super().__init__()
        self.grid, self.out_channels = grid, channels
        self.norm = nn.LayerNorm(in_channels)
        self.mean = nn.Linear(in_channels, channels)
        self.change = nn.Linear(in_channels, channels, bias=False)
        self.scale = nn.BatchNorm3d(channels)
        self.convs = nn.Sequential(*(
            part for _ in range(3) for part in (
                nn.Conv3d(channels, channels, 3, padding=1, groups=2, bias=False),
                nn.BatchNorm3d(channels), nn.ReLU(inplace=True))))

    def forward(self, x_NSPD: torch.Tensor) -> torch.Tensor:
        """Returns (N, channels)."""
        x_NSPD = self.norm(x_NSPD[:, :, 1:])
        mean_N1PD = x_NSPD.mean(1, keepdim=True)
        change, mean = (x_NSPC.permute(0, 3, 1, 2).unflatten(3, self.grid) for x_NSPC in (
            self.change(x_NSPD - mean_N1PD), self.mean(mean_N1PD)))
        return self.convs(self.scale(change) + mean).mean((2, 3, 4))


@MODELS.register_module()
class ProbeHead(BaseHead):
    """A probe, dropout and a linear classifier.

    Args:
        probe (dict): Type and arguments, without D, S and (H, W).
        dropout_ratio (float): Share of the probe's vector that is dropped.
        init_std (float): Standard deviation of the classifier's first weights.
        kwargs: Those of :class:`mmaction.models.heads.BaseHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, num_steps: int,
                 grid: tuple[int, int], probe: dict, dropout_ratio: float = 0.5,
                 init_std: float = 0.01, **kwargs) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.probe = MODELS.build(dict(probe, in_channels=in_channels, num_steps=num_steps,
                                       grid=grid))
        self.dropout, self.init_std = nn.Dropout(dropout_ratio), init_std
        self.fc_cls = nn.Linear(self.probe.out_channels, num_classes)

    def init_weights(self) -> None:
        """Initialises the classifier; torch has initialised the probe."""
        normal_init(self.fc_cls, std=self.init_std)

    def forward(self, x_NSPD: torch.Tensor, **kwargs) -> torch.Tensor:
        """Returns the logits of clips, (N, K), from their tokens in any float format."""
        return self.fc_cls(self.dropout(self.probe(x_NSPD.float())))


@MODELS.register_module()
class FoundationRecognizer(Recognizer3D):
    """Joins a :class:`~.encoders.FrozenEncoder` and a :class:`ProbeHead`.

    The head gets the width and the grid of the backbone, and the frames the mean and the
    standard deviation that it was trained with.

    Args:
        backbone (dict): The encoder.
        cls_head (dict): Without ``in_channels``, ``num_steps`` and ``grid``.
        data_preprocessor (dict): Without ``mean`` and ``std``.
    """

    def __init__(self, backbone: dict, cls_head: dict, data_preprocessor: dict) -> None:
        super().__init__(backbone)
        encoder = self.backbone
        self.data_preprocessor = MODELS.build(
            dict(data_preprocessor, mean=encoder.mean, std=encoder.std))
        self.cls_head = MODELS.build(dict(
            cls_head, in_channels=encoder.embed_dims, num_steps=encoder.num_steps,
            grid=encoder.grid))

    def init_weights(self) -> None:
        """Loads published weights: those of the backbone, and of its own probe."""
        super().init_weights()
        self.cls_head.probe.load_state_dict(self.backbone.published_probe, strict=False)
        self.backbone.published_probe = {}
