"""What a training shows on the terminal: a line an epoch. The log file has the rest."""

import logging
import time

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from tqdm import tqdm

from ..utils.progress import refresh_seconds, time_left
from .hooks import learning_rates, mean_of_epoch


class EpochLineHook(Hook):
    """Prints one line for each epoch, and shows a bar within it on a terminal.

    Attributes:
        clips (int): Clips that this run trained on, in all processes.
    """

    priority = 'LOWEST'  # the epoch before is saved

    def __init__(self) -> None:
        self.clips = 0
        self._bar: tqdm | None = None
        self._line: list[str] = []  # parts of the epoch's
        self._started = 0.0

    def before_run(self, runner) -> None:
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(self._make_room)

    def _make_room(self, record: logging.LogRecord) -> bool:
        """Keeps the bar out of the lines of the log."""
        if self._bar is not None:
            self._bar.clear()
        return True

    def before_train_epoch(self, runner) -> None:
        self._print(runner)
        self._epoch_started = time.monotonic()
        # Features are computed once, before the first epoch: they say nothing of the rest.
        self._started = self._started or self._epoch_started
        self._clips_before = self.clips
        self._open_bar(f'epoch {runner.epoch + 1}', len(runner.train_dataloader))

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._rate = max(learning_rates(runner.optim_wrapper).values())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.clips += len(data_batch['data_samples']) * get_world_size()
        self._bar.update()

    def after_train_epoch(self, runner) -> None:
        self._bar.close()
        rate = (self.clips - self._clips_before) / (time.monotonic() - self._epoch_started)
        self._line = [f'epoch {runner.epoch + 1}/{runner.max_epochs}',
                      f'loss {mean_of_epoch(runner, "loss"):.3f}', f'lr {self._rate:.2g}',
                      f'{rate:,.{1 if rate >= 10 else 2}f} clips/s']

    def before_val_epoch(self, runner) -> None:
        self._open_bar('validation', len(runner.val_dataloader))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._bar.update()

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._bar.close()
        self._line += [f'val {name} {metrics[name]:.3f}' for name in ('top1', 'loss')
                       if name in (metrics or ())]

    def after_train(self, runner) -> None:
        self._print(runner)

    def _print(self, runner) -> None:
        """Prints the line of the epoch that is complete, and saved."""
        if not self._line:
            return
        best = runner.message_hub.runtime_info.get('best_ckpt', '')
        if best.endswith(f'epoch_{runner.epoch}.pth'):
            self._line.append('(best)')
        epochs = runner.max_epochs - runner.epoch
        if epochs:
            dataset = runner.train_dataloader.dataset
            seconds = (time.monotonic() - self._started) / self.clips
            self._line.append(
                time_left(seconds * epochs * len(dataset) * getattr(dataset, 'repeats', 1)))
        print('  '.join(self._line), flush=True)
        self._line = []

    def _open_bar(self, name: str, batches: int) -> None:
        self._bar = tqdm(desc=name, total=batches, unit='batch', leave=False,
                         disable=None, mininterval=refresh_seconds())
