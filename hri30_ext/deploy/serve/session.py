"""One WebSocket: frames in, events out."""

import asyncio
import contextlib
import json
import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...errors import HRI30Error
from .decoding import DecodeError, FrameDecoder
from .guards import bearer, error_response, token_matches
from .service import Service, ServiceError

_log = logging.getLogger('hri30_ext.serve')

_STAMP = struct.Struct('<d')  # before each JPEG

_MAX_TEXT = 4096  # characters of a text message

#: Seconds for the first message: before it, the client has shown no token.
_START_SECONDS = 5

#: Fields of :class:`~hri30_ext.deploy.runtime.streaming.StreamSettings` for clients.
CLIENT_SETTINGS = ('window_seconds', 'hop', 'every', 'smoothing', 'smooth_seconds', 'enter',
                   'leave', 'min_seconds')


class Start(msgspec.Struct, tag_field='type', tag='start'):
    """The first message of a client."""

    token: str | None = None
    settings: dict[str, str | int | float | None] = {}


class Stop(msgspec.Struct, tag_field='type', tag='stop'):
    """The last message of a client."""


class _Frame(NamedTuple):
    timestamp: float
    captured: float  # when it arrived, time.monotonic()
    jpeg: bytes


class Close(Exception):
    """Ends a socket with a status of WebSocket and an error for the client."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def run_together(*functions: Callable) -> None:
    """Runs functions until all have ended, or one raises an error, which is raised here."""
    errors = []

    async def run(function: Callable) -> None:
        try:
            await function()
        except Exception as error:
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(run, function)
    if errors:
        raise errors[0]


class Socket:
    """A WebSocket with its token, its limits and its end.

    Subclasses serve it in :meth:`serve`; their messages are described at the top of
    ``app.py``.

    Args:
        websocket (WebSocket): Not accepted yet.
        service (Service): State shared with others.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket, self._service = websocket, service
        self._settings = service.settings

    async def serve(self, start: Start) -> None:
        """Serves a client that may use the service."""
        raise NotImplementedError

    async def run(self) -> None:
        """Serves the socket to its end."""
        service = self._service
        token = bearer(self._websocket.headers)
        if token is not None and not token_matches(token, service.token):
            await self._websocket.send_denial_response(error_response(
                403, 'no_token', 'Expected the token of this service.'))
            return
        await self._websocket.accept()
        with anyio.CancelScope() as scope:
            service.sockets.add(scope)
            try:
                await self._run(token)
            except WebSocketDisconnect:
                pass
            except Close as end:
                await self._refuse(end)
            except (DecodeError, ServiceError) as error:
                await self._refuse(Close(1011, error.code, str(error)))
            except Exception:
                _log.exception('A stream ended by a bug')
                await self._refuse(Close(1011, 'internal',
                                         'The service has a bug; its log says more.'))
            finally:
                service.sockets.discard(scope)
        if scope.cancelled_caught:
            await self._close(1001, 'the service ends')

    async def _run(self, token: str | None) -> None:
        service, start = self._service, None
        with service.pending(min(_START_SECONDS, self._settings.idle_seconds)):
            start = self.parse(await self.message(), Start)
        if start is None:
            raise Close(1001, 'idle', f'No start came in {_START_SECONDS} seconds, or too '
                        'many others connected.')
        if not token_matches(token or start.token, service.token):
            raise Close(1008, 'no_token', 'Expected the token of this service.')
        if service.streams >= self._settings.max_streams:
            service.refused += 1
            raise Close(1013, 'too_many_streams',
                        'Too many streams are open; try again later.')
        service.streams += 1
        try:
            await self.serve(start)
        finally:
            service.streams -= 1
        await self._close(1000, 'stopped')

    async def message(self) -> bytes | str:
        """Returns the next message of the client."""
        message = await self._websocket.receive()
        if message['type'] == 'websocket.disconnect':
            raise WebSocketDisconnect(message.get('code', 1000))
        data = message.get('bytes')
        return message.get('text') or '' if data is None else data

    def parse(self, message: bytes | str, kind: type):
        """Reads a message as a :class:`Start` or :class:`Stop`."""
        try:
            if isinstance(message, str) and len(message) <= _MAX_TEXT:
                return msgspec.json.decode(message, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
        raise Close(1003, 'bad_message', f'Expected {{"type": "{kind.__name__.lower()}"}} '
                    'as a JSON text.')

    async def send(self, **content) -> None:
        """Sends an event."""
        try:
            await self._websocket.send_text(json.dumps(content))
        except RuntimeError as error:  # it is closed already
            raise WebSocketDisconnect(1006) from error

    async def _refuse(self, end: Close) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await self.send(event='error', code=end.code, message=str(end))
        await self._close(end.status, end.code)

    async def _close(self, status: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(status, reason)


class Session(Socket):
    """Recognizes what the frames of one client show."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        super().__init__(websocket, service)
        self._waiting: deque[_Frame] = deque()
        self._changed = asyncio.Event()
        self._stopped = False
        self._received = self._dropped = self._bad = 0
        self._held = 0  # frames since a prediction was due
        self._stream = None

    async def serve(self, start: Start) -> None:
        """See :meth:`Socket.serve`."""
        self._stream = self._open_stream(start.settings)
        async with FrameDecoder(self._settings) as decoder:
            await self.send(event='ready', classes=list(self._service.recognizer.classes),
                            window_seconds=self._stream.window_seconds)
            await run_together(self._receive, partial(self._work, decoder))
        await self.send(event='closed', frames=self._received, dropped=self._dropped,
                        bad=self._bad)

    def _open_stream(self, settings: dict):
        recognizer = self._service.recognizer
        try:
            if set(settings) - set(CLIENT_SETTINGS):
                raise HRI30Error('settings: expected some of '
                                 f'{", ".join(CLIENT_SETTINGS)}.')
            stream = recognizer.stream(predictions=True, **settings)
            # Memory grows with the window. A model with a longer one has that anyway.
            most = max(self._settings.max_window_seconds,
                       recognizer.info.window_seconds or 0)
            if stream.settings.window_seconds and stream.window_seconds > most:
                raise HRI30Error(f'window_seconds: at most {most:g}.')
        except HRI30Error as error:
            raise Close(1003, 'bad_settings', str(error)) from error
        return stream

    async def _receive(self) -> None:
        """Queues messages as they come; never waits for the model."""
        settings = self._settings
        while True:
            try:
                with anyio.fail_after(settings.idle_seconds):
                    message = await self.message()
            except TimeoutError as error:
                raise Close(1001, 'idle', 'No message came for '
                            f'{settings.idle_seconds:g} seconds.') from error
            if isinstance(message, str):
                self.parse(message, Stop)
                self._stopped = True
                self._changed.set()
                return
            if len(message) > settings.max_frame_bytes + _STAMP.size:
                raise Close(1009, 'frame_too_large',
                            f'JPEGs may have {settings.max_frame_bytes} bytes.')
            if len(message) <= _STAMP.size or not math.isfinite(
                    timestamp := _STAMP.unpack_from(message)[0]):
                raise Close(1003, 'bad_message', 'Expected a time stamp and a JPEG.')
            self._received += 1
            if len(self._waiting) >= settings.max_frames_waiting:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(
                _Frame(timestamp, time.monotonic(), message[_STAMP.size:]))
            self._changed.set()

    async def _work(self, decoder: FrameDecoder) -> None:
        """Recognizes frames one after the other."""
        while self._waiting or not self._stopped:
            if self._waiting:
                await self._recognize(self._waiting.popleft(), decoder)
            else:
                self._changed.clear()
                await self._changed.wait()
        for event in self._stream.close():
            await self.send(**event.to_json())

    async def _recognize(self, frame: _Frame, decoder: FrameDecoder) -> None:
        self._stream.dropped = self._dropped
        # A prediction that is due waits for newer frames, but not forever.
        more = bool(self._waiting) and self._held < self._settings.max_frames_waiting
        self._held = self._held + 1 if more else 0
        try:
            image_HWC = await decoder.decode(frame.jpeg)
            events, _, _ = await self._service.compute(
                self._stream.push, image_HWC, frame.timestamp, frame.captured, more)
        except (DecodeError, HRI30Error) as error:
            self._bad += 1
            await self.send(event='error', code=getattr(error, 'code', 'unusable'),
                            message=str(error), timestamp=frame.timestamp, bad=self._bad)
            return
        for event in events:
            await self.send(**event.to_json())
