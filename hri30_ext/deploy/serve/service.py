"""What all requests share: the model, limits in use, uploads."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import anyio
import numpy as np
from starlette.requests import ClientDisconnect, Request

from .settings import Settings

#: What a form adds to its file, bytes.
_FORM_OVERHEAD = 2**16


class ServiceError(Exception):
    """An answer that is an error.

    Args:
        status (int): Of HTTP.
        code (str): For programs.
        message (str): For people.
        headers (dict, optional): Of the answer.
        unread (bool): Whether the upload has not been read. Its rest is read and forgotten
            then: many clients look at an answer only after they have sent everything.
    """

    def __init__(self, status: int, code: str, message: str,
                 headers: dict[str, str] | None = None, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.headers, self.unread = status, code, headers, unread


class Service:
    """What all requests share.

    Args:
        recognizer (hri30_ext.apis.recognizer.Recognizer): The model.
        settings (Settings): Limits.
        token (str, optional): What clients must show.
    """

    def __init__(self, recognizer, settings: Settings, token: str | None) -> None:
        self.recognizer, self.settings, self.token = recognizer, settings, token
        self.started = time.monotonic()
        self.requests = self.streams = 0
        self.served = self.refused = self.failed = 0
        # One after the other: the model uses all cores for each.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='model')
        self._queue: set[Future] = set()
        self._uploads = tempfile.TemporaryDirectory(prefix='hri30-uploads-')

    def close(self) -> None:
        """Ends what was started, and removes what uploads are left."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._uploads.cleanup()

    @property
    def queue(self) -> int:
        """What waits for the model or is in it."""
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
        try:
            done, _ = await asyncio.wait({asyncio.wrap_future(future)},
                                         timeout=self.settings.predict_seconds)
        finally:
            future.cancel()  # unless it has begun, where nobody waits for it any more
        if not done:
            raise ServiceError(504, 'model_too_slow', 'The model took more than '
                               f'{self.settings.predict_seconds:g} seconds.')
        return done.pop().result()

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Counts an upload that is worked on.

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

    @contextlib.asynccontextmanager
    async def upload(self, request: Request) -> AsyncIterator[Path]:
        """Receives the field ``clip`` of a form into a file, which is removed afterwards.

        Raises:
            ServiceError: it is too large or too slow, or is not there.
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
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(form.close)
            clip = form.get('clip')
            if clip is None or isinstance(clip, str):
                raise ServiceError(422, 'no_clip', 'Expected a file as field clip.')
            if clip.size > self.settings.max_upload_bytes:
                raise self._too_large()
            # A name of our own: that of the upload is not looked at.
            handle, path = tempfile.mkstemp(dir=self._uploads.name, suffix='.clip')
            stack.callback(os.unlink, path)
            with os.fdopen(handle, 'wb') as file:
                await anyio.to_thread.run_sync(shutil.copyfileobj, clip.file, file)
            yield Path(path)

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

    def predict(self, views_VTHWC: np.ndarray):
        """Recognizes one clip; returns a :class:`~hri30_ext.apis.recognizer.Prediction`."""
        return next(self.recognizer.predict_views([views_VTHWC]))
