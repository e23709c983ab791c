"""One WebSocket: frames in, events out."""

import asyncio
import contextlib
import json
import logging
import math
import struct
import time
from collections import deque
from typing import NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...errors import HRI30Error
from .decoding import DecodeError, FrameDecoder
from .guards import bearer, token_matches
from .service import Service, ServiceError

_log = logging.getLogger('hri30_ext.serve')

_STAMP = struct.Struct('<d')  # before each JPEG

_MAX_TEXT = 4096  # characters of a text message

#: Time for the first message. Before it, a place is taken by somebody who need not have a
#: token.
_START_SECONDS = 5

#: What a client may set of :class:`~hri30_ext.deploy.runtime.streaming.StreamSettings`.
CLIENT_SETTINGS = ('window_seconds', 'hop', 'every', 'smoothing', 'smooth_seconds', 'enter',
                   'leave', 'min_seconds')


class _Frame(NamedTuple):
    """What waits: its time stamp, when it came, and the JPEG."""

    timestamp: float
    captured: float
    jpeg: bytes


class _Close(Exception):
    """The end of a session that is not the client's wish: a code, and why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Session:
    """Recognizes what the frames of one client show.

    Its messages are described at the top of ``app.py``.

    Args:
        websocket (WebSocket): Not accepted yet.
        service (Service): What it shares with others.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket, self._service = websocket, service
        self._settings = service.settings
        self._waiting: deque[_Frame] = deque()
        self._changed = asyncio.Event()
        self._stopped = False
        self._received = self._dropped = self._bad = 0
        self._held = 0  # frames since one could make the stream predict
        self._stream = None

    async def run(self) -> None:
        """Serves until the client has enough, or until something is wrong."""
        await self._websocket.accept()
        service = self._service
        if service.streams >= self._settings.max_streams:
            service.refused += 1
            await self._refuse(_Close(1013, 'too_many_streams',
                                      'Too many streams are open; try again later.'))
            return
        service.streams += 1
        try:
            await self._serve()
        except WebSocketDisconnect:
            pass
        except _Close as end:
            await self._refuse(end)
        except (DecodeError, ServiceError) as error:
            await self._refuse(_Close(1011, error.code, str(error)))
        except Exception:
            _log.exception('A stream ended by a bug')
            await self._refuse(_Close(1011, 'internal',
                                      'The service has a bug; its log says more.'))
        finally:
            service.streams -= 1

    async def _serve(self) -> None:
        await self._begin()
        async with FrameDecoder(self._settings) as decoder:
            await self._send(event='ready', classes=list(self._service.recognizer.classes),
                             window_seconds=self._stream.window_seconds)
            tasks = {asyncio.create_task(self._receive()),
                     asyncio.create_task(self._work(decoder))}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await self._send(event='closed', frames=self._received, dropped=self._dropped,
                         bad=self._bad)
        await self._close(1000, 'stopped')

    async def _begin(self) -> None:
        content = self._parse(await self._message(_START_SECONDS))
        if content.get('type') != 'start':
            raise _Close(1003, 'no_start', 'Expected {"type": "start"} first.')
        token = bearer(self._websocket.headers) or content.get('token')
        if not token_matches(token if isinstance(token, str) else None,
                             self._service.token):
            raise _Close(1008, 'no_token', 'Expected the token of this service.')
        settings = content.get('settings', {})
        if not isinstance(settings, dict) or set(settings) - set(CLIENT_SETTINGS):
            raise _Close(1003, 'bad_settings', 'settings: expected an object with some of '
                         f'{", ".join(CLIENT_SETTINGS)}.')
        info = self._service.recognizer.info
        try:
            self._stream = self._service.recognizer.stream(predictions=True, **settings)
        except HRI30Error as error:
            raise _Close(1003, 'bad_settings', str(error)) from error
        # Memory grows with it. A model that needs more has it in any case.
        most = max(self._settings.max_window_seconds, info.window_seconds or 0)
        if self._stream.settings.window_seconds and self._stream.window_seconds > most:
            raise _Close(1003, 'bad_settings', f'window_seconds: at most {most:g}.')

    # ---- From the client ----------------------------------------------------------------

    async def _message(self, seconds: float = math.inf) -> bytes | str:
        seconds = min(seconds, self._settings.idle_seconds)
        try:
            message = await asyncio.wait_for(self._websocket.receive(), seconds)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise _Close(1001, 'idle', f'Nothing came for {seconds:g} seconds.') from error
        if message['type'] == 'websocket.disconnect':
            raise WebSocketDisconnect(message.get('code', 1000))
        data = message.get('bytes')
        return message.get('text') or '' if data is None else data

    def _parse(self, message: bytes | str) -> dict:
        try:
            if isinstance(message, str) and len(message) <= _MAX_TEXT:
                content = json.loads(message)
                if isinstance(content, dict):
                    return content
        except (ValueError, RecursionError):
            pass
        raise _Close(1003, 'bad_message', 'Expected a JSON object as text.')

    async def _receive(self) -> None:
        """Takes messages as they come, and never waits for the model."""
        while True:
            message = await self._message()
            if isinstance(message, str):
                if self._parse(message).get('type') != 'stop':
                    raise _Close(1003, 'bad_message', 'Expected {"type": "stop"}.')
                self._stopped = True
                self._changed.set()
                return
            if len(message) > self._settings.max_frame_bytes + _STAMP.size:
                raise _Close(1009, 'frame_too_large', 'JPEGs may have '
                             f'{self._settings.max_frame_bytes} bytes.')
            if len(message) <= _STAMP.size:
                raise _Close(1003, 'bad_message', 'Expected a time stamp and a JPEG.')
            timestamp = _STAMP.unpack_from(message)[0]
            if not math.isfinite(timestamp):
                raise _Close(1003, 'bad_message', 'The time stamp is no number.')
            self._received += 1
            if len(self._waiting) >= self._settings.max_frames_waiting:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(
                _Frame(timestamp, time.monotonic(), message[_STAMP.size:]))
            self._changed.set()

    # ---- To the client ------------------------------------------------------------------

    async def _work(self, decoder: FrameDecoder) -> None:
        """Recognizes frames one after the other."""
        while await self._more():
            await self._recognize(self._waiting.popleft(), decoder)
        for event in self._stream.close():
            await self._send(**event.to_json())

    async def _more(self) -> bool:
        """Waits for a frame; false at the end."""
        while not self._waiting and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._waiting)

    async def _recognize(self, frame: _Frame, decoder: FrameDecoder) -> None:
        self._stream.dropped = self._dropped
        # Predictions are of what is newest, but do not wait for ever.
        more = bool(self._waiting) and self._held < self._settings.max_frames_waiting
        self._held = self._held + 1 if more else 0
        try:
            image_HWC = await decoder.decode(frame.jpeg)
            events, _, _ = await self._service.compute(
                self._stream.push, image_HWC, frame.timestamp, frame.captured, more)
        except DecodeError as error:
            self._bad += 1
            await self._send(event='error', code=error.code, message=str(error),
                             timestamp=frame.timestamp, bad=self._bad)
            return
        except HRI30Error as error:
            self._bad += 1
            await self._send(event='error', code='unusable', message=str(error),
                             timestamp=frame.timestamp, bad=self._bad)
            return
        for event in events:
            await self._send(**event.to_json())

    async def _send(self, **content) -> None:
        try:
            await self._websocket.send_text(json.dumps(content))
        except RuntimeError as error:  # it is closed already
            raise WebSocketDisconnect(1006) from error

    async def _refuse(self, end: _Close) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await self._send(event='error', code=end.code, message=str(end))
        await self._close(end.status, end.code)

    async def _close(self, status: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(status, reason)
