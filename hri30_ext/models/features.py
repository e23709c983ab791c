"""Recognizers that take features, as their backbone returns them, as well as frames.

A batch of frames is one tensor or a list of tensors; a tuple is a batch of features, each
(N, R, ...): R rows of a clip, which are its frames in 2D recognizers, otherwise its views.
"""

from mmaction.models import ActionDataPreprocessor
from mmaction.models.recognizers import Recognizer2D, Recognizer3D
from mmaction.registry import MODELS

from .probes import FoundationRecognizer


@MODELS.register_module()
class FeatureActionDataPreprocessor(ActionDataPreprocessor):
    """Normalises frames, and moves features to the device as they are."""

    def forward(self, data: dict, training: bool = False) -> dict:
        if isinstance(data['inputs'], tuple):
            return self.cast_data(data)
        return super().forward(data, training)


class _TakesFeatures:
    """A recognizer whose head gets features that are its input."""

    def extract_feat(self, inputs, *args, **kwargs) -> tuple:
        if not isinstance(inputs, tuple):
            return super().extract_feat(inputs, *args, **kwargs)
        features = [tensor.flatten(0, 1) for tensor in inputs]
        return (features if len(features) > 1 else features[0],
                dict(num_segs=inputs[0].shape[1]))


@MODELS.register_module()
class FeatureRecognizer2D(_TakesFeatures, Recognizer2D):
    """mmaction2's recognizer of frames."""


@MODELS.register_module()
class FeatureRecognizer3D(_TakesFeatures, Recognizer3D):
    """mmaction2's recognizer of clips."""


@MODELS.register_module()
class FeatureFoundationRecognizer(_TakesFeatures, FoundationRecognizer):
    """A frozen model and its probe."""


def take_features(model: dict) -> None:
    """Changes the config of a model: what is built takes features too."""
    for part in (model, model['data_preprocessor']):
        part['type'] = f'Feature{part["type"]}'
