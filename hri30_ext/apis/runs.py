"""Many trainings, each in a process and a folder of its own: folds, seeds, settings."""

import json
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ..config import parse_options
from ..errors import HRI30Error, Interrupted
from ..utils.fileio import atomic_write_json


@dataclass(frozen=True)
class Run:
    """A training, and the test of its last checkpoint on one subset.

    No checkpoint is chosen by the clips that score it.

    Args:
        name (str): For messages.
        config (str): Path of the config.
        folder (Path): The work folder; results go to ``<folder>/<subset>``.
        settings (tuple[str, ...]): As for ``--cfg-options``.
        subset (str): ``val`` or ``test``: what is scored.
    """

    name: str
    config: str
    folder: Path
    settings: tuple[str, ...]
    subset: str = 'val'

    def is_done(self) -> bool:
        """Returns whether the run is complete.

        Raises:
            HRI30Error: The folder holds a run of another config or with other settings.
        """
        file = self.folder / 'run.json'
        if not file.is_file():
            return False
        record = json.loads(file.read_text(encoding='utf-8'))
        if record['settings'] != self._asked:
            raise HRI30Error(f'{self.folder}: holds a run with other settings:\n  '
                             f'{" ".join(record["settings"])}\nExpected\n  '
                             f'{" ".join(self._asked)}\nChoose another --out.')
        return record['done']

    def record(self, done: bool) -> None:
        """Writes ``run.json``: config, settings, and whether the run is complete."""
        atomic_write_json(self.folder / 'run.json', dict(settings=self._asked, done=done))

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.folder / 'run.log'

    @property
    def _asked(self) -> list[str]:
        return [Path(self.config).name, *self.settings]


def complete(runs: Collection[Run]) -> Iterator[Run]:
    """Trains and tests the runs that are not complete yet.

    They run one after the other, each in a process of its own, and an interrupted run
    resumes from its last checkpoint. Prints how many are done.

    Args:
        runs (Collection[Run]): What to do.

    Yields:
        Run: Each, in their order, once it is complete.

    Raises:
        HRI30Error: A run failed, or a folder holds another run.
    """
    done = [run for run in runs if run.is_done()]
    print(f'{len(done)} of {len(runs)} runs are done already', flush=True)
    for run in runs:
        if run in done:
            yield run
            continue
        run.record(done=False)
        metrics = run_in_process(train_and_test, run) or {}
        if 'num_failed' in metrics:
            print(f'{run.name}: {metrics["num_failed"]} clips could not be read; see '
                  f'{run.log}', flush=True)
        yield run
        done.append(run)
        print(f'{len(done)} of {len(runs)} runs are done', flush=True)


def run_in_process(function: Callable, run: Run) -> object:
    """Calls a function in a new process, which frees all memory when it ends. What the
    process prints goes to ``run.log``.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), _print_to,
                                 (run.log, )) as pool:
            return pool.submit(function, run).result()
    except BrokenProcessPool as error:
        raise HRI30Error(f'{run.name}: its process was killed, probably because memory ran '
                         'out.\nThe same command resumes it.') from error


def train_and_test(run: Run) -> dict:
    """Trains and tests in this process.

    Returns the metrics of the run's subset, and raises an HRI30Error if training or testing
    failed, or a signal ended it.
    """
    from .testing import test
    from .training import train
    last, options = run.folder / 'last_checkpoint', parse_options(list(run.settings))
    resume = last.is_file()
    try:
        train(run.config, str(run.folder), resume, options, overwrite=not resume)
        metrics = test(run.config, last.read_text(encoding='utf-8'), run.subset,
                       str(run.folder), options)[run.subset]
    except (HRI30Error, Interrupted) as error:
        raise HRI30Error(f'{run.name}: {error}\nThe whole log is {run.log}') from error
    run.record(done=True)
    return metrics


def _print_to(file: Path) -> None:
    """Appends the output of this process, and of those it starts, to a file."""
    with open(file, 'ab') as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
