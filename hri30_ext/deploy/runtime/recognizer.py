"""Recognizes clips and streams with a model, without torch and MMAction2.

Shapes: N views of clips, V views of one clip, T frames of a view, H height, W width, K
classes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import HRI30Error
from ...utils.text import printable
from ...video.decode import check_file, read_clip
from .certainty import judge
from .exported import load
from .streaming import Stream, StreamSettings
from .video_io import find_videos

#: Views in a batch: more gain little on a CPU and take memory.
BATCH_SIZE = 8


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of a clip. ``set`` and ``unknown`` are None where they were not fitted."""

    classes: Sequence[str]  # names; the position is the label
    # Class probabilities of the model, without its temperature, (K, ) float32.
    scores: np.ndarray
    clip: str = ''  # path of the file; empty for an array
    # Names, the most probable first, which hold the true class with ``certainty``; it may
    # be empty.
    set: tuple[str, ...] | None = None
    certainty: float | None = None  # in (0, 1)
    unknown: bool | None = None  # whether the clip seems to be of no class

    def __repr__(self) -> str:
        of = f', {printable(Path(self.clip).name)}' if self.clip else ''
        return f'Prediction({self.class_name} {self.score:.4f}{of})'

    @property
    def label(self) -> int:
        """The class with the highest score, in [0, K), whose name and score, in [0, 1],
        are ``class_name`` and ``score``."""
        return int(self.scores.argmax())

    @property
    def class_name(self) -> str:
        return self.classes[self.label]

    @property
    def score(self) -> float:
        return float(self.scores[self.label])

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns names and scores of the ``k`` best classes, best first."""
        return [(self.classes[i], float(self.scores[i]))
                for i in np.argsort(-self.scores, kind='stable')[:k]]

    def judgement(self) -> dict:
        """Returns ``set``, ``certainty`` and ``unknown``, those that were fitted."""
        return {name: value for name in ('set', 'certainty', 'unknown')
                if (value := getattr(self, name)) is not None}


class ClipRecognizer:
    """A model that recognizes clips, arrays and streams.

    Args:
        info: The model, a :class:`~hri30_ext.deploy.runtime.exported.ModelInfo`.
        backend (Callable): Scores views: (N, T, H, W, 3) uint8 RGB to (N, K) float32, a
            :class:`~hri30_ext.deploy.runtime.backends.Backend`.
        mirrored (Sequence[int], optional): Label of each class in a mirrored clip, (K, );
            the scores of a clip and its mirror image are then averaged.

    Attributes:
        batch_size (int): Views in a batch.
    """

    def __init__(self, info, backend: Callable, mirrored: Sequence[int] | None = None
                 ) -> None:
        self.info, self.backend, self.batch_size = info, backend, BATCH_SIZE
        self._mirrored = None if mirrored is None else np.asarray(mirrored)

    @staticmethod
    def load(folder: str | Path, threads: int | None = None, provider: str | None = None
             ) -> 'ClipRecognizer':
        """Reads an exported model; see :func:`~hri30_ext.deploy.runtime.exported.load`."""
        return ClipRecognizer(*load(folder, threads, provider))

    @property
    def classes(self) -> Sequence[str]:
        """Class names; the position is the label."""
        return self.info.classes

    def predict(self, clips) -> Prediction | list[Prediction]:
        """Recognizes whole clips.

        Args:
            clips (str | Path | np.ndarray | Iterable): A file, or all frames of a clip as
                uint8 RGB, (frames, H, W, 3), of any length and size; or several of either,
                which need not fit in memory together; or a folder of videos.

        Returns:
            Prediction | list[Prediction]: One for one clip, a list for several, in order;
            those of a folder are ordered by name.

        Raises:
            HRI30Error: no such file, a file that is no video (:meth:`predict_files` goes
                on), a folder without videos, or an array of another type or shape, or
                without frames.
        """
        if isinstance(clips, str | Path) and Path(clips).expanduser().is_dir():
            clips = find_videos(clips)
        if isinstance(clips, str | Path | np.ndarray) or not isinstance(clips, Iterable):
            return self.predict([clips])[0]
        if isinstance(clips, Sequence):  # errors come before the work, not after
            for clip in clips:
                _check_clip(clip)
        found = []
        for _, one in self.predict_files(clips):
            if isinstance(one, HRI30Error):
                raise one
            found.append(one)
        return found

    def predict_files(self, files: Iterable
                      ) -> Iterator[tuple[str, Prediction | HRI30Error]]:
        """Recognizes clips in full batches, past broken ones.

        Yields each file, in order, with its prediction or with why it cannot be read.
        """
        read: deque[tuple[str, HRI30Error | None]] = deque()  # and not yielded yet

        def views() -> Iterator[np.ndarray]:
            for clip in files:
                name = '' if isinstance(clip, np.ndarray) else str(clip)
                try:
                    views_VTHWC = self._views(clip)
                except HRI30Error as error:
                    read.append((name, error))
                else:
                    read.append((name, None))
                    yield views_VTHWC

        for prediction in self.predict_views(views()):
            while read[0][1] is not None:
                yield read.popleft()
            name, _ = read.popleft()
            yield name, replace(prediction, clip=name)
        yield from read

    def predict_views(self, clips: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Recognizes clips whose frames are selected and prepared, (V, T, H, W, 3) uint8
        RGB each; scores of views are averaged.
        """
        waiting: list[np.ndarray] = []  # views without scores, (T, H, W, 3)
        scored: list[np.ndarray] = []  # scores of views, (K, ), of incomplete clips
        views: list[int] = []  # numbers of views of the incomplete clips

        def score(least: int) -> Iterator[Prediction]:
            while len(waiting) >= least:
                scored.extend(self._score(np.stack(waiting[:self.batch_size])))
                del waiting[:self.batch_size]
            while views and len(scored) >= views[0]:
                count = views.pop(0)
                scores_K = np.mean(scored[:count], axis=0, dtype=np.float64)
                del scored[:count]
                yield Prediction(self.classes, scores_K.astype(np.float32),
                                 **judge(self.info, scores_K))

        for views_VTHWC in clips:
            views.append(len(views_VTHWC))
            waiting.extend(views_VTHWC)
            yield from score(self.batch_size)
        yield from score(1)

    def _views(self, clip) -> np.ndarray:
        """Returns the views of a clip, (V, T, H, W, 3) uint8."""
        _check_clip(clip)
        if isinstance(clip, np.ndarray):
            return self.info.preprocessing.clip(clip)
        return read_clip(clip, self.info.preprocessing)

    def _score(self, views_NTHWC: np.ndarray) -> np.ndarray:
        """Returns class probabilities, (N, K) float32."""
        scores_NK = self.backend(views_NTHWC)
        if self._mirrored is None:
            return scores_NK
        flipped_NTHWC = np.ascontiguousarray(views_NTHWC[:, :, :, ::-1])
        return (scores_NK + self.backend(flipped_NTHWC)[:, self._mirrored]) / 2

    def stream(self, **settings) -> Stream:
        """Recognizes frames that come one by one, with settings of
        :class:`~hri30_ext.deploy.runtime.streaming.StreamSettings`; an HRI30Error names an
        invalid one.
        """
        return Stream(self.info, self.backend, StreamSettings.create(**settings))


def _check_clip(clip) -> None:
    if isinstance(clip, str | Path):
        check_file(clip)
        return
    if not isinstance(clip, np.ndarray):
        raise HRI30Error(f'a clip: found {type(clip).__name__}, expected the path of a '
                         'video or a uint8 array (frames, height, width, 3).')
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or not clip.size:
        raise HRI30Error(
            f'a clip: found an array of {clip.dtype}, {clip.shape}; expected RGB as uint8, '
            '(frames, height, width, 3), with one frame or more, values in [0, 255].')
