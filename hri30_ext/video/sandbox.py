"""Runs work on untrusted files in a process that may hang or crash without harm.

A decoder that meets a damaged file may crash, hang, or use all memory, and take the program
that called it with it. :class:`IsolatedProcess` runs functions in a process of its own, so
that a bad file costs one call. Training, the doctor and the service all decode there.

The process has an almost empty environment, bounded memory and time, and may neither write
files nor, where libseccomp is installed, open sockets. Through its only socket go the
length of a JSON document, the document, and the bytes of arrays. Nothing from the process
is unpickled: a file that took it over has not taken over its caller.

This module imports little, so that the process starts quickly.
"""

import contextlib
import errno
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
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from ..errors import HRI30Error

#: Address space of the process: an 8K video decodes in half of it.
MEMORY_BYTES = 4 * 2**30
#: Bytes of the arrays of one answer.
MAX_ARRAY_BYTES = 2**30 + 2**20

_LENGTH = struct.Struct('<I')
_MAX_HEADER = 2**20  # bytes of an answer without its arrays
_Size = Annotated[int, msgspec.Meta(ge=0)]
_DType = Literal['|u1', '|b1', '<i4', '<i8', '<f4', '<f8']
# The process ends itself by a timer a little after its caller would, who may be dead.
_GRACE_SECONDS = 2
# A busy machine may take long to start a process.
_START_SECONDS = 120
# Everything else stays out: a variable may hold a password or a token.
_ENVIRONMENT = ('LANG', 'LC_ALL', 'LC_CTYPE', 'LD_LIBRARY_PATH')


