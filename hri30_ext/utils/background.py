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
        self.pool = ThreadPoolExecutor(1)
        self.last: Future | None = None

    def __enter__(self) -> None:
        self._token = _in_use.set(self)

    def __exit__(self, kind, *exception) -> None:
        _in_use.reset(self._token)
        self.pool.shutdown()  # waits
        if kind is None and self.last is not None:
            self.last.result()


_in_use: ContextVar[Background | None] = ContextVar('background', default=None)


def later(function: Callable, *args) -> None:
    """Calls a function in the thread, or now where no :class:`Background` is in use. After
    a call that failed, no other one is made.

    Args:
        function (Callable): What to call.
        args: Are copied, so that the thread sees them as they are now.
    """
    background = _in_use.get()
    if background is None:
        function(*args)
    else:
        background.last = background.pool.submit(
            _call_after, background.last, function, copy.deepcopy(args))


def _call_after(before: Future | None, function: Callable, args: tuple) -> None:
    if before is not None:
        before.result()
    function(*args)


def wait(until_done: bool = True) -> None:
    """Waits for what was handed over, and raises the error of what failed.

    Args:
        until_done (bool): False: does not wait for what is not done yet.
    """
    background = _in_use.get()
    last = background and background.last
    if last and (until_done or last.done()):
        try:
            last.result()
        finally:  # also where a signal's handler called this within this
            background.last = None
