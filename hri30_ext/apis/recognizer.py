"""One recognizer for files, arrays and streams.

Importing this file imports neither torch nor MMAction2: an exported model runs where they
are not installed.
"""

import msgspec

from ..deploy.runtime.recognizer import ClipRecognizer, Prediction
from ..deploy.runtime.streaming import Stream
from ..errors import HRI30Error

__all__ = ['Prediction', 'Recognizer']


class Recognizer(ClipRecognizer):
    """A trained model that recognizes clips, arrays and streams.

    A config and a checkpoint need torch and MMAction2; scores are those of
    ``tools/test.sh``. An exported folder (:meth:`load`) needs neither.

    >>> recognizer = Recognizer.load('work_dirs/exported')  # doctest: +SKIP
    >>> recognizer.predict('clip.avi').top(1)  # doctest: +SKIP
    [('PickUpDrill', 0.97)]

    Args:
        config (str): Path of the config.
        checkpoint (str): Its weights.
        backend (str): ``torch``; other backends run exported models.
        device (str, optional): As in torch, such as ``cuda:0``; by default CUDA if it is
            available.
        options (dict, optional): As parsed from ``--cfg-options``.

    Raises:
        HRI30Error: an invalid config, checkpoint or option.
    """

    def __init__(self, config: str, checkpoint: str, backend: str = 'torch',
                 device: str | None = None, options: dict | None = None) -> None:
        if backend != 'torch':
            raise HRI30Error(
                f'backend={backend!r}: a checkpoint is run by torch.\nExport it with '
                'tools/deploy/export.py and use Recognizer.load(FOLDER) for onnx and '
                'openvino.')
        from mmengine.device import get_device

        from ..deploy.runtime.exported import ModelInfo
        from ..deploy.torch_backend import TorchBackend
        from ..evaluation.calibration import load_temperature
        from ..hardware import autocast_dtype
        from ..transforms.flip import mirrored_labels
        from ..video.preprocessing import Preprocessing
        from .testing import prepare

        self._cfg = cfg = prepare(config, checkpoint, options)
        info = ModelInfo(
            classes=tuple(cfg.classes), preprocessing=Preprocessing.from_config(cfg),
            format='torch', precision='fp32', files={},
            temperature=load_temperature(checkpoint))
        mirrored_K = None
        if cfg.get('test_flip'):
            changed = mirrored_labels(cfg.classes)[0]
            mirrored_K = [changed.get(label, label) for label in range(len(cfg.classes))]
        device = device or get_device()
        super().__init__(info, TorchBackend(
            cfg, checkpoint, device, autocast_dtype(cfg, device)), mirrored_K)

    def stream(self, **settings) -> Stream:
        """See :meth:`ClipRecognizer.stream`.

        The default window is measured on the training clips, when a stream first needs it.
        """
        if self.info.window_seconds is None and settings.get('window_seconds') is None:
            from ..deploy.export import measure_window_seconds
            self.info = msgspec.structs.replace(
                self.info, window_seconds=measure_window_seconds(
                    self._cfg, self.info.preprocessing))
        return super().stream(**settings)
