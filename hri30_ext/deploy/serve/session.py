"""One WebSocket: frames in, events out."""

import asyncio
import contextlib
import json
import logging
import math
import struct
import time
from collections.abc import Callable
from functools import partial

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...errors import HRI30Error
from ...video.decode import call
from ...video.sandbox import IsolatedProcess
from ..runtime.streaming import FrameQueue
from ..runtime.video_io import Frame
from .decoding import explain
from .guards import ServiceError, bearer_token
from .service import Service

_log = logging.getLogger('hri30_ext.serve')

_STAMP = struct.Struct('<d')  # before each JPEG
_MAX_TEXT = 4096  # characters of a text message

#: Seconds for the first message: before it, the client has shown no token.
_START_SECONDS = 5


class Start(msgspec.Struct, tag_field='type', tag='start'):
    """The first message of a client."""
    token: str | None = None
    settings: dict[str, str | int | float | None] = {}


class Stop(msgspec.Struct, tag_field='type', tag='stop'):
    """The last message of a client; ``clip``: the end of a file."""
    clip: bool = False


class Socket:
    """A WebSocket, not accepted yet, with its token, its limits and its end.

    Subclasses serve a client that may use the service in ``serve(start)``; their messages
    are described at the top of ``app.py``.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self.websocket, self.service = websocket, service

    async def run(self) -> None:
        """Serves the socket to its end."""
        service = self.service
        await self.websocket.accept()
        end = 1000, 'stopped', ''  # status, code, message of an error
        with anyio.CancelScope() as scope:
            service.sockets.add(scope)
            try:
                await self._run()
            except WebSocketDisconnect:
                return
            except ServiceError as error:
                status = error.status_code if error.status_code >= 1000 else 1011
                end = status, error.code, error.detail
            except HRI30Error as error:
                end = 1011, *explain(error)
            except Exception:
                _log.exception('A stream ended by a bug')
                end = 1011, 'internal', 'The service has a bug; its log says more.'
            finally:
                service.sockets.discard(scope)
        if scope.cancelled_caught:
            end = 1001, 'the service ends', ''
        status, code, message = end
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            if message:
                await self.send(event='error', code=code, message=message)
            await self.websocket.close(status, code)

    async def _run(self) -> None:
        service, settings, start = self.service, self.service.settings, None
        with anyio.move_on_after(min(_START_SECONDS, settings.idle_seconds)):
            start = self.parse(await self.message(), Start)
        if start is None:
            raise ServiceError(1001, 'idle', f'No start came in {_START_SECONDS} seconds.')
        if not service.access.admits(bearer_token(self.websocket.headers) or start.token):
            raise ServiceError(1008, 'no_token', 'Expected the token of this service.')
        if service.streams >= settings.max_streams:
            raise ServiceError(1013, 'too_many_streams',
                               'Too many streams are open; try again later.')
        service.streams += 1
        try:
            await self.serve(start)
        finally:
            service.streams -= 1

    async def message(self) -> bytes | str:
        """Returns the next message of the client."""
        message = await self.websocket.receive()
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
        raise ServiceError(1003, 'bad_message', 'Expected {"type": '
                           f'"{kind.__name__.lower()}"}} as a JSON text.')

    async def send(self, **content) -> None:
        """Sends an event."""
        try:
            await self.websocket.send_text(json.dumps(content))
        except RuntimeError as error:  # it is closed already
            raise WebSocketDisconnect(1006) from error


class Session(Socket):
    """Recognizes what the frames of one client show."""

    async def serve(self, start: Start) -> None:
        """See :class:`Socket`."""
        settings = self.service.settings
        self._stream = self._open_stream(start.settings)
        self._queue = FrameQueue(settings.max_frames_waiting, live=True)
        self._received, self._bad, self._stop = 0, 0, Stop()
        with IsolatedProcess(settings.decoder_memory_bytes) as self._decoder:
            # Frames of a camera would be lost while it starts.
            await anyio.to_thread.run_sync(self._decoder.start, abandon_on_cancel=True)
            await self.send(event='ready', classes=list(self.service.recognizer.classes),
                            window_seconds=self._stream.window_seconds)
            receiving = asyncio.ensure_future(self._receive())
            try:  # until both have ended, or one fails
                await asyncio.gather(receiving, anyio.to_thread.run_sync(
                    self._work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)))
            finally:
                receiving.cancel()
                self._queue.stop()
        reason = self._stream.why_no_prediction()
        await self.send(event='closed', frames=self._received, dropped=self._queue.dropped,
                        bad=self._bad, **({'message': reason} if reason else {}))

    def _open_stream(self, settings: dict):
        recognizer = self.service.recognizer
        try:
            stream = recognizer.stream(**{**settings, 'predictions': True})
            # Memory grows with the window. A model with a longer one has that anyway.
            most = max(self.service.settings.max_window_seconds,
                       recognizer.info.window_seconds or 0)
            if stream.settings.window_seconds and stream.window_seconds > most:
                raise HRI30Error(f'window_seconds: at most {most:g}.')
        except HRI30Error as error:
            raise ServiceError(1003, 'bad_settings', str(error)) from error
        return stream

    async def _receive(self) -> None:
        """Queues messages as they come; never waits for the model."""
        settings = self.service.settings
        while True:
            try:
                with anyio.fail_after(settings.idle_seconds):
                    message = await self.message()
            except TimeoutError as error:
                raise ServiceError(1001, 'idle', 'No message came for '
                                   f'{settings.idle_seconds:g} seconds.') from error
            if isinstance(message, str):
                self._stop = self.parse(message, Stop)
                self._queue.end()
                return
            if len(message) > settings.max_frame_bytes + _STAMP.size:
                raise ServiceError(1009, 'frame_too_large',
                                   f'JPEGs may have {settings.max_frame_bytes} bytes.')
            if len(message) <= _STAMP.size or not math.isfinite(
                    timestamp := _STAMP.unpack_from(message)[0]):
                raise ServiceError(1003, 'bad_message', 'Expected a time stamp and a JPEG.')
            self._received += 1
            self._queue.put(Frame(message[_STAMP.size:], timestamp, time.monotonic()))

    def _work(self) -> None:
        """Recognizes frames one after the other, in a thread."""
        stream, settings = self._stream, self.service.settings
        for frame, more in self._queue:
            stream.dropped = self._queue.dropped
            try:
                _, (image_HWC,) = call(
                    self._decoder, 'frame', 'read_jpeg', settings.max_frame_pixels,
                    seconds=settings.decode_seconds, data=frame.image)
                self._compute(stream.push, image_HWC, frame.time, frame.captured, more)
            except HRI30Error as error:
                self._bad += 1
                code, message = explain(error)
                anyio.from_thread.run(partial(
                    self.send, event='error', code=code, message=message,
                    timestamp=frame.time, bad=self._bad))
        self._compute(stream.close, self._stop.clip)

    def _compute(self, function: Callable, *args) -> None:
        """Calls a function of the stream where the model runs, and sends its events."""
        async def compute() -> None:
            for event in await self.service.compute(function, *args):
                await self.send(**event.to_json())
        anyio.from_thread.run(compute)
