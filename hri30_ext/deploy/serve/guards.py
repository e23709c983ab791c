"""The door of the service: names, pages of other sites, the token, limits of uploads."""

import contextlib
import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import HRI30Error
from ...utils.reading import read_text
from .settings import Settings

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


class ServiceError(HTTPException):
    """An answer that is an error: its status, a code for programs, a text for people.

    The status is one of HTTP or, from 1000 on, one of WebSocket, which is then closed.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message)
        self.code = code


def error_response(status: int, code: str, message: str,
                   headers: dict[str, str] | None = None) -> Response:
    """Returns an error in the form of :class:`~.schemas.Error`."""
    return JSONResponse({'error': {'code': code, 'message': message}}, status, headers)


@dataclass(frozen=True)
class Access:
    """Who may use a service."""
    token: str | None = None  # that clients must show; None: all who reach the service
    hosts: tuple[str, ...] = ()  # names of this machine, besides localhost and IP addresses

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


def bearer_token(headers: Headers) -> str | None:
    """Returns the token of the header ``Authorization``, if there is one."""
    scheme, token = get_authorization_scheme_param(headers.get('authorization'))
    return token if scheme.lower() == 'bearer' else None


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
    """Refuses requests at the door, limits uploads, and adds headers to every answer.

    A page of another site may make a browser on this machine send requests here. The
    browser sends that site's ``Origin`` with uploads and WebSockets; or, if the site's name
    was made to resolve to this machine (DNS rebinding), that name as ``Host``. An IP
    address cannot be rebound.

    Nothing of an upload is read without the token, or while too many are processed. Its
    size and time, and the time that the client takes for the answer, are limited.
    """

    def __init__(self, app: ASGIApp, service) -> None:
        self.app, self.service = app, service
        self.hosts = {'localhost', *map(str.lower, service.access.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        exchange, service = _Exchange(receive, send, self.service.settings), self.service
        if refusal := self._refusal(scope):
            await refusal(scope, receive, exchange.send)
        elif scope['type'] == 'websocket':
            await self.app(scope, receive, exchange.send)
        else:
            is_upload = scope['method'] == 'POST'
            service.requests += is_upload
            try:
                # Suppressed: the client has gone, or does not take the answer.
                with contextlib.suppress(TimeoutError, ClientDisconnect):
                    await self.app(scope, exchange.receive, exchange.send)
            finally:
                service.requests -= is_upload

    def _refusal(self, scope: Scope) -> Response | None:
        headers, service = Headers(scope=scope), self.service
        host, origin = (headers.get(name, '').lower() for name in ('host', 'origin'))
        try:
            name = urlsplit(f'//{host}').hostname or ''
        except ValueError:
            name = ''
        if name not in self.hosts and _address(name) is None:
            return error_response(403, 'unknown_host', 'The service is not known by this '
                                  'name; start it with --allowed-host NAME.')
        changes = scope['type'] == 'websocket' or scope['method'] not in ('GET', 'HEAD')
        if changes and origin and origin.partition('://')[2] != host:
            return error_response(403, 'foreign_origin', 'Pages of other sites may not '
                                  'call this service.')
        token = bearer_token(headers)
        if scope['type'] == 'websocket':
            # Without a header, the token comes in the first message.
            return None if token is None or service.access.admits(token) else (
                error_response(403, 'no_token', 'Expected the token of this service.'))
        locked = scope['path'].startswith('/v1/') and scope['path'] != '/v1/health'
        if locked and not service.access.admits(token):
            return error_response(401, 'no_token', 'Expected the header Authorization: '
                                  'Bearer TOKEN, with the token of this service.',
                                  {'WWW-Authenticate': 'Bearer'})
        if int(headers.get('content-length', 0)) > service.settings.max_upload_bytes:
            return error_response(413, *_too_large(service.settings))
        if scope['method'] == 'POST' and service.requests >= service.settings.max_requests:
            return error_response(429, 'too_many_requests', 'The service is busy; try '
                                  'again in a second.', {'Retry-After': '1'})
        return None


def _too_large(settings: Settings) -> tuple[str, str]:
    return 'upload_too_large', f'Uploads may have {settings.max_upload_bytes} bytes.'


class _Exchange:
    """A request and its answer, within the limits of the service."""

    def __init__(self, receive: Receive, send: Send, settings: Settings) -> None:
        self._receive, self._send, self._settings = receive, send, settings
        self._received, self._more = 0, True  # bytes of the request; whether it goes on
        self._deadline = anyio.current_time() + settings.upload_seconds

    async def receive(self) -> Message:
        """Receives a part of the request."""
        if not self._more:  # then, the end of the connection
            return await self._receive()
        settings, message = self._settings, None
        with anyio.CancelScope(deadline=self._deadline):
            message = await self._receive()
        if message is None:
            raise ServiceError(408, 'upload_too_slow', 'The upload took more than '
                               f'{settings.upload_seconds:g} seconds.')
        self._more = message.get('more_body', False)
        self._received += len(message.get('body', b''))
        if self._received > settings.max_upload_bytes:
            raise ServiceError(413, *_too_large(settings))
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the answer; a TimeoutError: the client does not take it."""
        if message['type'] in ('http.response.start', 'websocket.http.response.start'):
            MutableHeaders(scope=message).update(_HEADERS)
            if message.get('status', 0) >= 400 and self._more:
                # Many clients look at an answer only after they have sent everything.
                with anyio.move_on_after(1):
                    while (await self._receive()).get('more_body'):
                        pass
            self._deadline = anyio.current_time() + self._settings.upload_seconds
        is_limited = message['type'] == 'http.response.body'
        with anyio.fail_after(
                self._deadline - anyio.current_time() if is_limited else None):
            await self._send(message)
