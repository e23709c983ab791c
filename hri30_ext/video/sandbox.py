"""Work on files that are not trusted, in a process that may hang or crash without harm.

A decoder that meets a damaged file may crash, hang, or take all memory, and with it the
program that called it. :class:`IsolatedProcess` runs functions in a process of its own;
what happens there costs one call. Requests and answers are JSON, arrays come in shared
memory: nothing that the process says is ever unpickled, so a file that took it over has
not taken over the one that asks.

This module imports the standard library and numpy alone: the process starts in a quarter
of a second.
"""

import contextlib
import fcntl
import importlib
import json
import math
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence

import numpy as np

from ..errors import HRI30Error

#: Address space of the process: an 8K video decodes in half of it.
MEMORY_BYTES = 4 * 2**30

_LENGTH = struct.Struct('<I')
_MAX_HEADER = 2**26  # of a message, bytes
_DTYPES = {'|u1', '|b1', '<i4', '<i8', '<f4', '<f8'}
_ALIGNMENT = 64
# The child ends itself by a timer, a little later than its caller would, who may be dead.
_GRACE_SECONDS = 2


class ProcessDied(HRI30Error):
    """The process did not answer.

    Attributes:
        kind (str): ``crashed``, ``hung`` (longer than the time limit), ``memory``, or
            ``start``: it could not be started, which is no file's fault.
        signal (int, optional): What ended it.
    """

    def __init__(self, message: str, kind: str, signal: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.signal = kind, signal


class _NoAnswer(Exception):
    """The process says what it should not."""


_alive: weakref.WeakSet = weakref.WeakSet()


class IsolatedProcess:
    """Calls functions in another process; one that dies is replaced at the next call.

    >>> with IsolatedProcess() as process:
    ...     process.call('math:hypot', 3, 4)
    (5.0, [])

    Not for several threads at once: each wants its own.

    Args:
        memory_bytes (int): Address space that the process may take.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.memory_bytes = memory_bytes
        self._process: subprocess.Popen | None = None
        self._socket: socket.socket | None = None
        _alive.add(self)

    def __enter__(self) -> 'IsolatedProcess':
        return self

    def __exit__(self, *args) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of Python anything may be gone
            self.close()

    @property
    def pid(self) -> int | None:
        """Number of the process; None where none runs."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Ends the process."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            # One that reads from a network disk that is gone cannot even be killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)

    def call(self, function: str, *arguments, seconds: float = 30.
             ) -> tuple[object, list[np.ndarray]]:
        """Runs a function there and waits for its answer.

        Args:
            function (str): ``package.module:name``. It returns what JSON can say, or that
                and a list of arrays.
            *arguments: What JSON can say.
            seconds (float): Time limit. Starting the process has one of its own.

        Returns:
            tuple[object, list[np.ndarray]]: The value, and the arrays, of bytes, booleans,
            whole numbers or floats.

        Raises:
            HRI30Error: what the function raised as such, or as any other exception.
            ProcessDied: it crashed, hung, or ran out of memory.
        """
        if self._process is None:
            self._start()
        request = dict(function=function, arguments=arguments, seconds=seconds)
        deadline = time.monotonic() + seconds
        try:
            _send(self._socket, request, seconds=seconds)
            header, arrays = self._receive(deadline)
        except TimeoutError:
            raise self._died(function, f'took more than {seconds:g} seconds', 'hung'
                             ) from None
        except _NoAnswer as error:
            raise self._died(function, f'answered with {error}') from None
        except (EOFError, OSError):
            raise self._died(function) from None
        except BaseException:  # Ctrl-C: the answer would be read as that of the next call
            self.close()
            raise
        if header.get('died') == 'memory':
            self.close()
            raise ProcessDied(f'took more than {self.memory_bytes / 2**30:.3g} GiB of '
                              'memory', 'memory')
        if 'error' in header:
            raise HRI30Error(str(header['error']))
        return header.get('value'), arrays

    def _start(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # too many open files
            raise ProcessDied(f'could not be started ({error.strerror})', 'start'
                              ) from error
        environment = {
            **os.environ,
            # What this process can import, the other can. Not from where it stands, which
            # may be among the files that are not trusted.
            'PYTHONPATH': os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
            # More threads and arenas reserve address space and gain nothing.
            'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '2',
            'CUDA_VISIBLE_DEVICES': '', 'PYTHONFAULTHANDLER': '',
        }
        try:
            # Not a fork: other threads of this process compute, and may hold locks. In a
            # session of its own: Ctrl-C is for the program, which ends it.
            self._process = subprocess.Popen(
                [sys.executable, '-m', __name__, str(theirs.fileno()),
                 str(self.memory_bytes)],
                pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd='/', start_new_session=True)
        except OSError as error:
            ours.close()
            raise ProcessDied(f'could not be started ({error.strerror})', 'start'
                              ) from error
        finally:
            theirs.close()
        self._socket = ours
        try:
            # A machine that is busy with other work may take long to start it.
            self._receive(time.monotonic() + 120)
        except (EOFError, OSError, _NoAnswer):
            died = self._died('the start')
            raise ProcessDied(f'could not be started: it {died}', 'start', died.signal
                              ) from None
        except BaseException:  # Ctrl-C: its greeting would be read as the first answer
            self.close()
            raise

    def _receive(self, deadline: float) -> tuple[dict, list[np.ndarray]]:
        """Reads one answer.

        Raises:
            TimeoutError: there was none in time.
            EOFError, OSError: the process is gone.
            _NoAnswer: it says what it should not.
        """
        beginning, fds = self._read(_LENGTH.size, deadline, with_fd=True)
        try:
            length, = _LENGTH.unpack(beginning)
            if length > _MAX_HEADER:
                raise _NoAnswer('too long a message')
            try:
                header = json.loads(self._read(length, deadline)[0])
                arrays = _map_arrays(header.get('arrays', []), fds)
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise _NoAnswer('no message') from error
            return header, arrays
        finally:
            for fd in fds:
                os.close(fd)

    def _read(self, size: int, deadline: float, with_fd: bool = False
              ) -> tuple[bytes, list[int]]:
        content, fds = bytearray(), []
        while len(content) < size:
            self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
            if with_fd and not content:
                part, fds, _, _ = socket.recv_fds(self._socket, size, 1)
            else:
                part = self._socket.recv(min(size - len(content), 2**20))
            if not part:
                raise EOFError
            content += part
        return bytes(content), fds

    def _died(self, function: str, what: str | None = None, kind: str = 'crashed'
              ) -> ProcessDied:
        """Ends what is left of the process and says what became of it."""
        process, number = self._process, None
        if what is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=5)
                number = -code if code < 0 else None
            if number == signal.SIGALRM:
                what, kind = 'took too long', 'hung'
            elif number:
                what = f'crashed ({_signal_name(number)})'
            else:
                what = f'ended without an answer ({function})'
        self.close()
        return ProcessDied(what, kind, number)

    def _abandon(self) -> None:
        """Forgets the process in a fork of this one: it is the parent's."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.returncode = 0  # nothing to wait for, and no warning
        self._socket = self._process = None


def _abandon_all() -> None:
    for process in list(_alive):
        process._abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f'signal {number}'


def _map_arrays(described: Sequence[Sequence], fds: Sequence[int]) -> list[np.ndarray]:
    """Maps the arrays of an answer; the process is not believed to keep to anything."""
    if not described:
        return []
    if not fds:
        raise _NoAnswer('arrays without memory')
    # From here on it cannot become shorter, which would kill whoever reads it.
    fcntl.fcntl(fds[0], fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    available = os.fstat(fds[0]).st_size
    mapped = mmap.mmap(fds[0], available, mmap.MAP_PRIVATE,
                       mmap.PROT_READ | mmap.PROT_WRITE) if available else b''
    arrays = []
    for dtype, shape, offset in described:
        if dtype not in _DTYPES or not all(
                type(size) is int and size >= 0 for size in (*shape, offset)):
            raise _NoAnswer('what is no array')
        if offset + math.prod(shape) * np.dtype(dtype).itemsize > available:
            raise _NoAnswer('an array beyond its memory')
        arrays.append(np.ndarray(tuple(shape), dtype, mapped, offset))
    return arrays


# ---- In the process ---------------------------------------------------------------------


def _send(connection: socket.socket, header: dict, fds: Sequence[int] = (),
          seconds: float | None = None) -> None:
    text = json.dumps(header).encode()
    connection.settimeout(seconds)
    if fds:
        socket.send_fds(connection, [_LENGTH.pack(len(text))], fds)
        connection.sendall(text)
    else:
        connection.sendall(_LENGTH.pack(len(text)) + text)


def _share(arrays: Sequence[np.ndarray]) -> tuple[list, int]:
    """Copies arrays into shared memory; returns what they are, and its descriptor."""
    described, end = [], 0
    for array in arrays:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        described.append((array.dtype.str, array.shape, start))
        end = start + array.nbytes
    fd = os.memfd_create('arrays', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, end)
    if end:
        with mmap.mmap(fd, end) as mapped:
            for array, (dtype, shape, start) in zip(arrays, described, strict=True):
                np.ndarray(shape, dtype, mapped, start)[...] = array
    return described, fd


def _answer(connection: socket.socket, request: dict) -> None:
    module, _, name = request['function'].partition(':')
    found = getattr(importlib.import_module(module), name)(*request['arguments'])
    value, arrays = found if isinstance(found, tuple) else (found, [])
    if not arrays:
        _send(connection, dict(value=value))
        return
    described, fd = _share(arrays)
    try:
        _send(connection, dict(value=value, arrays=described), [fd])
    finally:
        os.close(fd)


def main() -> None:
    """Answers until the other side is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(connection, {})
    stream = connection.makefile('rb')
    while len(length := stream.read(_LENGTH.size)) == _LENGTH.size:
        request = json.loads(stream.read(_LENGTH.unpack(length)[0]))
        # Kills this process wherever it is, also within a library and without its caller.
        signal.setitimer(signal.ITIMER_REAL, request['seconds'] + _GRACE_SECONDS)
        try:
            _answer(connection, request)
        except HRI30Error as error:
            _send(connection, dict(error=str(error)))
        except MemoryError:
            _send(connection, dict(died='memory'))
            break
        except Exception as error:
            _send(connection, dict(error=f'{type(error).__name__}: {error}'))
        signal.setitimer(signal.ITIMER_REAL, 0)
    # Without tidying up: a damaged file may have left libraries in any state.
    os._exit(0)


if __name__ == '__main__':
    main()
