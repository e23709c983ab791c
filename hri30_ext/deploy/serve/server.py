"""Runs the service."""

import asyncio
import contextlib
import dataclasses
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

from ...errors import HRI30Error
from ..runtime.backends import import_package
from .settings import MIB, Settings


def import_server() -> None:
    """Imports the packages of the service; an HRI30Error names one that is missing."""
    for package in ('fastapi', 'hypercorn', 'python_multipart'):
        import_package(package)


def serve(name: str, load: Callable[[], tuple], host: str, port: int, settings: Settings,
          access) -> None:
    """Loads a model and serves it until SIGINT or SIGTERM; port 0 is a free one.

    ``load`` returns a ``ClipRecognizer`` and, where clients may add classes, what
    :func:`~.app.create_app` takes for that. An HRI30Error: no such model, or the port is
    taken.
    """
    from .app import create_app
    from .guards import is_loopback
    listening = listen(host, port)
    recognizer, teacher = load()
    # Graphs are read and compiled at their first use.
    preprocessing = recognizer.info.preprocessing
    width, height = preprocessing.size
    recognizer.backend(np.zeros((1, preprocessing.num_frames, height, width, 3), np.uint8))
    with contextlib.suppress(HRI30Error):  # the length of a window is not known
        recognizer.stream().warm_up()
    if not is_loopback(host):
        access = dataclasses.replace(
            access, hosts=(*access.hosts, host, socket.gethostname()))
        if access.token is None:
            print(f'warning: {host} can be reached from other machines, and without a '
                  'token everyone there may use the service; see --token-file',
                  file=sys.stderr)
    app = create_app(recognizer, settings, access, teacher=teacher)
    print(f'{name}: {recognizer.info.format} {recognizer.info.precision}, '
          f'{len(recognizer.classes)} classes\n{_url(listening)}/ (Ctrl-C ends)',
          flush=True)

    async def until_signalled() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await _run(app, listening, stop)

    asyncio.run(until_signalled())


@contextlib.contextmanager
def run_in_thread(app, listening: socket.socket) -> Iterator[tuple]:
    """Serves an application, see :func:`~.app.create_app`, in a thread of its own.

    Yields:
        tuple[str, asyncio.AbstractEventLoop]: Its address, and the loop that it runs in.
    """
    url, loop, stop = _url(listening), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, daemon=True, name='service',
                              args=(_run(app, listening, stop), ))
    thread.start()
    try:
        yield url, loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=20)


async def _run(app, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serves until an event is set; WebSockets are then closed, requests completed."""
    import hypercorn
    from hypercorn.asyncio import serve as serve_app
    service = app.state.service
    config = hypercorn.Config()
    config.bind = [f'fd://{listening.detach()}']
    config.loglevel, config.include_server_header = 'WARNING', False
    # A little more than the limit, which the session tells.
    config.websocket_max_message_size = service.settings.max_frame_bytes + MIB
    # Silent clients and incomplete headers are closed after this time.
    config.keep_alive_timeout, config.graceful_timeout = 5, 5

    async def stopped() -> None:
        await stop.wait()
        service.close_sockets()

    await serve_app(app, config, shutdown_trigger=stopped)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def listen(host: str, port: int) -> socket.socket:
    """Listens on an address; an HRI30Error: it is taken, or not of this machine."""
    try:
        return socket.create_server((host, port), backlog=128, family=(
            socket.AF_INET6 if ':' in host else socket.AF_INET))
    except (OSError, OverflowError) as error:
        raise HRI30Error(f'{host}:{port}: cannot listen ({error}).\nIs a service running '
                         'there already? Choose another --port, or --port 0.') from error
