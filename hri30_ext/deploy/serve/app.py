"""The end-points of the service."""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from ...errors import HRI30Error
from . import schemas
from .decoding import DecodeError, decode_clip, preview_clip
from .guards import Guard, bearer, error_response, token_matches
from .service import Service, ServiceError
from .session import CLIENT_SETTINGS, Session
from .settings import Settings

_PAGE = {'/': ('index.html', 'text/html'), '/app.js': ('app.js', 'text/javascript'),
         '/style.css': ('style.css', 'text/css')}

_DESCRIPTION = """
Names the action that a clip or a camera shows.

**`/v1/stream`** is a WebSocket, which OpenAPI cannot describe. The client sends

1. the text `{"type": "start"}`; with `"token": "..."` where the service has a token and no
   `Authorization` header was sent; with `"settings": {...}`, some of SETTINGS;
2. a binary message for each frame: its time stamp in seconds (float64, little-endian), on
   any steady clock, then a JPEG;
3. the text `{"type": "stop"}`, or it just closes.

The service answers with texts, JSON with an `event`:

- `ready`: it may begin; `classes`, `window_seconds`
- `prediction`: `time` of the frame, `class`, `score`, `top` (five pairs of name and score),
  `state` (the action in progress, or `unsure`), `latency_ms` from the frame's arrival,
  `dropped`
- `start`, `end`: an action begins, ends; `class`, `score`, `start`, `end`, `reason`
- `reset`: time went back or skipped more than a window; the stream starts again
- `error`: `code`, `message`; with `timestamp` where it concerns one frame, after which the
  stream goes on
- `closed`: the end after `stop`; `frames`, `dropped`, `bad`

`dropped` counts frames that came faster than they could be processed; the oldest are
dropped. `bad` counts those that could not be decoded. The WebSocket is closed with 1000
after `stop`, 1001 after silence or when the service ends, 1003 after an unexpected message,
1008 without the token, 1009 after a frame too large, 1011 if the model failed, 1013 if too
many are open. A wrong token in the header is answered with 403 before it is opened.
""".replace('SETTINGS', ', '.join(f'`{name}`' for name in CLIENT_SETTINGS))


class _Parts(StreamingResponse):
    """Sends parts one after the other, within a time.

    What a slow client has not taken is held in memory and counted as a request.

    Args:
        parts (list[bytes]): The content.
        seconds (float): After which the connection is closed.
        leave (Callable): Called at the end.
    """

    def __init__(self, parts: list[bytes], seconds: float, leave: Callable[[], object]
                 ) -> None:
        super().__init__(iter(parts), media_type='application/octet-stream',
                         headers={'Content-Length': str(sum(map(len, parts)))})
        self._seconds, self._leave = seconds, leave

    async def __call__(self, scope, receive, send) -> None:
        try:
            with anyio.move_on_after(self._seconds):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()