class CallFailed(HRI30Error):
    """The function raised an error.

    Attributes:
        code (str): Attribute ``code`` of that error, for programs; may be empty.
        reason (str): Its attribute ``reason``, else its text.
    """

    def __init__(self, message: str, code: str, reason: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason or message


class ProcessDied(HRI30Error):
    """The process did not answer.

    Attributes:
        kind (str): ``crashed``, ``hung`` (over the time limit), ``memory`` (over the memory
            limit), or ``start`` (it could not be started, which is no file's fault).
    """

    def __init__(self, message: str, kind: str = 'crashed') -> None:
        super().__init__(message)
        self.kind = kind


class _BadAnswer(Exception):
    """The process does not keep to the protocol."""


class _Answer(msgspec.Struct):
    """What the process sends; the first time, whether it cannot open sockets."""
    value: Any = None
    arrays: list[tuple[_DType, list[_Size]]] = []  # types and shapes
    error: str | None = None
    code: str = ''
    reason: str = ''
    out_of_memory: bool = False


_alive: weakref.WeakSet = weakref.WeakSet()
_noted = mmap.mmap(-1, 1)  # shared with forks, such as loading processes


class IsolatedProcess:
    """Calls functions in another process. A process that died is replaced at the next call.

    >>> with IsolatedProcess() as process:
    ...     process.call('math:hypot', 3, 4)
    (5.0, [])

    One thread at a time may use it, except for :meth:`close`.

    Args:
        memory_bytes (int): Limit on the address space of the process.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.memory_bytes = memory_bytes
        self._process: subprocess.Popen | None = None
        self._socket: socket.socket | None = None
        self._owner = os.getpid()
        _alive.add(self)

    def __enter__(self) -> 'IsolatedProcess':
        return self

    def __exit__(self, *args) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # when Python exits, anything may be gone
            self.close()

    def start(self) -> None:
        """Starts the process, which :meth:`call` does where needed.

        Raises:
            ProcessDied: it cannot be started.
        """
        if self._process is not None:
            return
        try:
            self._spawn()
            greeting, _ = self._exchange('the start', _START_SECONDS)
        except (OSError, ProcessDied) as error:  # OSError: such as too many open files
            self.close()
            why = getattr(error, 'strerror', None) or f'it {error}'
            raise ProcessDied(f'could not be started: {why}', 'start') from None
        if greeting.value is not True and not _noted[0]:
            _noted[0] = 1
            print('note: the decoding process can open sockets; libseccomp and the extra '
                  '"sandbox" block them', file=sys.stderr, flush=True)

    def call(self, function: str, *arguments, seconds: float = 30., data: bytes = b''
             ) -> tuple[object, list[np.ndarray]]:
        """Runs a function in the process and waits for its answer.

        Args:
            function (str): ``package.module:name``. It returns a JSON value, or a tuple of
                a JSON value and a list of arrays.
            *arguments: JSON values.
            seconds (float): Time limit. Starting the process has its own.
            data (bytes): If any, the last argument of the function.

        Returns:
            tuple[object, list[np.ndarray]]: The value and the arrays, of uint8, bool,
            int32, int64, float32 or float64.

        Raises:
            CallFailed: the function raised an error.
            ProcessDied: the process crashed, hung, or ran out of memory.
        """
        self.start()
        request = dict(function=function, arguments=arguments, seconds=seconds,
                       bytes=len(data))
        # Nothing after the request: the process may have answered and ended by then.
        answer, arrays = self._exchange(function, seconds, request, [data] if data else [])
        if answer.out_of_memory:
            self.close()
            raise ProcessDied(f'took more than {self.memory_bytes / 2**30:.3g} GiB of '
                              'memory', 'memory')
        if answer.error is not None:
            raise CallFailed(answer.error, answer.code, answer.reason)
        return answer.value, arrays

    def close(self) -> int | None:
        """Kills the process and whatever it started; a call in another thread then raises
        :class:`ProcessDied`.

        Returns:
            int | None: The exit status of the process, if any.
        """
        connection, self._socket = self._socket, None
        process, self._process = self._process, None
        is_own = self._owner == os.getpid()  # and not a fork's copy
        if connection is not None:
            if is_own:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
            connection.close()
        if process is None:
            return None
        if is_own:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            # A process that reads from a lost network disk cannot even be killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        else:
            process.returncode = 0  # nothing to wait for, and no warning
        return process.returncode

    def _spawn(self) -> None:
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = theirs.fileno(), self.memory_bytes
            # Not a fork: other threads may hold locks. A session of its own: Ctrl-C is for
            # the caller, and the whole process group can be killed.
            self._process = subprocess.Popen(
                [sys.executable, '-m', __name__, *map(str, arguments)],
                pass_fds=arguments[:1], env=_environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd='/',
                start_new_session=True)

    def _exchange(self, function: str, seconds: float, *request
                  ) -> tuple[_Answer, list[np.ndarray]]:
        """Sends a request, if any, and reads an answer."""
        deadline = time.monotonic() + seconds
        try:
            if request:
                _send(self._socket, *request, seconds=seconds)
            return self._receive(deadline)
        except (_BadAnswer, EOFError, OSError, AttributeError) as error:
            # AttributeError: another thread closed it.
            raise _explain_end(error, self.close(), function, seconds) from None
        except BaseException:  # Ctrl-C: the answer would be read as that of the next call
            self.close()
            raise

    def _receive(self, deadline: float) -> tuple[_Answer, list[np.ndarray]]:
        length, = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        if length > _MAX_HEADER:
            raise _BadAnswer('too long a message')
        # What is ready is read late, too: this process may have been stopped (Ctrl-Z).
        deadline = max(deadline, time.monotonic() + _GRACE_SECONDS)
        text = self._read(length, deadline).tobytes()
        try:
            # Not msgspec's own reader, which refuses names that are not UTF-8.
            answer = msgspec.convert(json.loads(text), _Answer)
            sizes = [math.prod(shape) * np.dtype(dtype).itemsize
                     for dtype, shape in answer.arrays]
            if sum(sizes) > MAX_ARRAY_BYTES:
                raise _BadAnswer('too large an array')
            return answer, [
                self._read(size, deadline).view(dtype).reshape(shape)
                for size, (dtype, shape) in zip(sizes, answer.arrays, strict=True)]
        except (ValueError, RecursionError, OverflowError) as error:
            raise _BadAnswer('no message') from error

    def _read(self, size: int, deadline: float) -> np.ndarray:
        content = np.empty(size, np.uint8)
        rest = memoryview(content)
        while rest:
            self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
            count = self._socket.recv_into(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
            if rest and time.monotonic() > deadline:  # bytes that trickle
                raise TimeoutError
        return content


def _explain_end(error: Exception, status: int | None, function: str, seconds: float
                 ) -> ProcessDied:
    """Returns the error for a process that ended with this exit status."""
    if isinstance(error, TimeoutError):
        return ProcessDied(f'took more than {seconds:g} seconds', 'hung')
    if isinstance(error, _BadAnswer):
        return ProcessDied(f'answered with {error}')
    if status is None or status >= 0:
        return ProcessDied(f'ended without an answer ({function})')
    if status == -signal.SIGALRM:
        return ProcessDied('took too long', 'hung')
    names = {-number: number.name for number in signal.Signals}
    return ProcessDied(f'crashed ({names.get(status, -status)})')


def _close_all() -> None:
    for process in list(_alive):
        process.close()


os.register_at_fork(after_in_child=_close_all)


def _environment() -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        'PATH': os.defpath, 'PYTHONDONTWRITEBYTECODE': '1',
        # What the caller can import, the process can. Not from the current folder, which
        # may hold untrusted files.
        'PYTHONPATH': os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
        # More threads and arenas reserve address space and gain nothing.
        'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '2',
    }


def _send(connection: socket.socket, header: dict, parts: Iterable = (),
          seconds: float | None = None) -> None:
    """Sends a message; parts are bytes or arrays that lie in one piece."""
    text = json.dumps(header).encode()
    connection.settimeout(seconds)
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for part in parts:
        connection.sendall(part)


# ---- In the process ---------------------------------------------------------------------


def _answer(request: dict, data: bytes) -> tuple[dict, list[np.ndarray]]:
    """Calls the function; returns the fields of :class:`_Answer`, and the arrays."""
    try:
        module, _, name = request['function'].partition(':')
        function = getattr(importlib.import_module(module), name)
        result = function(*request['arguments'], *([data] if data else []))
        value, arrays = result if isinstance(result, tuple) else (result, [])
        if sum(array.nbytes for array in arrays) > MAX_ARRAY_BYTES:
            raise MemoryError
        arrays = [*map(np.ascontiguousarray, arrays)]
        return dict(value=value, arrays=[
            (array.dtype.str, array.shape) for array in arrays]), arrays
    except HRI30Error as error:
        return dict(error=str(error), code=getattr(error, 'code', ''),
                    reason=getattr(error, 'reason', '')), []
    except MemoryError:
        return dict(out_of_memory=True), []
    except Exception as error:
        return dict(error=f'{type(error).__name__}: {error}'[:2000]), []


def _limit_process(memory_bytes: int) -> None:
    """Gives up memory, core dumps and writing files."""
    for limit, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0),
                         (resource.RLIMIT_FSIZE, 0)):
        # A job may have a lower one, which cannot be raised; -1 is none.
        most = resource.getrlimit(limit)[1]
        value = value if most < 0 else min(value, most)
        resource.setrlimit(limit, (value, value))


def _block_sockets() -> bool:
    """Gives up opening sockets; returns whether the system has what that takes."""
    try:
        import pyseccomp
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        for name in ('socket', 'socketpair', 'io_uring_setup'):
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        rules.load()
    except (ImportError, RuntimeError, OSError):  # no package, no library, not allowed
        return False
    return True


def main() -> None:
    """Answers until the caller is gone."""
    descriptor, memory_bytes = map(int, sys.argv[1:])
    connection = socket.socket(fileno=descriptor)
    sockets_blocked = _block_sockets()  # looking for the library starts a process
    _limit_process(memory_bytes)
    _send(connection, dict(value=sockets_blocked))
    stream = connection.makefile('rb')
    while len(length := stream.read(_LENGTH.size)) == _LENGTH.size:
        request = json.loads(stream.read(_LENGTH.unpack(length)[0]))
        data = stream.read(request['bytes'])
        # Kills this process wherever it is, within a library and without its caller too.
        signal.setitimer(signal.ITIMER_REAL, request['seconds'] + _GRACE_SECONDS)
        answer, arrays = _answer(request, data)
        signal.setitimer(signal.ITIMER_REAL, 0)  # the caller may be stopped (Ctrl-Z)
        _send(connection, answer, arrays)
        if 'out_of_memory' in answer:
            break
    # Without cleaning up: a damaged file may have left libraries in any state.
    os._exit(0)


if __name__ == '__main__':
    main()
