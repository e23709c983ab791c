"""Many trainings, each in a process and a folder of its own, each done once."""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import PROJECT_ROOT
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text


@dataclass(frozen=True)
class Run:
    """A training, and the test of its last checkpoint on the validation clips.

    No checkpoint is chosen by the clips that score it.

    Args:
        name (str): For messages.
        folder (Path): The work folder; the results are in ``val/``.
        settings (tuple[str, ...]): As for ``--cfg-options``.
    """

    name: str
    folder: Path
    settings: tuple[str, ...]


def complete(config: str, runs: Sequence[Run],
             done: Callable[[Run], None] = lambda run: None) -> None:
    """Does the runs that are not done yet; on several GPUs, one run on each at a time.

    Args:
        config (str): Path of the config.
        runs (Sequence[Run]): What to do.
        done (Callable): Called with each run, once it is complete, in the order of
            completion.

    Raises:
        HRI30Error: a run failed (the others that had begun are completed first), or a
            folder holds a run with other settings.
    """
    devices: queue.Queue = queue.Queue()
    count = torch.cuda.device_count()
    for i in range(max(1, count)):
        devices.put({} if count < 2 else {'CUDA_VISIBLE_DEVICES': _visible(i)})
    failed = False

    def do(run: Run) -> Run:
        nonlocal failed
        if failed or is_done(run):
            return run
        environment = devices.get()
        try:
            train_and_test(config, run, environment)
        except BaseException:
            failed = True
            raise
        finally:
            devices.put(environment)
        return run

    with ThreadPoolExecutor(max_workers=max(1, count)) as pool:
        for run in pool.map(do, runs):
            done(run)


def _visible(index: int) -> str:
    """Returns the name of the GPU that this process sees as number ``index``."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    return visible.split(',')[index].strip() if visible else str(index)


def is_done(run: Run) -> bool:
    """Whether a run is complete.

    Raises:
        HRI30Error: its folder holds one with other settings.
    """
    record = run.folder / 'run.json'
    if not record.is_file():
        return False
    found = json.loads(record.read_text(encoding='utf-8'))['settings']
    if found != list(run.settings):
        raise HRI30Error(f'{run.folder}: holds a run with other settings:\n  '
                         f'{" ".join(found)}\nExpected\n  {" ".join(run.settings)}\n'
                         'Choose another --out.')
    return True


def train_and_test(config: str, run: Run, environment: dict[str, str]) -> None:
    """Trains and tests, and then notes in ``run.json`` that it was done.

    Raises:
        HRI30Error: it failed; with the end of its log.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    last = run.folder / 'last.pth'
    _tool('train.py', run, environment, config, '--work-dir', run.folder)
    name = (run.folder / 'last_checkpoint').read_text(encoding='utf-8')
    last.unlink(missing_ok=True)
    last.symlink_to(Path(name).name)
    _tool('test.py', run, environment, config, last, '--split', 'val', '--out', run.folder)
    atomic_write_text(run.folder / 'run.json', json.dumps(dict(settings=run.settings)))


def _tool(tool: str, run: Run, environment: dict[str, str], *arguments) -> None:
    log = run.folder / f'{Path(tool).stem}.log'
    with open(log, 'w', encoding='utf-8') as stream:
        code = subprocess.run(
            [sys.executable, str(PROJECT_ROOT / 'tools' / tool), *map(str, arguments),
             '--cfg-options', *run.settings], stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}).returncode
    if code == 3 and tool == 'test.py':  # done, but for clips that could not be read
        print(f'{run.name}: some clips could not be read: {log}', flush=True)
    elif code:
        text = log.read_text(encoding='utf-8').strip()
        # The message for the user, where there is one.
        message = text[text.rindex('error: '):] if 'error: ' in text else text[-600:]
        raise HRI30Error(f'{run.name}: {tool} ended with status {code}; the whole log is '
                         f'{log}:\n{message}')
