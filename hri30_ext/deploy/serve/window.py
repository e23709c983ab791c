"""The window of a stream: the page of the service, in a browser on this machine."""

import asyncio
import contextlib
import secrets
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Iterator

import numpy as np
from starlette.websockets import WebSocket

from ...video.jpeg import encode_jpeg
from .app import create_app
from .server import listen, run_app
from .session import Socket, Start, run_together

_LEFT_SECONDS = 3  # without a viewer, after which the window counts as closed
_MAX_EVENTS = 256  # that wait for one viewer


class _Viewer(Socket):
    """A page that shows the stream: gets its events and its latest frame."""

    def __init__(self, websocket: WebSocket, window: 'Window') -> None:
        super().__init__(websocket, window.service)
        self._window = window
        self._events: deque[dict] = deque(maxlen=_MAX_EVENTS)
        self._jpeg: bytes | None = None
        self._changed = asyncio.Event()

    def put(self, jpeg: bytes, events: list[dict]) -> None:
        """Queues events, and replaces the frame that was not sent yet."""
        self._events.extend(events)
        self._jpeg = jpeg
        self._changed.set()

    async def serve(self, start: Start) -> None:
        """See :meth:`Socket.serve`."""
        await self.send(event='ready')
        with self._window.joined(self):
            await run_together(self._send_all, self._wait)

    async def _wait(self) -> None:
        """Waits until the page is closed or stopped."""
        while True:
            await self.message()

    async def _send_all(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._events:
                await self.send(**self._events.popleft())
            if self._jpeg is not None:
                await self._websocket.send_bytes(self._jpeg)
                self._jpeg = None


class Window:
    """Shows a running stream on the page of the service, in a browser.

    The service listens on 127.0.0.1 alone, and requires a token that only the address of
    the page contains.

    Args:
        recognizer (hri30_ext.deploy.runtime.recognizer.ClipRecognizer): The model.
        source (str): Name of the source of the stream.

    Attributes:
        url (str): Address of the page.
    """

    def __init__(self, recognizer, source: str) -> None:
        self.source = source
        token = secrets.token_urlsafe(24)
        app = create_app(recognizer, token=token, window=self)
        self.service = app.state.service
        self._viewers: set[_Viewer] = set()
        self._left: float | None = None  # when the last viewer went away
        listening = listen('127.0.0.1', 0)
        self.url = f'http://127.0.0.1:{listening.getsockname()[1]}/#{token}'
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, daemon=True, name='window',
            args=(run_app(app, listening, self._stop), ))
        self._thread.start()

    def open(self) -> bool:
        """Opens the page; False if this machine has no browser to show it."""
        return webbrowser.open(self.url)

    def show(self, image_HWC: np.ndarray, events: list[dict]) -> bool:
        """Shows a frame, uint8 RGB, and its events.

        Returns:
            bool: False once all pages that showed the stream were closed or stopped.
        """
        if self._viewers:
            self._loop.call_soon_threadsafe(
                self._publish, encode_jpeg(image_HWC, quality=80), events)
        return self._left is None or time.monotonic() - self._left < _LEFT_SECONDS

    def _publish(self, jpeg: bytes, events: list[dict]) -> None:
        for viewer in self._viewers:
            viewer.put(jpeg, events)

    async def watch(self, websocket: WebSocket) -> None:
        """Serves the WebSocket of a page."""
        await _Viewer(websocket, self).run()

    @contextlib.contextmanager
    def joined(self, viewer: _Viewer) -> Iterator[None]:
        """Counts a page as long as it shows the stream."""
        self._viewers.add(viewer)
        self._left = None
        try:
            yield
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._left = time.monotonic()

    def close(self) -> None:
        """Ends the service."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
