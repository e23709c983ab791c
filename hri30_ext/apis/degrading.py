"""Scores of clips whose frames are changed before the model's preprocessing.

Shapes: N clips, C changes, S shares of a clip, K classes.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..datasets.hri30 import list_split
from ..errors import HRI30Error, first_cases
from ..evaluation import early
from ..evaluation.corruptions import CLEAN, CORRUPTIONS, plot_robustness
from ..evaluation.writers import write_analysis
from ..utils.fileio import check_writable
from ..video.decode import ClipError, Video
from ..video.preprocessing import FRAME_RATE
from .common import describe_data
from .lineage import compare_clips
from .recognizer import Recognizer

#: From ``frames`` of a clip, (T, H, W, 3) uint8 RGB, and a ``seed`` to those to predict.
Change = Callable[..., np.ndarray]


class ChangedScores(NamedTuple):
    """The scores of a split under several changes."""
    data: str  # data and split
    scores_NCK: np.ndarray  # class probabilities without temperature, float32
    labels_N: np.ndarray
    frames_N: np.ndarray  # number of frames
    fps_N: np.ndarray  # frames a second

    @property
    def top1_C(self) -> list[float]:
        """Accuracy under each change."""
        return (self.scores_NCK.argmax(2) == self.labels_N[:, None]).mean(0).tolist()

    def times(self) -> np.ndarray:
        """Returns when the shares of each clip are seen, in ms, (N, S)."""
        seen_NS = [[early.frames_seen(frames, share) for share in early.SHARES]
                   for frames in self.frames_N]
        return 1000 * np.array(seen_NS) / self.fps_N[:, None]


def score_changed(recognizer: Recognizer, split: str, changes: Sequence[Change]
                  ) -> ChangedScores:
    """Scores the clips of a split under each change, whose seed is the number of the clip.

    Clips that cannot be read are named on stderr and left out. Raises an HRI30Error if
    there are none with labels, none that can be read, or some that the model was trained
    on.
    """
    cfg = recognizer.cfg
    clips = list_split(cfg.test_dataloader, subset=split)
    compare_clips(cfg, {split: clips})
    if not clips or min(clip['label'] for clip in clips) < 0:
        raise HRI30Error(f'{cfg.data_root}: no labelled clips of {split}.\nExpected some; '
                         'see --split, and split in the config.')
    read, failed = [], []

    def views() -> Iterator[np.ndarray]:
        for number, clip in enumerate(tqdm(clips, desc=split)):
            try:
                video = Video(clip['filename'])
                frames = video.read_all()
            except ClipError as error:
                failed.append(str(error).splitlines()[0])
                continue
            read.append((clip['label'], len(frames), video.fps or FRAME_RATE))
            for change in changes:
                yield recognizer.info.preprocessing.clip(change(frames, seed=number))

    scores = [prediction.scores for prediction in recognizer.predict_views(views())]
    if failed:
        print(f'{split}: left out {len(failed)} of {len(clips)} clips:\n'
              f'{first_cases(failed)}', file=sys.stderr)
    if not read:
        raise HRI30Error(f'{cfg.data_root}: none of the clips of {split} can be read.\n'
                         'Check them with hri30 check.')
    labels_N, frames_N, fps_N = map(np.array, zip(*read, strict=True))
    return ChangedScores(f'{describe_data(cfg)}, {split}', np.reshape(
        scores, (len(read), len(changes), -1)), labels_N, frames_N, fps_N)


def measure_early(config: str, checkpoint: str, split: str = 'val', out: str | None = None,
                  options: dict | None = None) -> dict:
    """Measures accuracy by the seen share of an action, and the delay of a decision.

    A share of a clip is given to the model as if it were a clip. The rule is chosen on the
    validation clips, whatever the split.

    Args:
        config, checkpoint, options: See :func:`.testing.test`.
        split (str): ``val``, or ``test`` if its labels are known.
        out (str, optional): Gets ``<split>/early.json`` and ``early.png``; by default the
            folder of the checkpoint.

    Returns:
        dict: ``data``; ``checkpoint``; ``clips``, their number; ``shares``: rows of
        ``share``, ``mean_ms`` and ``top1``; ``rule``: ``predictions``, ``confidence`` and
        ``chosen_on``; ``decision``, see :func:`.early.measure_rule`.
    """
    recognizer = Recognizer(config, checkpoint, options=options)
    folder = check_writable(Path(out or Path(checkpoint).parent) / split)
    changes = [partial(_first_part, share=share) for share in early.SHARES]
    tested = score_changed(recognizer, split, changes)
    chosen = tested if split == 'val' else score_changed(recognizer, 'val', changes)
    rule = early.choose_rule(chosen.scores_NCK, chosen.labels_N, chosen.times())
    times_NS = tested.times()
    measured = dict(
        data=tested.data, checkpoint=Path(checkpoint).name, clips=len(tested.labels_N),
        shares=[dict(share=share, mean_ms=float(ms), top1=top1) for share, ms, top1 in zip(
            early.SHARES, times_NS.mean(0), tested.top1_C, strict=True)],
        rule=dict(rule._asdict(), chosen_on=f'{chosen.data}, {len(chosen.labels_N)} clips'),
        decision=early.measure_rule(rule, tested.scores_NCK, tested.labels_N, times_NS))
    write_analysis(folder, 'early', measured, early.plot_early)
    return measured


def measure_robustness(config: str, checkpoint: str, split: str = 'val',
                       out: str | None = None, options: dict | None = None) -> dict:
    """Measures accuracy under each corruption and strength of
    :data:`~hri30_ext.evaluation.corruptions.CORRUPTIONS`.

    Arguments and errors are those of :func:`measure_early`; the files are
    ``robustness.json`` and ``robustness.png``.

    Returns:
        dict: ``data``; ``checkpoint``; ``clips``, their number; ``rows`` of ``corruption``,
        ``strength``, ``unit`` and ``top1``, the first of unchanged clips.
    """
    recognizer = Recognizer(config, checkpoint, options=options)
    folder = check_writable(Path(out or Path(checkpoint).parent) / split)
    kinds = [(CLEAN, 0, '', lambda frames, seed: frames), *(
        (name, strength, one.unit, partial(one.apply, strength=strength))
        for name, one in CORRUPTIONS.items() for strength in one.strengths)]
    scored = score_changed(recognizer, split, [change for *_, change in kinds])
    rows = [dict(corruption=name, strength=strength, unit=unit, top1=top1)
            for (name, strength, unit, _), top1 in zip(kinds, scored.top1_C, strict=True)]
    measured = dict(data=scored.data, checkpoint=Path(checkpoint).name,
                 clips=len(scored.labels_N), rows=rows)
    write_analysis(folder, 'robustness', measured, plot_robustness)
    return measured


def _first_part(frames: np.ndarray, share: float, seed: int) -> np.ndarray:
    return frames[:early.frames_seen(len(frames), share)]
