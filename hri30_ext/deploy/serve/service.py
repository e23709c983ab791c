"""State that all requests share: the model, limits in use, uploads."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import anyio
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .guards import Access
from .settings import Settings

_FORM_OVERHEAD = 2**16  # bytes that a form adds to its files

#: Open WebSockets that have not shown a token yet; one more closes the oldest.
_MAX_PENDING = 8


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
        self.queue: set[Future] = set()  # calls that wait for the model or run in it

    def close_sockets(self) -> None:
        """Ends all WebSockets."""
        for scope in self.sockets:
            scope.cancel()

    def close(self) -> None:
        """Cancels the calls that wait for the model."""
        self._executor.shutdown(wait=False, cancel_futures=True)

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

    def uploads(self, most: int) -> Callable:
        """Returns a dependency that receives up to ``most`` fields ``clip`` of a form.

        It yields paths of descriptors of this process: the files themselves have no names,
        and the system removes them when the process ends in any way.
        """
        async def receive(request: Request) -> AsyncIterator[list[Path]]:
            if self.requests >= self.settings.max_requests:
                self.refused += 1
                raise ServiceError(429, 'too_many_requests', 'The service is busy; try '
                                   'again in a second.', {'Retry-After': '1'})
            self.requests += 1
            try:
                form = await self._read_form(request, most)
                try:
                    yield self._paths(form)
                finally:
                    await form.close()
            finally:
                self.requests -= 1
        return receive

    async def _read_form(self, request: Request, most: int) -> FormData:
        seconds = self.settings.upload_seconds
        if not request.headers.get('content-type', '').startswith('multipart/form-data'):
            raise ServiceError(415, 'not_a_form', 'Expected multipart/form-data with a '
                               'field clip.')
        length = request.headers.get('content-length', '')
        self._check_size(int(length) if length.isdecimal() else 0, _FORM_OVERHEAD)

        async def parts() -> AsyncIterator[bytes]:
            received = 0
            async for part in request.stream():
                received += len(part)
                self._check_size(received, _FORM_OVERHEAD)
                yield part

        try:
            with anyio.fail_after(seconds):
                return await MultiPartParser(request.headers, parts(), max_files=most,
                                             max_fields=0).parse()
        except TimeoutError as error:
            raise ServiceError(408, 'upload_too_slow', 'The upload took more than '
                               f'{seconds:g} seconds.') from error
        except (MultiPartException, ClientDisconnect) as error:
            raise ServiceError(400, 'bad_form', f'The form is damaged: {error}') from error

    def _check_size(self, size: int, more: int = 0) -> None:
        most = self.settings.max_upload_bytes
        if size > most + more:
            raise ServiceError(413, 'upload_too_large', f'Clips may have {most} bytes.')

    def _paths(self, form: FormData) -> list[Path]:
        clips = form.getlist('clip')
        if not clips:
            raise ServiceError(422, 'no_clip', 'Expected a file as field clip.')
        self._check_size(sum(clip.size for clip in clips))
        paths = []
        for clip in clips:
            descriptor = clip.file.fileno()  # moves a small upload from memory to a file
            clip.file.flush()
            paths.append(Path(f'/proc/{os.getpid()}/fd/{descriptor}'))
        return paths
