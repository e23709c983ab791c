"""Files that a thread writes while the training continues."""

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar


class Background:
    """A thread that does what :func:`later` hands over, one thing after the other.

    As a context manager it is in use within the context, whose end waits for the thread.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._last: Future | None = None

    def __enter__(self) -> None:
        self._token = _in_use.set(self)

    def __exit__(self, kind, *exception) -> None:
        _in_use.reset(self._token)
        self._pool.shutdown()  # waits
        if kind is None:
            self.wait()

    def submit(self, function: Callable, *args) -> None:
        """Hands work over; none is done after one that failed."""
        before = self._last

        def work() -> None:
            if before is not None:
                before.result()
            function(*args)

        self._last = self._pool.submit(work)

    def wait(self, until_done: bool = True) -> None:
        """See :func:`wait`."""
        # A signal's handler may call this within this.
        if self._last is not None and (until_done or self._last.done()):
            try:
                self._last.result()
            finally:
                self._last = None


_in_use: ContextVar[Background | None] = ContextVar('background', default=None)


def later(function: Callable, *args) -> None:
    """Calls a function in the thread, or now where no :class:`Background` is in use.

    Args:
        function (Callable): What to call.
        args: Are copied, so that the thread sees them as they are now.
    """
    background = _in_use.get()
    if background is None:
        function(*args)
    else:
        background.submit(function, *copy.deepcopy(args))


def wait(until_done: bool = True) -> None:
    """Waits for what was handed over, and raises the error of what failed.

    Args:
        until_done (bool): False: does not wait for what is not done yet.
    """
    background = _in_use.get()
    if background is not None:
        background.wait(until_done)
