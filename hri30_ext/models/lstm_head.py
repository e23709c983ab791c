"""A head that reads the frames of a clip in order.

Shapes: N batch, T frames, C channels, D hidden units, K classes; ``M`` is N x T, the
frames of all clips one after the other.
"""

import torch
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmengine.model.weight_init import normal_init
from torch import nn


@MODELS.register_module()
class LSTMHead(BaseHead):
    """Classifies a clip with an LSTM over the features of its frames.

    The logits come from the last time step. Frames cover the whole clip in order, so only
    that step has seen how the action ends; a mean over all steps would include steps that
    have seen its beginning alone.

    Args:
        in_channels (int): Channels of a frame's features.
        dropout_ratio (float): Share of units dropped between LSTM layers and before the
            classifier.
        fc_channels (int, optional): Width of a layer with ReLU and dropout between LSTM
            and classifier; None: no such layer.
        kwargs: Those of :class:`mmaction.models.heads.BaseHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, hidden_size: int = 512,
                 num_layers: int = 2, dropout_ratio: float = 0.5,
                 fc_channels: int | None = None, **kwargs) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.lstm = nn.LSTM(
            in_channels, hidden_size, num_layers, batch_first=True,
            # Between layers only: torch warns about dropout of a single layer.
            dropout=dropout_ratio if num_layers > 1 else 0)
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc = nn.Identity() if fc_channels is None else nn.Sequential(
            nn.Linear(hidden_size, fc_channels), nn.ReLU(), nn.Dropout(dropout_ratio))
        self.fc_cls = nn.Linear(fc_channels or hidden_size, num_classes)

    def init_weights(self) -> None:
        """Initialises the classifier; torch has initialised the LSTM."""
        normal_init(self.fc_cls, std=0.01)

    def forward(self, x_MCHW: torch.Tensor, num_segs: int, **kwargs) -> torch.Tensor:
        """Returns the logits of clips, (N, K), from features of T frames, ``num_segs``."""
        x_MC = self.avg_pool(x_MCHW).flatten(1)
        x_NTC = x_MC.reshape(-1, num_segs, self.in_channels)
        # Under autocast, cuDNN's LSTM takes fp16 whatever the precision.
        with torch.autocast(x_NTC.device.type, enabled=False):
            x_NTD, _ = self.lstm(x_NTC.to(self.lstm.weight_ih_l0.dtype))
        return self.fc_cls(self.fc(self.dropout(x_NTD[:, -1])))
