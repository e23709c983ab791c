"""Access control: the names of the service, the pages that may call it, the token."""

import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import HRI30Error
from ...utils.reading import read_text

#: The page loads nothing from elsewhere. Clips are shown from memory.
CONTENT_SECURITY_POLICY = '; '.join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
    "img-src 'self' data:", 'media-src blob:', "base-uri 'none'", "form-action 'none'",
    "frame-ancestors 'none'"))

_HEADERS = {
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Permissions-Policy': 'camera=(self), microphone=(), geolocation=()',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}

_MIN_TOKEN = 16  # characters


def error_response(status: int, code: str, message: str,
                   headers: dict[str, str] | None = None) -> Response:
    """Returns an error in the form of :class:`~.schemas.Error`."""
    return JSONResponse({'error': {'code': code, 'message': message}}, status, headers)


@dataclass(frozen=True)
class Access:
    """Who may use a service."""
    token: str | None = None  # that clients must show; None: all who reach the service
    hosts: tuple[str, ...] = ()  # names of this machine, besides localhost and IP addresses
    origins: tuple[str, ...] = ()  # of other pages that may call: https://robot.example

    def admits(self, token: str | None) -> bool:
        """Whether a token is the right one; true where the service has none."""
        # The time it takes does not tell how much of it is right.
        return self.token is None or hmac.compare_digest(
            (token or '').encode('utf-8', 'surrogatepass'), self.token.encode())


def read_token(path: str | None) -> str | None:
    """Returns the first line of a file, or HRI30_TOKEN; None where neither is given.

    Raises:
        HRI30Error: no such file; or the token is too short, or has characters that a header
            cannot carry.
    """
    token = os.environ.get('HRI30_TOKEN')
    if path:
        text = read_text(path, 'a file with a token in its first line')
        token = text.partition('\n')[0].strip()
    elif not token:
        return None
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() \
            or ' ' in token:
        raise HRI30Error(f'{path or "HRI30_TOKEN"}: expected a token of {_MIN_TOKEN} or '
                         'more ASCII characters without spaces, such as '
                         f'{secrets.token_urlsafe(24)}')
    return token


def _address(name: str):
    """Returns the IP address that a host is given by; None for a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(name: str) -> bool:
    """Whether a host can be reached from this machine only."""
    address = _address(name)
    return name == 'localhost' if address is None else address.is_loopback


class Guard:
    """Refuses requests of other sites' pages, and adds headers to every answer.

    A page of another site may make a browser on this machine send requests here. The
    browser sends that site's ``Origin`` with uploads and WebSockets; or, if the site's name
    was made to resolve to this machine (DNS rebinding), that name as ``Host``. An IP
    address cannot be rebound.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.hosts = {'localhost', *map(str.lower, access.hosts)}
        self.origins = {origin.rstrip('/').lower() for origin in access.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        async def send_with_headers(message: Message) -> None:
            if message['type'] in ('http.response.start', 'websocket.http.response.start'):
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = None if scope['type'] == 'lifespan' else self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = (headers.get(name, '').lower() for name in ('host', 'origin'))
        try:
            name = urlsplit(f'//{host}').hostname or ''
        except ValueError:
            name = ''
        if name not in self.hosts and _address(name) is None:
            return error_response(403, 'unknown_host', 'The service is not known by this '
                                  'name; start it with --allowed-host NAME.')
        changes = scope['type'] == 'websocket' or scope['method'] not in ('GET', 'HEAD')
        if changes and origin and origin not in self.origins and (
                origin.partition('://')[2] != host):
            return error_response(403, 'foreign_origin', 'Pages of other sites may not '
                                  'call this service; start it with --allowed-origin '
                                  'ORIGIN.')
        return None
