"""The list of clips that could not be read during a training."""

from pathlib import Path
from typing import NamedTuple

from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from ..utils.text import format_csv, printable

#: The list, in the work folder.
SKIPPED = 'skipped_videos.csv'


class TooManySkipped(HRI30Error):
    """More training clips than allowed could not be read."""

    exit_code = 3


class _Clip(NamedTuple):
    """A clip that could not be read."""

    video: str
    reason: str  # the first one
    times: int
    training: bool  # otherwise of the validation


@HOOKS.register_module()
class SkippedVideosHook(Hook):
    """Names each clip that cannot be read, once, and ends a training with too many.

    The dataset replaces such a clip in training and leaves it without a score in validation
    (see :class:`~hri30_ext.datasets.HRI30Dataset`). ``skipped_videos.csv`` in the work
    folder lists the clips and the number of lost samples; a resumed training continues the
    list.

    Args:
        max_skipped (float): Share of the training clips that may be unreadable, in [0, 1].
            One process ends as soon as there are more, several at the end of the epoch.

    Raises:
        TooManySkipped: more clips could not be read.
    """

    # Before the checkpoint hook (VERY_LOW), which saves the list.
    priority = 'LOW'

    def __init__(self, max_skipped: float = 0.05) -> None:
        self.max_skipped = max_skipped
        self._all: dict[str, _Clip] = {}  # by file; of all processes, up to the last gather
        self._own: dict[str, _Clip] = {}  # of this process, since then
        self._validated: dict[str, _Clip] = {}  # of the validation that runs
        self._named: set[str] = set()

    @property
    def clips(self) -> dict[str, _Clip]:
        return _merge(_merge(self._all, self._own), self._validated)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        for sample in data_batch['data_samples']:
            for video, filename, reason in sample.get('skipped', ()):
                self._own = _merge(self._own, {filename: _Clip(video, reason, 1, True)})
        # With several processes, the others would wait for this one.
        if self._name_new(runner) and runner.world_size == 1:
            self._check(runner)

    def before_val_epoch(self, runner) -> None:
        self._validated = {}

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._validated.update({
            sample.filename: _Clip(sample.video_id, sample.failed, 1, False)
            for sample in data_batch['data_samples'] if 'failed' in sample})
        self._name_new(runner)

    def after_train_epoch(self, runner) -> None:
        self.gather(runner)
        self._check(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        # Only now: a validation that stops runs again.
        self._own, self._validated = _merge(self._own, self._validated), {}
        self.gather(runner)

    def gather(self, runner) -> None:
        """Combines the processes' lists; all processes must call it."""
        for clips in all_gather_object(self._own):
            self._all = _merge(self._all, clips)
        self._own = {}
        self._name_new(runner)
        self._write(runner)

    def _name_new(self, runner) -> bool:
        """Logs new clips; returns whether there are any."""
        clips = self.clips
        new = [filename for filename in clips if filename not in self._named]
        self._named.update(new)
        if new and is_main_process():
            for filename in new:
                runner.logger.warning(
                    f'{printable(filename)}: {clips[filename].reason} '
                    + ('Another clip takes its place.' if clips[filename].training
                       else 'It is not scored.'))
            self._write(runner)
        return bool(new)

    def _write(self, runner) -> None:
        if self.clips and is_main_process():
            atomic_write_text(Path(runner.work_dir) / SKIPPED, format_csv(
                ('Video', 'File', 'Reason', 'Times'),
                [(clip.video, filename, clip.reason, clip.times)
                 for filename, clip in sorted(self.clips.items())]))

    def _check(self, runner) -> None:
        """Ends the training if too many clips are listed."""
        skipped = [(name, clip) for name, clip in self.clips.items() if clip.training]
        total = len(runner.train_dataloader.dataset)
        if len(skipped) <= self.max_skipped * total:
            return
        filename, clip = skipped[0]
        raise TooManySkipped(
            f'{len(skipped)} of {total} training clips could not be read, more than '
            f'max_skipped={self.max_skipped:g} allows, such as\n  {printable(filename)}: '
            f'{clip.reason}\nAll are in {Path(runner.work_dir) / SKIPPED}. Replace them, '
            'or leave them out with hri30 check --fix DATA_ROOT; or raise max_skipped.')

    def summary(self, runner) -> str:
        """Returns a line with the number of unreadable clips, or an empty text."""
        training = sum(clip.training for clip in self.clips.values())
        validation = len(self.clips) - training
        parts = [f'{count} {name} clips' for count, name in (
            (training, 'training'), (validation, 'validation')) if count]
        return (f'{" and ".join(parts)} could not be read: '
                f'{Path(runner.work_dir) / SKIPPED}' if parts else '')

    def before_train(self, runner) -> None:
        """Replaces the list of an earlier training by that of the resumed one."""
        if is_main_process():
            (Path(runner.work_dir) / SKIPPED).unlink(missing_ok=True)
            self._write(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['skipped_videos'] = {
            filename: list(clip) for filename, clip in self._all.items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self._all = {filename: _Clip(*clip) for filename, clip
                         in checkpoint.get('skipped_videos', {}).items()}
            self._named = set(self._all)


def _merge(known: dict[str, _Clip], new: dict[str, _Clip]) -> dict[str, _Clip]:
    """Returns both lists as one, with the first reason and the sum of the times."""
    merged = dict(known)
    for filename, clip in new.items():
        first = merged.get(filename)
        merged[filename] = first._replace(times=first.times + clip.times) if first else clip
    return merged
