"""Runs the service."""

import contextlib
import secrets
import socket
import sys
from pathlib import Path

from ...errors import HRI30Error
from .settings import MIB, Settings

_MIN_TOKEN = 16  # characters


def read_token(path: str | Path) -> str:
    """Reads a token from the first line of a file.

    Raises:
        HRI30Error: no such file, or nothing in it that can be a token.
    """
    try:
        lines = Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HRI30Error(f'{path}: cannot be read ({error}).\nExpected a file with a token '
                         'in its first line.') from error
    return check_token(lines[0].strip() if lines else '', str(path))


def check_token(token: str, source: str) -> str:
    """Returns the token.

    Raises:
        HRI30Error: it is too short, or has characters that a header cannot carry.
    """
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() \
            or ' ' in token:
        raise HRI30Error(f'{source}: expected a token of {_MIN_TOKEN} or more ASCII '
                         'characters without spaces, such as '
                         f'{secrets.token_urlsafe(24)}')
    return token


def import_server():
    """Returns uvicorn.

    Raises:
        HRI30Error: something is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise HRI30Error(f'{error.name or error}: not installed.\nThe service needs '
                         '.venv/bin/python -m pip install -e ".[serve]"') from error
    return uvicorn


def serve(folder: str | Path, host: str = '127.0.0.1', port: int = 8000,
          settings: Settings | None = None, token: str | None = None,
          hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (),
          threads: int | None = None) -> None:
    """Loads a model and serves it until it is interrupted.

    Args:
        folder (str | Path): As ``tools/deploy/export.py`` wrote it.
        host (str): Address to listen on.
        port (int): 0 takes a free one.
        settings (Settings, optional): Limits.
        token (str, optional): What clients must show.
        hosts (tuple[str, ...]): Names of this machine that clients use.
        origins (tuple[str, ...]): Origins of other pages that may call.
        threads (int, optional): Of the model; None: its runtime's own choice.

    Raises:
        HRI30Error: something is not installed, no such model, or the port is taken.
    """
    uvicorn = import_server()
    from ...apis.recognizer import Recognizer
    from .app import create_app
    from .guards import is_loopback
    settings = settings or Settings()
    listening = _listen(host, port)
    recognizer = Recognizer.load(folder, threads=threads)
    _warm_up(recognizer)
    if not is_loopback(host):
        hosts = (*hosts, host, socket.gethostname())
        if token is None:
            print(f'warning: {host} can be reached from other machines, and without a '
                  'token everyone there may use the service; see --token-file',
                  file=sys.stderr)
    app = create_app(recognizer, settings, token, hosts, origins)
    address = f'[{host}]' if ':' in host else host
    print(f'{Path(folder)}: {recognizer.info.format} {recognizer.info.precision}, '
          f'{len(recognizer.classes)} classes\n'
          f'http://{address}:{listening.getsockname()[1]}/ (Ctrl-C ends)', flush=True)
    config = uvicorn.Config(
        app, log_level='warning', access_log=False, server_header=False,
        # A little more than the limit, which is then told; and JPEGs do not get smaller.
        ws_max_size=settings.max_frame_bytes + MIB, ws_per_message_deflate=False,
        # Other connections than those that are counted: the page, health.
        limit_concurrency=4 * (settings.max_requests + settings.max_streams) + 64,
        timeout_graceful_shutdown=5)
    # Ctrl-C is how it ends: uvicorn raises it again after it has said goodbye to all.
    with listening, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128, family=(
            socket.AF_INET6 if ':' in host else socket.AF_INET))
    except (OSError, OverflowError) as error:
        raise HRI30Error(f'{host}:{port}: cannot listen ({error}).\nIs a service running '
                         'there already? Choose another --port, or --port 0.') from error


def _warm_up(recognizer) -> None:
    """Runs the model once: graphs are read and compiled at their first use."""
    import numpy as np
    preprocessing = recognizer.info.preprocessing
    width, height = preprocessing.size
    recognizer.backend(np.zeros((1, preprocessing.num_frames, height, width, 3), np.uint8))
    if recognizer.info.window_seconds:
        recognizer.stream().warm_up()
