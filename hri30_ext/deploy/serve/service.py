"""State that all requests share: the model, limits in use, uploads."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import anyio
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .guards import Access
from .settings import Settings

#: Bytes that a form adds to its file.
_FORM_OVERHEAD = 2**16

#: Open WebSockets that have not shown a token yet; one more closes the oldest.
_MAX_PENDING = 8

#: Clips of a class that is taught.
MAX_CLIPS = 20


class ServiceError(HTTPException):
    """An answer that is an error: its status, a code for programs, a text for people.

    The status is one of HTTP or, from 1000 on, one of WebSocket, which is then closed.
    """

    def __init__(self, status: int, code: str, message: str,
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code, self.close_status = code, status if status >= 1000 else 1011


class Service:
    """State that all requests share."""

    def __init__(self, recognizer, settings: Settings, access: Access) -> None:
        self.recognizer, self.settings, self.access = recognizer, settings, access
        self.started = time.monotonic()
        self.requests = self.streams = self.served = self.refused = self.failed = 0
        self.teaching = asyncio.Lock()
        self.sockets: set[anyio.CancelScope] = set()
        self._pending: list[anyio.CancelScope] = []
        # One call at a time: the model uses all cores for each.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='model')
        self._queue: set[Future] = set()

    def close_sockets(self) -> None:
        """Ends all WebSockets."""
        for scope in self.sockets:
            scope.cancel()

    def close(self) -> None:
        """Cancels the calls that wait for the model."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def queue(self) -> int:
        """Number of calls that wait for the model or run in it."""
        return len(self._queue)

    async def compute(self, function: Callable, *args) -> tuple:
        """Calls a function that uses the model.

        Returns:
            tuple: Its result, and the seconds that it waited and took.

        Raises:
            ServiceError: it took too long.
        """
        asked = time.perf_counter()

        def work():
            began = time.perf_counter()
            result = function(*args)
            return result, began - asked, time.perf_counter() - began

        future = self._executor.submit(work)
        self._queue.add(future)
        future.add_done_callback(self._queue.discard)
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

    async def upload(self, request: Request) -> AsyncIterator[Path]:
        """Receives a clip; a dependency that ends with the answer, see :meth:`receive`."""
        async with self.receive(request, 1) as paths:
            yield paths[0]

    async def uploads(self, request: Request) -> AsyncIterator[list[Path]]:
        """Receives up to :data:`MAX_CLIPS` clips, as :meth:`upload` one."""
        async with self.receive(request, MAX_CLIPS) as paths:
            yield paths

    @contextlib.asynccontextmanager
    async def receive(self, request: Request, most: int) -> AsyncIterator[list[Path]]:
        """Receives the fields ``clip`` of a form.

        Yields:
            list[Path]: They lead to descriptors of this process: the files themselves have
            no names, and the system removes them when the process ends in any way.

        Raises:
            ServiceError: there are too many uploads; it is too large or too slow, or
                missing.
        """
        settings = self.settings
        if self.requests >= settings.max_requests:
            self.refused += 1
            raise ServiceError(429, 'too_many_requests', 'The service is busy; try again '
                               'in a second.', {'Retry-After': '1'})
        self.requests += 1
        try:
            with anyio.move_on_after(settings.upload_seconds) as scope:
                form = await self._read_form(request, most)
            if scope.cancelled_caught:
                raise ServiceError(408, 'upload_too_slow', 'The upload took more than '
                                   f'{settings.upload_seconds:g} seconds.')
            try:
                clips = form.getlist('clip')
                if not clips or any(isinstance(clip, str) for clip in clips):
                    raise ServiceError(422, 'no_clip', 'Expected a file as field clip.')
                if sum(clip.size for clip in clips) > settings.max_upload_bytes:
                    raise self._too_large()
                paths = []
                for clip in clips:
                    # Moves a small upload from memory to a file.
                    descriptor = clip.file.fileno()
                    clip.file.flush()
                    paths.append(Path(f'/proc/{os.getpid()}/fd/{descriptor}'))
                yield paths
            finally:
                await form.close()
        finally:
            self.requests -= 1

    async def _read_form(self, request: Request, files: int):
        most = self.settings.max_upload_bytes + _FORM_OVERHEAD
        if not request.headers.get('content-type', '').startswith('multipart/form-data'):
            raise ServiceError(415, 'not_a_form', 'Expected multipart/form-data with a '
                               'field clip.')
        length = request.headers.get('content-length', '')
        if length.isdecimal() and int(length) > most:
            raise self._too_large()

        async def parts() -> AsyncIterator[bytes]:
            received = 0
            async for part in request.stream():
                received += len(part)
                if received > most:
                    raise self._too_large()
                yield part

        try:
            return await MultiPartParser(request.headers, parts(), max_files=files,
                                         max_fields=0).parse()
        except MultiPartException as error:
            raise ServiceError(400, 'bad_form', error.message) from error
        except ClientDisconnect as error:
            raise ServiceError(400, 'disconnected', 'The upload was not finished.'
                               ) from error

    def _too_large(self) -> ServiceError:
        return ServiceError(413, 'upload_too_large', 'Clips may have '
                            f'{self.settings.max_upload_bytes} bytes.')
