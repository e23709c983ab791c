"""The list of clips that could not be read during a training."""

import itertools
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
            One process names clips and ends at once, several do at the end of an epoch.

    Raises:
        TooManySkipped: more clips could not be read.
    """

    # Before the checkpoint hook (VERY_LOW), which saves the list.
    priority = 'LOW'

    def __init__(self, max_skipped: float = 0.05) -> None:
        self.max_skipped = max_skipped
        self.clips: dict[str, _Clip] = {}  # by file, of all processes
        self._own: list[tuple[str, _Clip]] = []  # of this process, not yet among them

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._note(runner, [(filename, _Clip(video, reason, 1, True))
                            for sample in data_batch['data_samples']
                            for video, filename, reason in sample.get('skipped', ())])

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._note(runner, [
            (sample.filename, _Clip(sample.video_id, sample.failed, 1, False))
            for sample in data_batch['data_samples'] if 'failed' in sample])

    def _note(self, runner, clips: list[tuple[str, _Clip]]) -> None:
        self._own += clips
        # With several processes, the others would wait for this one.
        if self._own and runner.world_size == 1:
            self._gather(runner)

    def after_train_epoch(self, runner) -> None:
        self._gather(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._gather(runner)

    def _gather(self, runner) -> None:
        """Combines the processes' lists, logs clips that are new, and ends the training if
        too many training clips are listed."""
        for filename, clip in itertools.chain(*all_gather_object(self._own)):
            first = self.clips.get(filename)
            self.clips[filename] = first._replace(times=first.times + 1) if first else clip
            if first is None and is_main_process():
                runner.logger.warning(
                    f'{printable(filename)}: {clip.reason} '
                    + ('Another clip takes its place.' if clip.training
                       else 'It is not scored.'))
        self._own = []
        self._write(runner)
        skipped = [(name, clip) for name, clip in self.clips.items() if clip.training]
        total = len(runner.train_dataloader.dataset)
        if len(skipped) > self.max_skipped * total:
            filename, clip = skipped[0]
            raise TooManySkipped(
                f'{len(skipped)} of {total} training clips could not be read, more than '
                f'max_skipped={self.max_skipped:g} allows, such as\n  '
                f'{printable(filename)}: {clip.reason}\nAll are in '
                f'{Path(runner.work_dir) / SKIPPED}. Replace them, or leave them out with '
                'hri30 check --fix DATA_ROOT; or raise max_skipped.')

    def _write(self, runner) -> None:
        if self.clips and is_main_process():
            atomic_write_text(Path(runner.work_dir) / SKIPPED, format_csv(
                ('Video', 'File', 'Reason', 'Times'),
                [(clip.video, filename, clip.reason, clip.times)
                 for filename, clip in sorted(self.clips.items())]))

    def summary(self, runner) -> str:
        """Returns a line with the number of unreadable clips, or an empty text."""
        return (f'{len(self.clips)} clips could not be read: '
                f'{Path(runner.work_dir) / SKIPPED}' if self.clips else '')

    def before_train(self, runner) -> None:
        """Replaces the list of an earlier training by that of the resumed one."""
        if is_main_process():
            (Path(runner.work_dir) / SKIPPED).unlink(missing_ok=True)
            self._write(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['skipped_videos'] = {
            filename: list(clip) for filename, clip in self.clips.items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.clips = {filename: _Clip(*clip) for filename, clip
                          in checkpoint.get('skipped_videos', {}).items()}
