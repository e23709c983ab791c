"""Two sides that take turns, each in its own process.

A side is a function ``prepare(setup, ...)`` that loads and warms up, and returns a function
``turn()``, which returns the cost of a turn, such as seconds a clip, or a pair of cost and
further plain data. One process works while the other waits, so that the machine's clock,
caches and other users affect both alike: A B A B.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import psutil

from benchmark.rows import Outcome, median_text, pair_ratios, summarize
from hri30_ext.errors import HRI30Error

#: Seconds that a side may take to prepare or for one turn.
TIMEOUT = 3 * 3600


class Side:
    """A side in its own process, which is spawned and not forked.

    Args:
        name (str): For messages and the log in the scratch folder.
        prepare (Callable): A module's function.
        setup (Setup): Its first argument.
        arguments (dict): Its further arguments, plain data.
        one_core (bool): Whether to pin the process to one core, with one thread.
    """

    def __init__(self, name: str, prepare: Callable, setup, arguments: dict,
                 one_core: bool = False) -> None:
        self.name, self.pid = name, None
        self._log = Path(setup.work_dir) / f'{name.replace(", ", "-")}.log'
        core = min(os.sched_getaffinity(0)) if one_core else None
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'),
                                         _start_process, (str(self._log), core))
        with mock.patch.dict(os.environ):
            for variable in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
                os.environ.pop(variable, None)
                if one_core:
                    os.environ[variable] = '1'
            self._prepared = self._pool.submit(_prepare, prepare, setup, arguments)

    def ready(self) -> None:
        """Waits until the side is prepared.

        Raises:
            HRI30Error: the side failed.
        """
        self.pid = self._result(self._prepared)

    def turn(self) -> tuple[float, dict]:
        """Gives the side one turn; returns the cost and further data."""
        result = self._result(self._pool.submit(_take_turn))
        return result if isinstance(result, tuple) else (result, {})

    def _result(self, future: Future):
        try:
            return future.result(TIMEOUT)
        except HRI30Error as error:
            message = str(error)
        except BrokenProcessPool:
            tail = self._log.read_text(errors='replace').splitlines()[-8:]
            message = '\n'.join(['its process ended', *tail])
        except Exception as error:
            message = f'{type(error).__name__}: {error}'
        raise HRI30Error(f'{self.name}: {message[-1500:]}')

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(psutil.NoSuchProcess, TypeError):
            process = psutil.Process(self.pid) if self.pid else None
            for end in (lambda: None, process.terminate, process.kill):
                end()
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(20)


_turn: Callable | None = None  # of the side in this process


def _start_process(log: str, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import hri30_ext.modules  # noqa: F401  makes mmaction2 importable


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _prepare(prepare: Callable, setup, arguments: dict) -> int:
    global _turn
    _turn = prepare(setup, **arguments)
    return os.getpid()


def _take_turn() -> float | tuple[float, dict]:
    return _turn()


class Pairs(NamedTuple):
    """Cost and further data of the turns of both sides."""

    stock: list[tuple[float, dict]]
    ours: list[tuple[float, dict]]

    def outcome(self, what: str, names: tuple[str, str] = ('stock', 'ours')) -> Outcome:
        """Summarizes the ratios of the costs, which are seconds."""
        stock, ours = ([cost for cost, _ in side] for side in self)
        return summarize(pair_ratios(stock, ours),
                         f'{what}: {names[0]} {median_text(stock)}, {names[1]} '
                         f'{median_text(ours)}')


def take_turns(stock: Side, ours: Side, rounds: int, warm_ups: int = 1) -> Pairs:
    """Lets two sides take ``rounds`` turns after ``warm_ups`` that do not count."""
    stock.ready()
    ours.ready()
    turns = [(stock.turn(), ours.turn()) for _ in range(warm_ups + rounds)][warm_ups:]
    return Pairs(*map(list, zip(*turns, strict=True)))


def compare(name: str, setup, stock: tuple[Callable, dict], ours: tuple[Callable, dict],
            rounds: int, warm_ups: int = 1, one_core: bool = False) -> Pairs:
    """Starts two sides, each a function and its arguments, and lets them take turns."""
    with Side(f'{name}, stock', stock[0], setup, stock[1], one_core) as a, \
         Side(f'{name}, ours', ours[0], setup, ours[1], one_core) as b:
        return take_turns(a, b, setup.rounds or rounds, warm_ups)


def repeat(work: Callable, least: float, clock: Callable = time.perf_counter) -> float:
    """Repeats ``work``, which returns its number of clips; returns seconds a clip.

    No further repetition starts after ``least`` seconds.
    """
    start, clips = clock(), 0
    while not clips or clock() - start < least:
        clips += work()
    return (clock() - start) / clips


def private_memory(pid: int) -> int:
    """Returns the private memory (USS) of a process and its children, in bytes."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().uss
    return total


@contextlib.contextmanager
def sample(gauge: Callable, interval: float) -> Iterator[list[float]]:
    """Yields a list that gets a reading of ``gauge`` every ``interval`` seconds."""
    readings, end = [], threading.Event()

    def read() -> None:
        while not end.is_set():
            value = gauge()
            readings.extend([] if value is None else [value])
            end.wait(interval)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        end.set()
        thread.join()
