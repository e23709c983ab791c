"""State that all requests share: the model and the limits in use."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio

from .guards import Access, ServiceError
from .settings import Settings


class Service:
    """State that all requests share."""

    def __init__(self, recognizer, settings: Settings, access: Access) -> None:
        self.recognizer, self.settings, self.access = recognizer, settings, access
        self.requests = self.streams = 0
        self.teaching = asyncio.Lock()
        self.sockets: set[anyio.CancelScope] = set()
        # One call at a time: the model uses all cores for each.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='model')

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
        with anyio.move_on_after(self.settings.predict_seconds):
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, function, *args)
        raise ServiceError(504, 'model_too_slow', 'The model took more than '
                           f'{self.settings.predict_seconds:g} seconds.')
