"""State that all requests share: the model and the limits in use."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import anyio

from .guards import Access, ServiceError
from .settings import Settings

#: Open WebSockets that have not shown a token yet; one more closes the oldest.
_MAX_PENDING = 8


class Service:
    """State that all requests share."""

    def __init__(self, recognizer, settings: Settings, access: Access) -> None:
        self.recognizer, self.settings, self.access = recognizer, settings, access
        self.requests = self.streams = 0
        self.teaching = asyncio.Lock()
        self.sockets: set[anyio.CancelScope] = set()
        self._pending: list[anyio.CancelScope] = []
        # One call at a time: the model uses all cores for each.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='model')
        self.queue: set[Future] = set()  # calls that wait for the model or run in it

    def close_sockets(self) -> None:
        """Ends all WebSockets."""
        for scope in self.sockets:
            scope.cancel()

    def close(self) -> None:
        """Cancels the calls that wait for the model."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def compute(self, function: Callable, *args):
        """Calls a function that uses the model, and returns its result.

        Raises:
            ServiceError: it took too long.
        """
        future = self._executor.submit(function, *args)
        self.queue.add(future)
        future.add_done_callback(self.queue.discard)
        with anyio.move_on_after(self.settings.predict_seconds):
            return await asyncio.wrap_future(future)
        raise ServiceError(504, 'model_too_slow', 'The model took more than '
                           f'{self.settings.predict_seconds:g} seconds.')

    @contextlib.contextmanager
    def pending(self, seconds: float) -> Iterator[None]:
        """Limits the sockets that have not shown a token: their time and their number.

        The newest always gets a place. Many silent clients cannot lock out the owner,
        whose token comes right after the connection.
        """
        if len(self._pending) >= _MAX_PENDING:
            self._pending[0].cancel()
        with anyio.move_on_after(seconds) as scope:
            self._pending.append(scope)
            try:
                yield
            finally:
                self._pending.remove(scope)
