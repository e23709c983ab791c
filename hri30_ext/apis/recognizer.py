"""One recognizer for files, arrays and streams.

Importing this file imports neither torch nor MMAction2: an exported model runs where they
are not installed.
"""

from pathlib import Path

import msgspec

from ..deploy.runtime.exported import INFO_NAME
from ..deploy.runtime.recognizer import ClipRecognizer, Prediction
from ..deploy.runtime.streaming import Stream
from ..errors import HRI30Error
from ..names import PROJECT_ROOT

__all__ = ['Prediction', 'Recognizer']


class Recognizer(ClipRecognizer):
    """A trained model that recognizes clips, arrays and streams.

    A checkpoint needs torch and MMAction2; scores are those of ``tools/test.sh``. An
    exported folder (:meth:`load`) needs neither.

    >>> recognizer = Recognizer('work_dirs/demo/best.safetensors')  # doctest: +SKIP
    >>> recognizer.predict('clip.avi').top(1)  # doctest: +SKIP
    [('PickUpDrill', 0.97)]

    Args:
        config (str): Path of the config. Left out, the checkpoint says which config of
            this project it is of; no config within a checkpoint is run.
        checkpoint (str): Its weights.
        device (str, optional): As in torch, such as ``cuda:0``; by default CUDA if it is
            available.
        options (dict, optional): As parsed from ``--cfg-options``.

    Raises:
        HRI30Error: an invalid config, checkpoint or option, or a checkpoint alone that does
            not say what it is of, or is of no config here.
    """

    def __init__(self, config: str | Path | None = None,
                 checkpoint: str | Path | None = None, device: str | None = None,
                 options: dict | None = None) -> None:
        import torch
        from mmengine.device import get_device

        from ..deploy.runtime.exported import ModelInfo
        from ..deploy.torch_backend import TorchBackend
        from ..evaluation.calibration import load_certainty
        from ..hardware import autocast_dtype
        from ..transforms.flip import mirrored_classes
        from ..video.preprocessing import Preprocessing
        from .testing import prepare

        if config is None or checkpoint is None:
            checkpoint = checkpoint or config
            config, options = find_config_of(checkpoint, options)
        self.cfg = cfg = prepare(config, checkpoint, options)
        device = device or get_device()
        dtype = autocast_dtype(cfg, device)
        info = ModelInfo(
            classes=tuple(cfg.classes), preprocessing=Preprocessing.from_config(cfg),
            format='torch', files={}, **load_certainty(checkpoint),
            precision={None: 'fp32', torch.float16: 'fp16'}.get(dtype, 'bf16'))
        mirrored_K = (mirrored_classes(cfg.classes, cfg.get('mirror_pairs'))
                      if cfg.get('test_flip') else None)
        super().__init__(info, TorchBackend(cfg, checkpoint, device, dtype), mirrored_K)

    @classmethod
    def open(cls, *model: str | Path, threads: int | None = None,
             provider: str | None = None) -> ClipRecognizer:
        """Opens an exported folder, a checkpoint, a config and its checkpoint, or the
        ``best.safetensors`` of a training's work folder; see :meth:`load`.
        """
        if not (path := Path(model[0]).expanduser()).exists() and len(model) == 1:
            raise HRI30Error(f'{model[0]}: no such model.\nExpected a folder that '
                             'hri30 export wrote, a checkpoint or the work '
                             'folder of a training, or a config and its checkpoint.')
        best = path / 'best.safetensors'
        if best.is_file() and not (path / INFO_NAME).exists():
            model, path = (best, ), best
        if path.is_dir():
            return cls.load(path, threads, provider)
        if provider:
            raise HRI30Error(f'{model[0]}: provider {provider} runs exported folders, and '
                             'torch runs checkpoints.\nExport it with --format onnx.')
        if threads is not None:
            import torch
            torch.set_num_threads(threads)
        return cls(*model)

    def stream(self, **settings) -> Stream:
        """See :meth:`ClipRecognizer.stream`; the first one without a window measures the
        default on the training clips.
        """
        if self.info.window_seconds is None and settings.get('window_seconds') is None:
            from ..deploy.export import measure_window_seconds
            self.info = msgspec.structs.replace(
                self.info, window_seconds=measure_window_seconds(
                    self.cfg, self.info.preprocessing))
        return super().stream(**settings)


def find_config_of(checkpoint: str | Path, options: dict | None = None
                   ) -> tuple[str, dict]:
    """Finds the config in ``configs/`` that a checkpoint is of, and its options. Raises an
    HRI30Error if the checkpoint has no essentials, or no config here fits them.
    """
    from ..checkpoints import Essentials, read_essentials
    from ..config import load_config
    record = read_essentials(checkpoint)
    files = {file.stem: str(file) for file in (PROJECT_ROOT / 'configs').glob('*/*.py')}
    different = ['algorithm']
    if record.algorithm in files:
        settings = {name: getattr(record, name) for name in (
            'classes', 'num_frames', 'input_size', 'decode_size', 'input_format')}
        if record.sampling in ('UniformSample', 'Linspace'):
            settings['sampling'] = (
                'linspace' if record.sampling == 'Linspace' else 'mmaction2')
        if record.mean:  # of the start that it was trained from; frozen models bring theirs
            settings |= {'model.data_preprocessor.mean': record.mean,
                         'model.data_preprocessor.std': record.std}
        built = Essentials.from_config(load_config(files[record.algorithm], settings))
        different = [name for name in record.__struct_fields__
                     if name not in ('data', 'trained_on')
                     and getattr(record, name) != getattr(built, name)]
    if different:
        raise HRI30Error(
            f'{checkpoint}: is of {record.algorithm}, and no config in configs/ has its '
            f'{", ".join(different)}.\nName its config as well: CONFIG CHECKPOINT.')
    return files[record.algorithm], {**settings, **(options or {})}
