"""One recognizer for files, arrays and streams, whatever runs the model.

Importing this file imports neither torch nor MMAction2: an exported model runs where they
are not installed. Shapes: N views of clips, V views of one clip, T frames of a view, H
height, W width, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..deploy.runtime.exported import ModelInfo, load
from ..deploy.runtime.streaming import Stream, StreamSettings
from ..deploy.runtime.video_io import check_file, read_clip
from ..errors import HRI30Error
from ..video.preprocessing import Preprocessing

#: Views that are scored at once: more gain little on a CPU and take memory.
BATCH_SIZE = 8


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a clip shows.

    Args:
        classes (Sequence[str]): Class names; the position is the label.
        scores (np.ndarray): Class probabilities as the model gives them, that is, without
            its temperature, (K, ) float32.
    """

    classes: Sequence[str]
    scores: np.ndarray

    @property
    def label(self) -> int:
        """The class with the highest score, in [0, K)."""
        return int(self.scores.argmax())

    @property
    def class_name(self) -> str:
        """Its name."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Its score, in [0, 1]."""
        return float(self.scores[self.label])

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns names and scores of the ``k`` best classes, best first."""
        return [(self.classes[i], float(self.scores[i]))
                for i in np.argsort(-self.scores, kind='stable')[:k]]


class Recognizer:
    """A trained model that names what clips, arrays and streams show.

    From a config and a checkpoint it needs torch and MMAction2, and reads files with the
    config's own test pipeline: scores are those of ``tools/test.sh``. From an exported
    folder (:meth:`load`) it needs neither, and reads files with OpenCV.

    >>> recognizer = Recognizer.load('work_dirs/exported')  # doctest: +SKIP
    >>> recognizer.predict('clip.avi').top(1)  # doctest: +SKIP
    [('PickUpDrill', 0.97)]

    Args:
        config (str): Path of the config.
        checkpoint (str): Its weights.
        backend (str): ``torch``; others run exported models.
        device (str, optional): As in torch, such as ``cuda:0``; by default CUDA where
            there is one.
        options (dict, optional): As parsed from ``--cfg-options``.

    Attributes:
        info: The model (:class:`~hri30_ext.deploy.runtime.exported.ModelInfo`).
        backend (Callable): Scores views: (N, T, H, W, 3) uint8 RGB to (N, K) float32.
        batch_size (int): Views that are scored at once.

    Raises:
        HRI30Error: a mistake of the user's.
    """

    def __init__(self, config: str, checkpoint: str, backend: str = 'torch',
                 device: str | None = None, options: dict | None = None) -> None:
        if backend != 'torch':
            raise HRI30Error(
                f'backend={backend!r}: a checkpoint is run by torch.\nExport it with '
                'tools/deploy/export.py and take Recognizer.load(FOLDER) for onnx and '
                'openvino.')
        self._set(*_open_checkpoint(config, checkpoint, device, options))

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> 'Recognizer':
        """Reads what ``tools/deploy/export.py`` wrote.

        Args:
            folder (str | Path): The exported folder.
            threads (int, optional): Of the runtime; by default, its own choice.

        Raises:
            HRI30Error: no such folder, or one that cannot be read.
        """
        return cls.from_backend(*load(folder, threads=threads))

    @classmethod
    def from_backend(cls, info, backend: Callable) -> 'Recognizer':
        """Makes a recognizer of a model that is there already; see the attributes."""
        recognizer = cls.__new__(cls)
        recognizer._set(info, backend)
        return recognizer

    def _set(self, info, backend: Callable, read: Callable | None = None,
             mirrored: Sequence[int] | None = None,
             measure_window: Callable | None = None) -> None:
        """Takes what a model consists of.

        Args:
            info: See the attributes.
            backend (Callable): See the attributes.
            read (Callable, optional): From the path of a clip to its views, (V, T, H, W, 3)
                uint8; by default, OpenCV and the model's preprocessing.
            mirrored (Sequence[int], optional): Label of each class in a mirrored clip,
                (K, ), where the scores of both are averaged.
            measure_window (Callable, optional): Returns the median length of the training
                clips in seconds, or None: it is asked for only where a stream needs it.
        """
        self.info, self.backend, self.batch_size = info, backend, BATCH_SIZE
        self._read = read or (lambda path: read_clip(path, info.preprocessing))
        self._measure_window = measure_window
        self._mirrored = None if mirrored is None else np.asarray(mirrored)

    @property
    def classes(self) -> Sequence[str]:
        """Class names; the position is the label."""
        return self.info.classes

    def predict(self, clips) -> Prediction | list[Prediction]:
        """Recognizes whole clips.

        Args:
            clips (str | Path | np.ndarray | Iterable): A file, or all frames of a clip as
                uint8 RGB, (frames, H, W, 3), of any length and size; or several of either,
                which need not fit in memory at once.

        Returns:
            Prediction | list[Prediction]: One for one, a list for several, in their order.

        Raises:
            HRI30Error: no such file, one that is no video, or an array of another type or
                shape, or without frames.
        """
        if isinstance(clips, str | Path | np.ndarray):
            return next(self.predict_each([clips]))
        if not isinstance(clips, Iterable):
            raise HRI30Error(f'predict: found {type(clips).__name__}, expected the path of '
                             'a video, a uint8 array (frames, height, width, 3), or a list '
                             'of them.')
        return list(self.predict_each(clips))

    def predict_each(self, clips: Iterable) -> Iterator[Prediction]:
        """Recognizes clips one after the other, in full batches.

        Arguments and errors are those of :meth:`predict`; nothing is read before the first
        result is asked for.
        """
        if isinstance(clips, Sequence):  # a mistake is told before the work, not after
            for clip in clips:
                _check_clip(clip)
        yield from self.predict_views(map(self._views, clips))

    def predict_views(self, clips: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Recognizes clips whose frames are chosen and prepared already.

        Args:
            clips (Iterable[np.ndarray]): The views of each, (V, T, H, W, 3) uint8 RGB.

        Yields:
            Prediction: Of each clip, in their order; its views are averaged.
        """
        waiting: list[np.ndarray] = []  # views that are not scored yet, (T, H, W, 3)
        scored: list[np.ndarray] = []  # scores of views, (K, ), of clips not yet complete
        views: list[int] = []  # of the clips that are not yet complete

        def score(least: int) -> None:
            while len(waiting) >= least:
                scored.extend(self._score(np.stack(waiting[:self.batch_size])))
                del waiting[:self.batch_size]

        def complete() -> Iterator[Prediction]:
            while views and len(scored) >= views[0]:
                count = views.pop(0)
                scores_K = np.mean(scored[:count], axis=0, dtype=np.float64)
                del scored[:count]
                yield Prediction(self.classes, scores_K.astype(np.float32))

        for views_VTHWC in clips:
            views.append(len(views_VTHWC))
            waiting.extend(views_VTHWC)
            score(self.batch_size)
            yield from complete()
        score(1)
        yield from complete()

    def _views(self, clip) -> np.ndarray:
        """Returns the views of a clip, (V, T, H, W, 3) uint8."""
        _check_clip(clip)
        if isinstance(clip, np.ndarray):
            return self.info.preprocessing.clip(clip)
        return self._read(str(clip))

    def _score(self, views_NTHWC: np.ndarray) -> np.ndarray:
        """Returns class probabilities, (N, K) float32."""
        scores_NK = self.backend(views_NTHWC)
        if self._mirrored is None:
            return scores_NK
        flipped_NTHWC = np.ascontiguousarray(views_NTHWC[:, :, :, ::-1])
        return (scores_NK + self.backend(flipped_NTHWC)[:, self._mirrored]) / 2

    def stream(self, **settings) -> Stream:
        """Recognizes what frames show that come one by one.

        Args:
            **settings: Of :class:`~hri30_ext.deploy.runtime.streaming.StreamSettings`.

        Raises:
            HRI30Error: a setting that makes no sense.
        """
        if (self._measure_window and self.info.window_seconds is None
                and settings.get('window_seconds') is None):
            self.info = replace(self.info, window_seconds=self._measure_window())
        return Stream(self.info, self.backend, StreamSettings.create(**settings))


