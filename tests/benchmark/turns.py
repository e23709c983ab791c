"""Two sides that take turns, each in its own process.

A side is a function ``side(turns, setup, ...)``. It prepares, and then repeats::

    turns.wait()            # blocks until it is this side's turn
    ...                     # what is measured
    turns.report(cost)

until ``wait`` ends it. One process works while the other waits, so that the machine's
clock, caches and other users affect both alike: A B A B.
"""

import contextlib
import multiprocessing
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import psutil

from benchmark.rows import Outcome, median_text, pair_ratios, summarize
from hri30_ext.errors import HRI30Error

#: Seconds that a side may take to prepare or for one turn.
TIMEOUT = 3 * 3600


class Turns:
    """The side's end of the connection; ``running`` says whether a turn is in progress."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self.running = False

    def wait(self) -> None:
        """Says that this side is ready, and returns when it is its turn."""
        self._connection.send(('ready', None))
        if not self._connection.recv():
            raise SystemExit  # leaves any loop of the training
        self.running = True

    def report(self, cost: float, **more) -> None:
        """Ends the turn with its cost, such as seconds a clip, and further plain data."""
        self.running = False
        self._connection.send(('cost', (cost, more)))


class SideProcess:
    """A side in its own process, which is spawned and not forked.

    Args:
        name (str): For messages and the log in the scratch folder.
        function (Callable): A module's function.
        setup (Setup): Its second argument.
        arguments (dict): Its further arguments, plain data.
        one_core (bool): Whether to pin the process to one core, with one thread.
    """

    def __init__(self, name: str, function: Callable, setup, arguments: dict,
                 one_core: bool = False) -> None:
        self.name = name
        self._log = Path(setup.work_dir) / f'{name.replace(", ", "-")}.log'
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        # Not a daemon, since it may start loaders. It ends when this pipe closes.
        self._process = context.Process(target=_serve, name=name, args=(
            theirs, pickle.dumps((function, dict(arguments, setup=setup))),
            str(self._log), min(os.sched_getaffinity(0)) if one_core else None))
        with mock.patch.dict(os.environ):
            for variable in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
                os.environ.pop(variable, None)
                if one_core:
                    os.environ[variable] = '1'
            self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def ready(self) -> None:
        """Waits until the side is prepared.

        Raises:
            HRI30Error: the side failed.
        """
        self._receive('ready')

    def turn(self) -> tuple[float, dict]:
        """Gives the side one turn; returns its report when it is ready for the next."""
        self._connection.send(True)
        report = self._receive('cost')
        self._receive('ready')
        return report

    def _receive(self, expected: str):
        if not self._connection.poll(TIMEOUT):
            raise HRI30Error(f'{self.name}: no answer within {TIMEOUT} s.')
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            tail = self._log.read_text(errors='replace').splitlines()[-8:]
            kind, value = 'error', '\n'.join([
                f'its process ended with code {self._process.exitcode}', *tail])
        if kind != expected:
            raise HRI30Error(f'{self.name}: {value}')
        return value

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(False)
        for end in (lambda: None, self._process.terminate, self._process.kill):
            end()
            self._process.join(20)
        self._connection.close()


def _serve(connection, pickled: bytes, log: str, core: int | None) -> None:
    """Runs a side in its process."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    try:
        import hri30_ext.modules  # noqa: F401  makes mmaction2 importable
        function, arguments = pickle.loads(pickled)
        function(Turns(connection), **arguments)
    except Exception as error:
        traceback.print_exc()
        message = str(error).strip() or type(error).__name__
        if not isinstance(error, HRI30Error):
            message = f'{type(error).__name__}: {message}'
        with contextlib.suppress(OSError):  # the benchmark may be gone
            connection.send(('error', message[-1500:]))


class Pairs(NamedTuple):
    """Reports of the turns of both sides: cost and further data."""

    stock: list[tuple[float, dict]]
    ours: list[tuple[float, dict]]

    def outcome(self, what: str, names: tuple[str, str] = ('stock', 'ours')) -> Outcome:
        """Summarizes the ratios of the costs, which are seconds."""
        stock, ours = ([cost for cost, _ in side] for side in self)
        return summarize(pair_ratios(stock, ours),
                         f'{what}: {names[0]} {median_text(stock)}, {names[1]} '
                         f'{median_text(ours)}')


def take_turns(stock: SideProcess, ours: SideProcess, rounds: int, warm_ups: int = 1
               ) -> Pairs:
    """Lets two sides take ``rounds`` turns after ``warm_ups`` that do not count."""
    stock.ready()
    ours.ready()
    turns = [(stock.turn(), ours.turn()) for _ in range(warm_ups + rounds)][warm_ups:]
    return Pairs(*map(list, zip(*turns, strict=True)))


def compare(name: str, setup, stock: tuple[Callable, dict], ours: tuple[Callable, dict],
            rounds: int, warm_ups: int = 1, one_core: bool = False) -> Pairs:
    """Starts two sides, each a function and its arguments, and lets them take turns."""
    with SideProcess(f'{name}, stock', stock[0], setup, stock[1], one_core) as a, \
         SideProcess(f'{name}, ours', ours[0], setup, ours[1], one_core) as b:
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
