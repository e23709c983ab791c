"""The scores of a split's clips: the one object that analyses read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np

from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES
from ..utils.fileio import atomic_path
from ..utils.reading import read_arrays

#: The file of a result folder that holds them.
SCORES = 'scores.npz'


@dataclass(frozen=True)
class Results:
    """Scores of the N clips of a split, sorted by video, for K classes.

    Raises:
        HRI30Error: lengths that disagree, a video that occurs twice, scores that are
            not finite, or labels out of range.
    """

    #: Names of files with their endings, each once; files of one name in two folders keep
    #: the folder, as in ``a/clip1.avi``.
    videos: Sequence[str]
    scores_NK: np.ndarray  # class probabilities, float32
    classes: Sequence[str]  # names
    #: In [0, K), int64; None if they are not known, or there are no clips.
    labels_N: np.ndarray | None = None
    #: Groups of recordings (SID), int64; -1 where not known, as for test clips of HRI30.
    groups_N: np.ndarray | None = None
    #: Path of each clip when it was tested; empty where not known.
    filenames: Sequence[str] | None = None
    data: str = ''  # what the clips are, for titles
    #: Clips that could not be read, which are not among the videos: the reason by video.
    failed: Mapping[str, str] = field(default_factory=dict)
    source: str = field(default='results', compare=False)  # for messages

    def __post_init__(self) -> None:
        videos, classes = list(map(str, self.videos)), list(map(str, self.classes))
        count = len(videos)
        order = sorted(range(count), key=videos.__getitem__)

        def fail(problem: str) -> NoReturn:
            raise HRI30Error(f'{self.source}: {problem}')

        def sort(name: str, values: Sequence) -> list:
            if len(values) != count:
                fail(f'{len(values)} {name} of {count} videos.')
            return [values[i] for i in order]

        scores_NK = np.asarray(self.scores_NK, np.float32)
        if scores_NK.shape != (count, len(classes)):
            fail(f'scores of shape {scores_NK.shape}, expected ({count}, {len(classes)}), '
                 'clips by classes.')
        unsound = np.flatnonzero(~np.isfinite(scores_NK).all(axis=1))
        if len(unsound):
            fail(f'the scores of {len(unsound)} of {count} clips are not finite numbers:\n'
                 f'{first_cases(videos[i] for i in unsound)}\nThe model diverged: train it '
                 'with a lower lr, with warm-up, or with precision=fp32.')
        labels_N = self.labels_N
        if labels_N is not None:
            labels_N = np.array(sort('labels', labels_N), np.int64).reshape(count)
            last = len(classes) - 1
            if count and not 0 <= labels_N.min() <= labels_N.max() <= last:
                fail(f'labels {labels_N.min()} to {labels_N.max()}, expected 0 to {last}.')
        groups = [-1] * count if self.groups_N is None else self.groups_N
        vars(self).update(
            videos=sort('videos', videos), scores_NK=scores_NK[order], classes=classes,
            labels_N=labels_N if count else None,
            groups_N=np.array(sort('groups', groups), np.int64).reshape(count),
            filenames=list(map(str, sort('filenames', self.filenames or [''] * count))),
            failed={str(video): str(self.failed[video]) for video in sorted(self.failed)})
        twice = sorted({a for a, b in pairwise(self.videos) if a == b}
                       | self.failed.keys() & set(videos))
        if twice:
            fail(f'videos that are there twice:\n{first_cases(twice)}')

    def require_labels(self) -> None:
        """Raises an HRI30Error if there are no clips, or none with labels."""
        if self.labels_N is None:
            raise HRI30Error(f'{self.source}: no labelled clips.\nExpected results of the '
                             'validation, or of test clips with '
                             'annotations/test_set_labels.csv.')

    @property
    def predicted_N(self) -> np.ndarray:
        """The class with the highest score, int64, (N, )."""
        return self.scores_NK.argmax(axis=1)

    @property
    def correct_N(self) -> np.ndarray:
        """Whether the prediction is the label, booleans, (N, )."""
        return self.predicted_N == self.labels_N

    @property
    def known_groups(self) -> list[int]:
        """The groups of recordings that occur, ascending, without -1."""
        return np.unique(self.groups_N[self.groups_N >= 0]).tolist()

    @staticmethod
    def video_id(video: str) -> str:
        """Returns the name of a video without its ending, as a submission has it.

        >>> Results.video_id('testvideo001.avi')
        'testvideo001'
        """
        suffix = PurePosixPath(video).suffix
        return video.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else video

    def without(self, failed: Mapping[str, str]) -> 'Results':
        """Returns the results with some clips turned into failed ones: the reason by video.
        A clip that has failed already keeps its own reason.
        """
        kept = [i for i, video in enumerate(self.videos) if video not in failed]
        if len(kept) == len(self.videos):
            return self
        return replace(
            self, videos=[self.videos[i] for i in kept], scores_NK=self.scores_NK[kept],
            labels_N=None if self.labels_N is None else self.labels_N[kept],
            groups_N=self.groups_N[kept], filenames=[self.filenames[i] for i in kept],
            failed={**{video: failed[video] for video in self.videos if video in failed},
                    **self.failed})

    def save(self, path: str | Path) -> None:
        """Writes ``scores.npz``: plain arrays, no pickles."""
        arrays = dict(videos=np.array(self.videos, str), scores=self.scores_NK,
                      classes=np.array(self.classes, str), groups=self.groups_N,
                      filenames=np.array(self.filenames, str), data=np.array(self.data))
        if self.labels_N is not None:
            arrays['labels'] = self.labels_N
        if self.failed:
            arrays['failed_videos'] = np.array(list(self.failed), str)
            arrays['failed_reasons'] = np.array(list(self.failed.values()), str)
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)

    @classmethod
    def load(cls, folder: str | Path, need_labels: bool = False) -> 'Results':
        """Reads a result folder of ``tools/test.sh``, or its ``scores.npz``.

        Raises:
            HRI30Error: no such file, another one, or one without labels if they are needed.
        """
        path = Path(folder).expanduser()
        path = path / SCORES if path.is_dir() else path
        if not path.is_file():
            raise HRI30Error(f'{path}: no such file.\nExpected a result folder of '
                             'tools/test.sh, such as val/ or test/ in what --out named.')
        arrays = read_arrays(path, 'the scores of tools/test.sh; test again')
        try:
            failed = [arrays.get(name, np.array([], str)).tolist()
                      for name in ('failed_videos', 'failed_reasons')]
            results = cls(
                arrays['videos'].tolist(), arrays['scores'], arrays['classes'].tolist(),
                arrays.get('labels'), arrays['groups'], arrays['filenames'].tolist(),
                str(arrays['data']), dict(zip(*failed, strict=True)), source=str(path))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise HRI30Error(f'{path}: not the scores of tools/test.sh '
                             f'({str(error)[:200]}).\nTest again to replace it.') from error
        if need_labels:
            results.require_labels()
        return results
