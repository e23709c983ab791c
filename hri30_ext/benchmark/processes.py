"""Two sides that take turns, each in a process of its own.

A side is a function ``side(turns, ...)``. It prepares and warms up, and then repeats::

    turns.wait()            # blocks until it is this side's turn
    ...                     # what is measured
    turns.report(cost)

until ``wait`` ends it. One process works while the other waits, so that the machine's
clock, caches and other users weigh on both alike: A B A B.
"""

import contextlib
import multiprocessing
import os
import pickle
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import HRI30Error

#: Longest that a side may take to get ready or for a turn, in seconds.
TIMEOUT = 3 * 3600


class _NoMoreTurns(BaseException):
    """Ends a side from within whatever loop it is in; nothing there may catch it."""


class Turns:
    """What a side sees of the other process.

    Args:
        connection (multiprocessing.connection.Connection): To the benchmark.
    """

    def __init__(self, connection) -> None:
        self._connection = connection
        self._asked = False

    def wait(self) -> None:
        """Returns when it is this side's turn; the first call says that it is ready."""
        if self._asked:
            raise RuntimeError('a turn was begun and never reported')
        self._connection.send(('ready', None))
        try:
            go = self._connection.recv()
        except EOFError:  # the benchmark is gone
            go = False
        if not go:
            raise _NoMoreTurns
        self._asked = True

    @property
    def running(self) -> bool:
        """Whether a turn is under way."""
        return self._asked

    def report(self, cost: float, **more) -> None:
        """Ends the turn.

        Args:
            cost (float): What the turn cost, such as seconds a clip.
            **more: Anything else to tell, plain data.
        """
        self._asked = False
        self._connection.send(('cost', (cost, more)))


class SideProcess:
    """A side in a process of its own, started afresh (not forked).

    Args:
        name (str): For messages.
        side (Callable): A function of a module; called with :class:`Turns` and
            ``arguments``.
        arguments (dict): Plain data.
        log (Path): Gets what the process prints.
        one_core (bool): Whether to pin the process to one core, with one thread.

    Raises:
        HRI30Error: the side failed before its first turn.
    """

    def __init__(self, name: str, side: Callable, arguments: dict, log: Path,
                 one_core: bool = False) -> None:
        self.name = name
        self.log = log
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        core = min(os.sched_getaffinity(0)) if one_core else None
        # Not a daemon: it may start loaders of its own. It ends when this pipe closes.
        self._process = context.Process(
            target=_serve, name=name,
            # Unpickled, which imports torch, when all else is set.
            args=(theirs, pickle.dumps((side, arguments)), str(log), core))
        # Read when torch is loaded.
        threads = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'),
                                '1' if one_core else None)
        with _environment(threads):
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ready(self) -> None:
        """Waits until the side has warmed up."""
        self._receive('ready')

    def turn(self) -> tuple[float, dict]:
        """Lets the side have one turn; it must be ready.

        Returns:
            tuple[float, dict]: What it reported.
        """
        self._connection.send(True)
        return self._receive('cost')

    def _receive(self, expected: str):
        if not self._connection.poll(TIMEOUT):
            raise HRI30Error(f'{self.name}: no answer within {TIMEOUT} s.')
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            kind, value = 'error', (f'its process ended with code '
                                    f'{self._process.exitcode}\n{_tail(self.log)}')
        if kind == 'error':
            raise HRI30Error(f'{self.name}: {value}')
        if kind != expected:
            raise RuntimeError(f'{self.name}: sent {kind}, expected {expected}')
        return value

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._connection.send(False)
        self._process.join(20)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(20)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _serve(connection, pickled: bytes, log: str, core: int | None) -> None:
    """Is the body of a side's process."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    try:
        side, arguments = pickle.loads(pickled)
        side(Turns(connection), **arguments)
        connection.send(('error', 'ended before its turns did'))
    except _NoMoreTurns:
        pass
    except BaseException as error:
        traceback.print_exc()
        message = str(error).strip() or type(error).__name__
        if not isinstance(error, HRI30Error):
            message = f'{type(error).__name__}: {message}'
        with contextlib.suppress(OSError):
            connection.send(('error', message[-1500:]))
    finally:
        connection.close()


def _tail(log: Path, lines: int = 8) -> str:
    try:
        return '\n'.join(log.read_text(errors='replace').splitlines()[-lines:])
    except OSError:
        return ''


@contextlib.contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    """Changes environment variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in changes}

    def put(values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(changes)
    try:
        yield
    finally:
        put(before)


@dataclass
class Pairs:
    """Costs of the turns of both sides, and what else they told."""

    stock: list[float]
    ours: list[float]
    stock_more: list[dict]
    ours_more: list[dict]


def take_turns(stock: SideProcess, ours: SideProcess, rounds: int,
               warm_ups: int = 1) -> Pairs:
    """Lets two sides take turns: A B A B.

    Args:
        stock (SideProcess): Begins each pair.
        ours (SideProcess): Follows.
        rounds (int): Pairs that count.
        warm_ups (int): Turns of each before, which do not count.
    """
    pairs = Pairs([], [], [], [])
    stock.ready()
    ours.ready()
    for i in range(warm_ups + rounds):
        found = []
        for side in (stock, ours):
            found.append(side.turn())
            side.ready()
        if i >= warm_ups:
            (a, a_more), (b, b_more) = found
            pairs.stock.append(a)
            pairs.ours.append(b)
            pairs.stock_more.append(a_more)
            pairs.ours_more.append(b_more)
    return pairs


# ---- Memory -----------------------------------------------------------------------------


def private_memory(pid: int) -> int:
    """Counts the bytes that would come free if a process ended (USS).

    Args:
        pid (int): The process.

    Returns:
        int: Bytes; 0 where the process has ended.
    """
    try:
        rollup = Path(f'/proc/{pid}/smaps_rollup').read_text()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines()
                      if line.startswith('Private_'))


def process_tree(pid: int) -> list[int]:
    """Lists a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path('/proc').iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name, in brackets, which may hold anything: state, parent.
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


class Sampler(threading.Thread):
    """Reads a gauge again and again, until it is left.

    Args:
        gauge (Callable): Returns a number, or None.
        interval (float): Seconds between readings.
    """

    def __init__(self, gauge: Callable, interval: float) -> None:
        super().__init__(daemon=True)
        self.gauge = gauge
        self.interval = interval
        self.readings: list[float] = []
        self._end = threading.Event()

    def run(self) -> None:
        """Reads until the end."""
        while not self._end.is_set():
            value = self.gauge()
            if value is not None:
                self.readings.append(value)
            self._end.wait(self.interval)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self.join()


def peak_private_memory(pid: int, interval: float = 0.1) -> Sampler:
    """Samples the private memory of a process and its children, in bytes."""
    return Sampler(lambda: sum(map(private_memory, process_tree(pid))), interval)


def in_turn_time(work: Callable, least: float, clock: Callable = time.perf_counter
                 ) -> float:
    """Repeats a piece of work for a while.

    Args:
        work (Callable): Returns how many clips it did.
        least (float): Seconds after which no further piece is begun.
        clock (Callable): Returns seconds.

    Returns:
        float: Seconds a clip.
    """
    start, clips = clock(), 0
    while not clips or clock() - start < least:
        clips += work()
    return (clock() - start) / clips


def median_text(values: Sequence[float], unit: str, digits: int = 3) -> str:
    """Formats the median of some figures: ``0.050 s``."""
    return f'{statistics.median_high(values):.{digits}g} {unit}'
