"""State that all requests share: the model, limits in use, uploads."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import anyio
from starlette.requests import ClientDisconnect, Request

from .settings import Settings

#: Bytes that a form adds to its file.
_FORM_OVERHEAD = 2**16

#: Open WebSockets that have not shown a token yet; one more closes the oldest.
_MAX_PENDING = 8


class ServiceError(Exception):
    """An answer that is an error.

    Args:
        status (int): Of HTTP.
        code (str): For programs.
        message (str): For people.
        headers (dict, optional): Of the answer.
        unread (bool): Whether the upload has not been read. The rest is then read and
            dropped: many clients look at an answer only after they have sent everything.
    """

    def __init__(self, status: int, code: str, message: str,
                 headers: dict[str, str] | None = None, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.headers, self.unread = status, code, headers, unread


class Service:
    """State that all requests share.

    Args:
        recognizer (hri30_ext.deploy.runtime.recognizer.ClipRecognizer): The model.
        settings (Settings): Limits.
        token (str, optional): Token that clients must show.
    """

    def __init__(self, recognizer, settings: Settings, token: str | None) -> None:
        self.recognizer, self.settings, self.token = recognizer, settings, token
        self.started = time.monotonic()
        self.requests = self.streams = self.served = self.refused = self.failed = 0
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
    def admit(self) -> Iterator[None]:
        """Counts an upload in progress.

        Raises:
            ServiceError: there are too many.
        """
        if self.requests >= self.settings.max_requests:
            self.refused += 1
            raise ServiceError(429, 'too_many_requests', 'The service is busy; try again '
                               'in a second.', {'Retry-After': '1'}, unread=True)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextlib.contextmanager
    def pending(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Limits the sockets that have not shown a token: their time and their number.

        The newest always gets a place. Many silent clients cannot lock out the owner,
        whose token comes right after the connection.
        """
        if len(self._pending) >= _MAX_PENDING:
            self._pending[0].cancel()
        with anyio.move_on_after(seconds) as scope:
            self._pending.append(scope)
            try:
                yield scope
            finally:
                self._pending.remove(scope)

    @contextlib.asynccontextmanager
    async def upload(self, request: Request) -> AsyncIterator[Path]:
        """Receives the field ``clip`` of a form.

        Yields:
            Path: Leads to a descriptor of this process: the file itself has no name, and
            the system removes it when the process ends in any way.

        Raises:
            ServiceError: it is too large or too slow, or missing.
        """
        if not request.headers.get('content-type', '').startswith('multipart/form-data'):
            raise ServiceError(415, 'not_a_form', 'Expected multipart/form-data with a '
                               'field clip.', unread=True)
        try:
            with anyio.fail_after(self.settings.upload_seconds):
                form = await self._read_form(request)
        except TimeoutError as error:
            raise ServiceError(408, 'upload_too_slow', 'The upload took more than '
                               f'{self.settings.upload_seconds:g} seconds.') from error
        except ClientDisconnect as error:
            raise ServiceError(400, 'disconnected',
                               'The upload was not finished.') from error
        try:
            clip = form.get('clip')
            if clip is None or isinstance(clip, str):
                raise ServiceError(422, 'no_clip', 'Expected a file as field clip.')
            if clip.size > self.settings.max_upload_bytes:
                raise self._too_large()
            descriptor = clip.file.fileno()  # moves a small upload from memory to a file
            clip.file.flush()
            yield Path(f'/proc/{os.getpid()}/fd/{descriptor}')
        finally:
            await form.close()

    async def _read_form(self, request: Request):
        most = self.settings.max_upload_bytes + _FORM_OVERHEAD
        length = request.headers.get('content-length', '')
        if length.isdecimal() and int(length) > most:
            raise self._too_large(unread=True)
        received = 0

        async def receive():
            nonlocal received
            message = await request.receive()
            received += len(message.get('body', b''))
            if received > most:
                raise self._too_large(unread=message.get('more_body', False))
            return message

        return await Request(request.scope, receive).form(max_files=1, max_fields=0)

    def _too_large(self, unread: bool = False) -> ServiceError:
        return ServiceError(413, 'upload_too_large', 'Clips may have '
                            f'{self.settings.max_upload_bytes} bytes.', unread=unread)
