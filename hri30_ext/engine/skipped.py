"""What became of the clips that could not be read in a training."""

from collections.abc import Iterable
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


class _Entry(NamedTuple):
    """A clip that could not be read."""
    video: str
    reason: str  # the first one
    times: int
    training: bool  # or of the validation


@HOOKS.register_module()
class SkippedVideosHook(Hook):
    """Names each clip that could not be read, once, and ends a training that has too many.

    Training goes on with another clip in its place (see
    :class:`~hri30_ext.datasets.HRI30Dataset`), validation without its score. The clips are
    listed in ``skipped_videos.csv`` in the work folder, with the number of samples that
    each has cost; a resumed training goes on with its list.

    Args:
        max_skipped (float): Share of the training clips that may be unreadable: 0 for
            none, 1 for all. One process ends as soon as more are known, several at the end
            of the epoch.

    Raises:
        HRI30Error: the share is none.
        TooManySkipped: more could not be read.
    """

    # Before the checkpoint hook (VERY_LOW), which saves the list.
    priority = 'LOW'

    def __init__(self, max_skipped: float = 0.05) -> None:
        if isinstance(max_skipped, bool) or not isinstance(max_skipped, int | float) or (
                not 0 <= max_skipped <= 1):
            raise HRI30Error(f'max_skipped={max_skipped!r}: expected the share of the '
                             'training clips that may be unreadable, from 0 to 1, such as '
                             '0.05.')
        self.max_skipped = max_skipped
        self._all: dict[str, _Entry] = {}  # by file; of all processes, when last asked
        self._own: dict[str, _Entry] = {}  # of this one, since then
        self._named: set[str] = set()
        self._before_validation: dict[str, _Entry] = {}

    # ---- Collecting ---------------------------------------------------------------------

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Takes up what a batch was made without."""
        for sample in _samples(data_batch):
            for video, filename, reason in sample.get('skipped', ()):
                self._add(filename, _Entry(video, reason, 1, True))
        # Where there are others, they would wait for this one.
        if self._name_new(runner) and runner.world_size == 1:
            self._check(runner)

    def before_val_epoch(self, runner) -> None:
        """Remembers what there was before."""
        self._before_validation = self._own

    def leave_validation(self) -> None:
        """Forgets the clips of a validation that is left, and will be done anew."""
        self._own = self._before_validation

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Takes up the clips of a batch that get no score."""
        for sample in _samples(data_batch):
            if 'failed' in sample:
                self._add(sample.filename, _Entry(sample.video_id, sample.failed, 1, False))
        self._name_new(runner)

    def after_train_epoch(self, runner) -> None:
        """Adds up over the processes."""
        self.gather(runner)
        self._check(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Adds up over the processes."""
        self.gather(runner)

    def _add(self, filename: str, entry: _Entry) -> None:
        self._own = _added(self._own, {filename: entry})

    def gather(self, runner) -> None:
        """Adds up over the processes; to be called by all."""
        for found in all_gather_object(self._own):
            self._all = _added(self._all, found)
        self._own = {}
        self._name_new(runner)
        self._write(runner)

    @property
    def entries(self) -> dict[str, _Entry]:
        """What is known here, by file."""
        return _added(self._all, self._own)

    # ---- Telling ------------------------------------------------------------------------

    def _name_new(self, runner) -> bool:
        """Logs clips that were not known, and returns whether there are any."""
        new = [filename for filename in (*self._all, *self._own)
               if filename not in self._named]
        self._named.update(new)
        if not new or not is_main_process():
            return bool(new)
        entries = self.entries
        for filename in new:
            entry = entries[filename]
            runner.logger.warning(
                f'{printable(filename)}: {entry.reason} '
                + ('Another clip takes its place.' if entry.training
                   else 'It is not scored.'))
        self._write(runner)
        return True

    def _write(self, runner) -> None:
        entries = self.entries
        if entries and is_main_process():
            atomic_write_text(Path(runner.work_dir) / SKIPPED, format_csv(
                ('Video', 'File', 'Reason', 'Times'),
                [(entry.video, filename, entry.reason, entry.times)
                 for filename, entry in sorted(entries.items())]))

    def _check(self, runner) -> None:
        skipped = {name: entry for name, entry in self.entries.items() if entry.training}
        total = len(runner.train_dataloader.dataset)
        if len(skipped) <= self.max_skipped * total:
            return
        self._write(runner)
        filename, entry = next(iter(skipped.items()))
        raise TooManySkipped(
            f'{len(skipped)} of {total} training clips could not be read, more than '
            f'max_skipped={self.max_skipped:g} allows, such as\n  {printable(filename)}: '
            f'{entry.reason}\nAll are in {Path(runner.work_dir) / SKIPPED}. Replace them, '
            'or move them aside with tools/data/check.py --fix; or set max_skipped higher.')

    def summary(self, runner) -> str:
        """Says how many clips could not be read, and where they are listed; or nothing."""
        entries = self.entries.values()
        if not entries:
            return ''
        skipped = sum(entry.training for entry in entries)
        parts = [f'{count} {name} clips' for count, name in
                 ((skipped, 'training'), (len(entries) - skipped, 'validation')) if count]
        return (f'{" and ".join(parts)} could not be read: '
                f'{Path(runner.work_dir) / SKIPPED}')

    # ---- Beginning, resuming, ending ----------------------------------------------------

    def before_train(self, runner) -> None:
        """Removes the list of another run; takes up that of the run that is resumed."""
        if not is_main_process():
            return
        (Path(runner.work_dir) / SKIPPED).unlink(missing_ok=True)
        self._write(runner)

    def after_train(self, runner) -> None:
        """Writes the last numbers."""
        self._write(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the list."""
        checkpoint['skipped_videos'] = {
            filename: list(entry) for filename, entry in self.entries.items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes the list up when a training is resumed."""
        if runner._resume:
            self._all = {filename: _Entry(*entry) for filename, entry
                         in checkpoint.get('skipped_videos', {}).items()}
            self._named = set(self._all)


def _samples(data_batch: dict | None) -> Iterable:
    return data_batch.get('data_samples', ()) if isinstance(data_batch, dict) else ()


def _added(known: dict[str, _Entry], found: dict[str, _Entry]) -> dict[str, _Entry]:
    """Returns both lists as one; the first reason and the first use stay."""
    both = dict(known)
    for filename, entry in found.items():
        before = both.get(filename)
        both[filename] = entry if before is None else before._replace(
            times=before.times + entry.times)
    return both