def _check_clip(clip) -> None:
    """Refuses what is no clip, before anything is computed.

    Raises:
        HRI30Error: see :meth:`Recognizer.predict`.
    """
    if isinstance(clip, str | Path):
        check_file(clip)
        return
    if not isinstance(clip, np.ndarray):
        raise HRI30Error(f'a clip: found {type(clip).__name__}, expected the path of a '
                         'video or a uint8 array (frames, height, width, 3).')
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3:
        raise HRI30Error(
            f'a clip: found an array of {clip.dtype}, {clip.shape}; expected RGB as uint8, '
            '(frames, height, width, 3), values in [0, 255].')
    if not clip.size:
        raise HRI30Error(f'a clip: found an array without frames or pixels, {clip.shape}; '
                         'expected (frames, height, width, 3) with one frame or more.')


class _AsTested:
    """A backend in the precision that ``tools/test.sh`` tests in, as its loop sets it.

    Args:
        backend: See :class:`~hri30_ext.deploy.runtime.backends.Backend`.
        precision (Callable): Makes the context of a call.
    """

    def __init__(self, backend, precision: Callable) -> None:
        self.splittable, self._backend, self._precision = (
            backend.splittable, backend, precision)

    def __call__(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        with self._precision():
            return self._backend(clips_NTHWC)

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        with self._precision():
            return self._backend.frame_features(frames_MHWC)

    def clip_scores(self, features_NTCHW: np.ndarray) -> np.ndarray:
        with self._precision():
            return self._backend.clip_scores(features_NTCHW)


def _open_checkpoint(config: str, checkpoint: str, device: str | None,
                     options: dict | None) -> tuple:
    """Builds a model from its config; arguments and errors are those of the class.

    Returns:
        tuple: Arguments of :meth:`Recognizer._set`.
    """
    import torch
    from mmengine.dataset import Compose
    from mmengine.device import get_device
    from mmengine.runner.amp import autocast

    from ..deploy.export import measure_window_seconds
    from ..deploy.torch_backend import TorchBackend
    from ..evaluation.calibration import load_temperature
    from ..transforms.flip import mirrored_labels
    from .testing import prepare

    cfg = prepare(config, checkpoint, options)
    device = device or get_device()
    # It sets the scope of the registries too.
    backend = _AsTested(TorchBackend(cfg, checkpoint, device), partial(
        autocast, torch.device(device).type, enabled=cfg.test_cfg.get('fp16', False)))
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    info = ModelInfo(
        classes=tuple(cfg.classes), preprocessing=Preprocessing.from_config(cfg),
        format='torch', precision='fp32', files={},
        temperature=load_temperature(checkpoint))
    mirrored_K = None
    if cfg.get('test_flip'):
        changed = mirrored_labels(cfg.classes)[0]
        mirrored_K = [changed.get(label, label) for label in range(len(cfg.classes))]

    def read(path: str) -> np.ndarray:
        packed = pipeline(dict(filename=path, label=-1, start_index=0, modality='RGB',
                               video_id=Path(path).stem, group=-1))
        inputs = packed['inputs'].numpy()
        if inputs.ndim == 5:  # NCTHW
            return np.ascontiguousarray(inputs.transpose(0, 2, 3, 4, 1))
        frames_MHWC = inputs.transpose(0, 2, 3, 1)  # NCHW: the frames of all views
        views = frames_MHWC.reshape(-1, info.preprocessing.num_frames,
                                    *frames_MHWC.shape[1:])
        return np.ascontiguousarray(views)

    return info, backend, read, mirrored_K, partial(
        measure_window_seconds, cfg, info.preprocessing)
