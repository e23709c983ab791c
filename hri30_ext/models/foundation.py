"""A frozen model, adapters in it or a probe on it, and a classifier."""

from mmaction.models.recognizers import Recognizer3D
from mmaction.registry import MODELS


@MODELS.register_module()
class FoundationRecognizer(Recognizer3D):
    """Joins a :class:`~.encoders.FrozenEncoder` and a :class:`~.probes.ProbeHead`.

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