def create_app(recognizer, settings: Settings | None = None, token: str | None = None,
               hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (),
               window=None) -> FastAPI:
    """Creates the application.

    Args:
        recognizer (hri30_ext.deploy.runtime.recognizer.ClipRecognizer): The model.
        settings (Settings, optional): Limits.
        token (str, optional): Token that clients must show. None: everyone who reaches the
            service may use it.
        hosts (tuple[str, ...]): Names of the service, see :class:`~.guards.Guard`.
        origins (tuple[str, ...]): Origins of other pages that may call, see there.
        window (.window.Window, optional): The stream that the page shows.
    """
    service = Service(recognizer, settings or Settings(), token)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.close()

    app = FastAPI(title='HRI30 action recognition', version='1',
                  description=_DESCRIPTION, lifespan=lifespan,
                  # Their pages load scripts from elsewhere.
                  docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(Guard, hosts=hosts, origins=origins)
    _add_errors(app, service)
    for route, (name, kind) in _PAGE.items():
        content = (resources.files(__package__) / 'page' / name).read_bytes()
        app.add_route(route, lambda request, content=content, kind=kind: Response(
            content, media_type=kind), include_in_schema=False)
    _add_api(app, service, window)

    @app.websocket('/v1/stream')
    async def stream(websocket: WebSocket) -> None:
        await Session(websocket, service).run()

    if window is not None:
        app.websocket('/v1/watch')(window.watch)
    return app


def _add_errors(app: FastAPI, service: Service) -> None:
    """Gives all errors one form."""

    @app.exception_handler(ServiceError)
    async def answer(request: Request, error: ServiceError) -> Response:
        if error.unread:
            with anyio.move_on_after(1), contextlib.suppress(ClientDisconnect,
                                                             RuntimeError):
                async for _ in request.stream():
                    pass
        service.failed += error.status not in (401, 429)
        return error_response(error.status, error.code, str(error), error.headers)

    @app.exception_handler(DecodeError)
    @app.exception_handler(HRI30Error)
    async def unusable(request: Request, error: Exception) -> Response:
        service.failed += 1
        return error_response(422, getattr(error, 'code', 'unusable'), str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = '.'.join(map(str, first['loc']))
        return error_response(422, 'invalid', f'{place}: {first["msg"]}')

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        code = {400: 'bad_form', 404: 'not_found', 405: 'method_not_allowed'}
        return error_response(error.status_code, code.get(error.status_code, 'error'),
                              str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        service.failed += 1
        return error_response(500, 'internal', 'The service has a bug; its log says more.')


_ERRORS = {
    400: 'The form is damaged, or has other fields.',
    408: 'The upload took too long.',
    413: 'The upload is too large.',
    415: 'The body is no form.',
    422: 'The upload cannot be decoded, or its content exceeds a limit.',
    429: 'Too many requests at a time.',
    504: 'The model took too long.',
}
_FORM = {'requestBody': {'required': True, 'content': {'multipart/form-data': {'schema': {
    'type': 'object', 'required': ['clip'], 'additionalProperties': False,
    'properties': {'clip': {'type': 'string', 'format': 'binary',
                            'description': 'A video. Its name is ignored.'}}}}}}}


def _add_api(app: FastAPI, service: Service, window) -> None:
    """Adds the end-points that OpenAPI documents."""
    settings, info = service.settings, service.recognizer.info

    async def check_token(request: Request) -> None:
        if not token_matches(bearer(request.headers), service.token):
            raise ServiceError(401, 'no_token', 'Expected the header Authorization: Bearer '
                               'TOKEN, with the token of this service.',
                               {'WWW-Authenticate': 'Bearer'}, unread=True)

    dependencies = [] if service.token is None else [
        Depends(HTTPBearer(auto_error=False)), Depends(check_token)]

    def responses(*statuses: int) -> dict:
        found = {status: {'model': schemas.Error, 'description': _ERRORS[status]}
                 for status in statuses}
        if dependencies:
            found[401] = {'model': schemas.Error,
                          'description': 'No token, or a wrong one.'}
        if 429 in found:
            found[429]['headers'] = {'Retry-After': {
                'description': 'Seconds.', 'schema': {'type': 'integer'}}}
        return found

    @app.get('/v1/health', tags=['service'], summary='Whether the service works')
    async def health() -> schemas.Health:
        """Needs no token."""
        return schemas.Health(
            status='ok', format=info.format, precision=info.precision,
            uptime_seconds=time.monotonic() - service.started,
            requests=schemas.InUse(now=service.requests, limit=settings.max_requests),
            streams=schemas.InUse(now=service.streams, limit=settings.max_streams),
            queue=service.queue, served=service.served, refused=service.refused,
            failed=service.failed)

    @app.get('/v1/model', tags=['service'], summary='What is recognized',
             dependencies=dependencies, responses=responses())
    async def model() -> schemas.Model:
        return schemas.Model(
            classes=list(info.classes), window_seconds=info.window_seconds,
            format=info.format, precision=info.precision,
            preprocessing=info.preprocessing.to_json(),
            limits=dataclasses.asdict(settings), source=window and window.source)

    @app.post('/v1/predict', tags=['clips'], summary='Recognize a clip',
              dependencies=dependencies, openapi_extra=_FORM,
              responses=responses(*_ERRORS))
    async def predict(request: Request, top_k: Annotated[int, Query(
            ge=1, le=100, description='How many of the best classes.')] = 5
    ) -> schemas.Prediction:
        with service.admit():
            async with service.upload(request) as path:
                began = time.perf_counter()
                views_VTHWC, clip = await decode_clip(path, info.preprocessing, settings)
                decoding = time.perf_counter() - began
            found, waiting, inference = await service.compute(
                lambda: next(service.recognizer.predict_views([views_VTHWC])))
        service.served += 1
        return schemas.Prediction(
            name=found.class_name, score=found.score, scores=found.scores.tolist(),
            top=[schemas.ClassScore(name=name, score=score)
                 for name, score in found.top(top_k)],
            clip=schemas.ClipFacts(**clip),
            seconds=schemas.Timings(decoding=decoding, waiting=waiting,
                                    inference=inference))

    binary = {200: {'description': 'For each frame its seconds (float64), the length of '
                                   'its JPEG (uint32), both little-endian, and the JPEG.',
                    'content': {'application/octet-stream': {
                        'schema': {'type': 'string', 'format': 'binary'}}}}}

    @app.post('/v1/frames', tags=['clips'], summary='Decode a clip for a page',
              dependencies=dependencies, openapi_extra=_FORM, response_class=Response,
              responses={**binary, **responses(400, 408, 413, 415, 422, 429)})
    async def frames(request: Request) -> Response:
        """Browsers do not play every video; the page shows these frames instead."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(service.admit())
            async with service.upload(request) as path:
                parts = await preview_clip(path, settings)
            service.served += 1
            return _Parts(parts, settings.upload_seconds, stack.pop_all().close)
