"""Many trainings, each in a process and a folder of its own: folds, seeds, settings."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import parse_options
from ..errors import HRI30Error, Interrupted
from ..utils.fileio import atomic_write_text
from .gpu_queue import run_queue


@dataclass(frozen=True)
class Run:
    """A training, and the test of its last checkpoint on one subset.

    No checkpoint is chosen by the clips that score it.

    Args:
        name (str): For messages.
        folder (Path): The work folder; results are in a folder named like the subset.
        settings (tuple[str, ...]): As for ``--cfg-options``.
        subset (str): ``val`` or ``test``: what is scored.
    """

    name: str
    folder: Path
    settings: tuple[str, ...]
    subset: str = 'val'

    def __str__(self) -> str:
        return self.name

    def is_done(self) -> bool:
        """Returns whether the run is complete.

        Raises:
            HRI30Error: The folder holds a run with other settings.
        """
        file = self.folder / 'run.json'
        if not file.is_file():
            return False
        record = json.loads(file.read_text(encoding='utf-8'))
        if record['settings'] != list(self.settings):
            raise HRI30Error(f'{self.folder}: holds a run with other settings:\n  '
                             f'{" ".join(record["settings"])}\nExpected\n  '
                             f'{" ".join(self.settings)}\nChoose another --out.')
        return record['done']

    def record(self, done: bool) -> None:
        """Writes ``run.json``: the settings, and whether the run is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.folder / 'run.json',
                          json.dumps(dict(settings=self.settings, done=done)))


def complete(config: str, runs: Sequence[Run], on_done: Callable[[Run], None],
             slurm: dict | None = None) -> None:
    """Trains and tests the runs that are not complete yet.

    Locally one run at a time uses each GPU, and a machine without GPUs does one at a time.
    An interrupted run resumes from its last checkpoint.

    Args:
        config (str): Path of the config.
        runs (Sequence[Run]): What to do.
        on_done (Callable): Called with each run, in their order, once it is complete.
        slurm (dict, optional): Submits every run as a job to Slurm, with these parameters
            of ``submitit.AutoExecutor``, such as ``slurm_partition`` and ``timeout_min``.

    Raises:
        HRI30Error: A run failed, or a folder holds a run with other settings.
    """
    pending = [run for run in runs if not run.is_done()]
    jobs = [(config, run) for run in pending]
    results = (run_queue(train_and_test, jobs) if slurm is None
               else _submit(jobs, slurm) if jobs else iter(()))
    for run in runs:
        if run in pending:
            next(results)
        on_done(run)


def train_and_test(config: str, run: Run, **others) -> dict:
    """Trains and tests in this process, with output to ``run.log``.

    Args:
        config (str): Path of the config.
        run (Run): What to do.
        **others: Of :func:`.training.train`.

    Returns:
        dict: Metrics of the run's subset.

    Raises:
        HRI30Error: Training or testing failed, or a signal ended it.
    """
    from .testing import test
    from .training import train
    run.record(done=False)
    log, last = run.folder / 'run.log', run.folder / 'last_checkpoint'
    options = parse_options(list(run.settings))
    try:
        with _output_to(log):
            train(config, str(run.folder), options=options, resume=(
                last.is_file() or (run.folder / 'within_epoch.pth').is_file()), **others)
            metrics = test(config, last.read_text(encoding='utf-8'), run.subset,
                           str(run.folder), options)[run.subset]
    except (HRI30Error, Interrupted) as error:
        raise HRI30Error(f'{run.name}: {error}\nThe whole log is {log}') from error
    if 'num_failed' in metrics:
        print(f'{run.name}: {metrics["num_failed"]} clips could not be read; see {log}',
              flush=True)
    run.record(done=True)
    return metrics


@contextlib.contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Appends the output of this process, and of those it starts, to a file."""
    saved = [(number, os.dup(number)) for number in (1, 2)]
    with open(file, 'ab') as log:
        _flush()
        for number, _ in saved:
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, original in saved:
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _submit(jobs: Sequence[tuple[str, Run]], parameters: dict) -> Iterator[dict]:
    """Submits jobs to Slurm and yields their results; one that timed out is requeued."""
    import submitit

    class Job(submitit.helpers.Checkpointable):
        def __call__(self, config: str, run: Run) -> dict:
            return train_and_test(config, run)

    parameters = dict(parameters)
    folder = Path(os.path.commonpath([run.folder.parent for _, run in jobs]), 'slurm')
    try:
        executor = submitit.AutoExecutor(folder, parameters.pop('cluster', 'slurm'))
        executor.update_parameters(
            **{'name': 'hri30', 'gpus_per_node': 1, 'cpus_per_task': 8, **parameters})
        submitted = [executor.submit(Job(), *job) for job in jobs]
        for job in submitted:
            yield job.result()
    except (AssertionError, NameError, RuntimeError) as error:  # what submitit raises
        raise HRI30Error(f'Slurm: {error}\nThe logs of the jobs are in {folder}') from error
