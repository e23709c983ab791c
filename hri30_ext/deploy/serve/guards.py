"""Who may ask: the names that the service has, the pages that may call it, the token."""

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Browsers load nothing for the page but from here. Frames are shown from memory.
CONTENT_SECURITY_POLICY = '; '.join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
    "img-src 'self' data:", "base-uri 'none'", "form-action 'none'",
    "frame-ancestors 'none'"))

_HEADERS = {
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Permissions-Policy': 'camera=(self), microphone=(), geolocation=()',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}


def error_response(status: int, code: str, message: str,
                   headers: dict[str, str] | None = None) -> Response:
    """Makes the answer that every error has, see :class:`~.schemas.Error`."""
    return JSONResponse({'error': {'code': code, 'message': message}}, status, headers)


def host_name(host: str) -> str:
    """Returns the name in a Host header, without port and brackets, in small letters.

    >>> host_name('Robot.local:8000'), host_name('[::1]:8000')
    ('robot.local', '::1')
    """
    try:
        return urlsplit(f'//{host}').hostname or ''
    except ValueError:
        return ''


def is_address(name: str) -> bool:
    """Says whether a host is given by its IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Says whether only this machine reaches a host."""
    if is_address(name):
        return ipaddress.ip_address(name).is_loopback
    return name == 'localhost'


def token_matches(given: str | None, token: str | None) -> bool:
    """Says whether a token is the one; true where none is needed."""
    if token is None:
        return True
    # In a time that does not tell how much of it is right.
    return hmac.compare_digest((given or '').encode('utf-8', 'surrogatepass'),
                               token.encode())


def bearer(headers: Headers) -> str | None:
    """Returns the token of an ``Authorization: Bearer`` header."""
    scheme, _, value = headers.get('authorization', '').partition(' ')
    return value.strip() if scheme.lower() == 'bearer' else None


class Guard:
    """Refuses what other sites' pages send, and adds headers to every answer.

    A page of another site may make a browser on this machine send requests here. It sends
    that site's ``Origin`` with uploads and WebSockets; or, where its name was made to
    stand for this machine (DNS rebinding), that site's name as ``Host``. An IP address
    cannot be rebound.

    Args:
        app (ASGIApp): What is guarded.
        hosts (Iterable[str]): Names that the service has, besides ``localhost`` and any IP
            address.
        origins (Iterable[str]): Other origins whose pages may call, such as
            ``https://robot.example``. Nobody else needs to be listed.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (),
                 origins: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = {'localhost', *(host.lower() for host in hosts)}
        self.origins = {origin.rstrip('/').lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] in ('http.response.start', 'websocket.http.response.start'):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
        else:
            await refusal(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        name = host_name(headers.get('host', ''))
        if name not in self.hosts and not is_address(name):
            return error_response(403, 'unknown_host', 'The service is not known by this '
                                  'name; start it with --allowed-host NAME.')
        changes = scope['type'] == 'websocket' or scope['method'] not in ('GET', 'HEAD')
        origin = headers.get('origin')
        if changes and origin is not None and not self._same(origin, headers['host']):
            return error_response(403, 'foreign_origin', 'Pages of other sites may not '
                                  'call this service; start it with --allowed-origin '
                                  'ORIGIN.')
        return None

    def _same(self, origin: str, host: str) -> bool:
        origin = origin.lower()
        return origin in self.origins or origin.partition('://')[2] == host.lower()
