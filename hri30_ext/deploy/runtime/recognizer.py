"""Recognizes clips and streams with a model, without torch and MMAction2.

Shapes: N views of clips, V views of one clip, T frames of a view, H height, W width, K
classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
    """

    def __init__(self, info, backend: Callable, mirrored: Sequence[int] | None = None
                 ) -> None:
        self.info, self.backend = info, backend
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
        predictions = []
        for _, one in self.predict_files(clips):
            if isinstance(one, HRI30Error):
                raise one
            predictions.append(one)
        return predictions

    def predict_files(self, files: Iterable
                      ) -> Iterator[tuple[str, Prediction | HRI30Error]]:
        """Recognizes clips in full batches, past broken ones.

        Yields each file, in order, with its prediction or with why it cannot be read.
        """
        for group in self._groups(files):
            read = [*map(self._views, group)]
            predictions = self.predict_views(
                views for views in read if isinstance(views, np.ndarray))
            for clip, views in zip(group, read):
                name = '' if isinstance(clip, np.ndarray) else str(clip)
                yield name, views if isinstance(views, HRI30Error) else replace(
                    next(predictions), clip=name)

    def predict_views(self, clips: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Recognizes clips whose frames are selected and prepared, (V, T, H, W, 3) uint8
        RGB each; scores of views are averaged.
        """
        for group in self._groups(clips):
            views_NTHWC = np.concatenate(group)
            scores_NK = np.concatenate([
                self._score(views_NTHWC[at:at + BATCH_SIZE])
                for at in range(0, len(views_NTHWC), BATCH_SIZE)])
            for scores_VK in np.split(scores_NK, len(group)):
                scores_K = scores_VK.mean(axis=0, dtype=np.float64)
                yield Prediction(self.classes, scores_K.astype(np.float32),
                                 **judge(self.info, scores_K))

    def _groups(self, clips: Iterable) -> Iterator[list]:
        """Yields as many clips as there are in a batch of views, one at least."""
        clips, size = iter(clips), max(1, BATCH_SIZE // self.info.preprocessing.total_views)
        while group := [*islice(clips, size)]:
            yield group

    def _views(self, clip) -> np.ndarray | HRI30Error:
        """Returns the views of a clip, (V, T, H, W, 3) uint8, or why it cannot be read."""
        try:
            _check_clip(clip)
            if isinstance(clip, np.ndarray):
                return self.info.preprocessing.clip(clip)
            return read_clip(clip, self.info.preprocessing)
        except HRI30Error as error:
            return error

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
    elif not isinstance(clip, np.ndarray) or clip.dtype != np.uint8 or clip.ndim != 4 \
            or clip.shape[3] != 3 or not clip.size:
        found = f'{getattr(clip, "dtype", "")} {getattr(clip, "shape", type(clip))}'
        raise HRI30Error(f'a clip: found {found}; expected the path of a video, or uint8 '
                         'RGB (frames, height, width, 3) with one frame or more.')
