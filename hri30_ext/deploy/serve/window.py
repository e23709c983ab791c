"""The window of a stream: the page of the service, in a browser on this machine."""

import asyncio
import contextlib
import secrets
import time

import numpy as np

from ...video.jpeg import encode_jpeg
from .app import create_app
from .guards import Access
from .server import listen, run_in_thread
from .service import Service
from .session import Socket, Start

_LEFT_SECONDS = 3  # without a viewer, after which the window counts as closed
_MAX_WAITING = 256  # frames with their events that wait for one viewer


class _Viewer(Socket):
    """A page that shows the stream: gets its events and its latest frame."""

    def __init__(self, websocket, service: Service, window: 'Window') -> None:
        super().__init__(websocket, service)
        self._window, self.queue = window, asyncio.Queue(_MAX_WAITING)

    async def serve(self, start: Start) -> None:
        """See :class:`~.session.Socket`."""
        viewers = self._window.viewers
        await self.send(event='ready')
        viewers.add(self)
        sending = asyncio.ensure_future(self._send_all())
        try:
            while True:  # until the page is closed or stopped
                await self.message()
        finally:
            sending.cancel()
            viewers.discard(self)
            if not viewers:
                self._window.left = time.monotonic()

    async def _send_all(self) -> None:
        while True:
            jpeg, events = await self.queue.get()
            for event in events:
                await self.send(**event)
            if self.queue.empty():
                await self.websocket.send_bytes(jpeg)


class Window:
    """Shows a running stream on the page of the service, in a browser.

    The service listens on 127.0.0.1 alone, and requires a token that only ``url``, the
    address of the page, contains.

    Args:
        recognizer (ClipRecognizer): The model.
        source (str): Name of the source of the stream.
    """

    def __init__(self, recognizer, source: str) -> None:
        self.source = source
        self.viewers: set[_Viewer] = set()
        self.left: float | None = None  # when the last viewer went away
        token = secrets.token_urlsafe(24)
        app = create_app(recognizer, access=Access(token), window=self)
        self._stack = contextlib.ExitStack()
        url, self._loop = self._stack.enter_context(
            run_in_thread(app, listen('127.0.0.1', 0)))
        self.url = f'{url}/#{token}'

    async def serve(self, websocket, service: Service) -> None:
        """Serves the WebSocket of a page."""
        await _Viewer(websocket, service, self).run()

    def show(self, image_HWC: np.ndarray, events: list[dict]) -> bool:
        """Shows a frame, uint8 RGB, and its events; returns False once all pages that
        showed the stream were closed or stopped.
        """
        if self.viewers:
            self._loop.call_soon_threadsafe(
                self._publish, encode_jpeg(image_HWC, quality=80), events)
        return bool(self.viewers) or self.left is None or (
            time.monotonic() - self.left < _LEFT_SECONDS)

    def _publish(self, jpeg: bytes, events: list[dict]) -> None:
        for viewer in self.viewers:
            with contextlib.suppress(asyncio.QueueFull):
                viewer.queue.put_nowait((jpeg, events))

    def close(self) -> None:
        """Ends the service."""
        self._stack.close()
