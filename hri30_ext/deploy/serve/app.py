"""The end-points of the service."""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from ...errors import HRI30Error
from . import schemas
from .decoding import decode_clip, explain, preview_clip
from .guards import Access, Guard, error_response
from .service import Service, ServiceError
from .session import CLIENT_SETTINGS, Session
from .settings import Settings

#: It becomes a string of a config, which must not refer to anything.
_CLASS_NAME = r'^\w[\w -]{0,63}$'
_PAGE = {'/': ('index.html', 'text/html'), '/app.js': ('app.js', 'text/javascript'),
         '/style.css': ('style.css', 'text/css')}

_DESCRIPTION = """
Names the action that a clip or a camera shows.

**`/v1/stream`** is a WebSocket, which OpenAPI cannot describe. The client sends

1. the text `{"type": "start"}`; with `"token": "..."` where the service has a token and no
   `Authorization` header was sent; with `"settings": {...}`, some of SETTINGS;
2. a binary message for each frame: its time stamp in seconds (float64, little-endian), on
   any steady clock, then a JPEG;
3. the text `{"type": "stop"}`, with `"clip": true` at the end of a file: one that is
   shorter than the window is then predicted as a clip; or it just closes.

The service answers with texts, JSON with an `event`:

- `ready`: it may begin; `classes`, `window_seconds`
- `prediction`: `time` of the frame, `class`, `score`, `top` (five pairs of name and score),
  `state` (the action in progress, or `unsure`), `unknown` (whether the window seems to
  show no class; only where the model can tell), `latency_ms` from the frame's arrival,
  `dropped`
- `start`, `end`: an action begins, ends; `class`, `score`, `start`, `end`, `reason`
- `reset`: time went back or skipped more than a window; the stream starts again
- `error`: `code`, `message`; with `timestamp` where it concerns one frame, after which the
  stream goes on
- `closed`: the end after `stop`; `frames`, `dropped`, `bad`; and, where there was no
  prediction, the reason as `message`

`dropped` counts frames that came faster than they could be processed; the oldest are
dropped. `bad` counts those that could not be decoded. The WebSocket is closed with 1000
after `stop`, 1001 after silence or when the service ends, 1003 after an unexpected message,
1008 without the token, 1009 after a frame too large, 1011 if the model failed, 1013 if too
many are open. A wrong token in the header is answered with 403 before it is opened.
""".replace('SETTINGS', ', '.join(f'`{name}`' for name in CLIENT_SETTINGS))


_ERRORS = {status: {'model': schemas.Error, 'description': text} for status, text in {
    400: 'The form is damaged, or has other fields.',
    401: 'The service has a token, and this is not it.',
    408: 'The upload took too long.',
    413: 'The upload is too large.',
    415: 'The body is no form.',
    422: 'The upload cannot be decoded, or its content exceeds a limit.',
    429: 'Too many requests at a time.',
    504: 'The model took too long.'}.items()}
_ERRORS[429]['headers'] = {'Retry-After': {'description': 'Seconds.',
                                           'schema': {'type': 'integer'}}}
_CLIP = dict(tags=['clips'], responses=_ERRORS, openapi_extra={'requestBody': {
    'required': True, 'content': {'multipart/form-data': {'schema': {
        'type': 'object', 'required': ['clip'], 'additionalProperties': False,
        'properties': {'clip': {'type': 'string', 'format': 'binary',
                                'description': 'A video. Its name is ignored.'}}}}}}})
_FRAMES = {200: {'description': 'For each frame its seconds (float64), the length of its '
                                'JPEG (uint32), both little-endian, and the JPEG.',
                 'content': {'application/octet-stream': {
                     'schema': {'type': 'string', 'format': 'binary'}}}}}


class _Parts(StreamingResponse):
    """Sends parts one after the other; after some seconds, the connection is closed.

    What a slow client has not taken is held in memory.
    """

    def __init__(self, parts: list[bytes], seconds: float) -> None:
        super().__init__(iter(parts), media_type='application/octet-stream',
                         headers={'Content-Length': str(sum(map(len, parts)))})
        self._seconds = seconds

    async def __call__(self, scope, receive, send) -> None:
        with anyio.move_on_after(self._seconds):
            await super().__call__(scope, receive, send)


def create_app(recognizer, settings: Settings | None = None, access: Access | None = None,
               window=None, teacher=None) -> FastAPI:
    """Creates the application around a ``ClipRecognizer``.

    ``window`` is a :class:`.window.Window`, whose stream the page shows; ``teacher`` a
    :class:`hri30_ext.apis.teaching.Teacher`, with which clients may add classes.
    """
    access = access or Access()
    service = Service(recognizer, settings or Settings(), access)

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
    app.add_middleware(Guard, access=access)
    _add_errors(app, service)
    for route, (name, kind) in _PAGE.items():
        content = (resources.files(__package__) / 'page' / name).read_bytes()
        app.add_route(route, lambda request, content=content, kind=kind: Response(
            content, media_type=kind), include_in_schema=False)
    app.include_router(_api(service, window, teacher))
    app.websocket('/v1/stream')(Session.endpoint(service))
    if window is not None:
        app.websocket('/v1/watch')(window.endpoint(service))
    return app


def _add_errors(app: FastAPI, service: Service) -> None:
    """Gives all errors one form."""
    codes = {404: 'not_found', 405: 'method_not_allowed'}

    async def answer(request: Request, error: Exception) -> Response:
        status, code, headers = 500, 'internal', None
        message = 'The service has a bug; its log says more.'
        if isinstance(error, HTTPException):
            status, message, headers = error.status_code, str(error.detail), error.headers
            code = getattr(error, 'code', codes.get(status, 'error'))
        elif isinstance(error, HRI30Error):
            status, (code, message) = 422, explain(error)
        elif isinstance(error, RequestValidationError):
            first = error.errors()[0]
            status, code = 422, 'invalid'
            message = f'{".".join(map(str, first["loc"]))}: {first["msg"]}'
        service.failed += request.method == 'POST' and status not in (401, 429)
        # Many clients look at an answer only after they have sent everything.
        with anyio.move_on_after(1), contextlib.suppress(ClientDisconnect, RuntimeError):
            async for _ in request.stream():
                pass
        return error_response(status, code, message, headers)

    for kind in (HTTPException, HRI30Error, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)


def _api(service: Service, window, teacher) -> APIRouter:
    """Returns the end-points that OpenAPI documents."""
    settings = service.settings
    router = APIRouter(prefix='/v1')
    Token = Annotated[HTTPAuthorizationCredentials | None,
                      Depends(HTTPBearer(auto_error=False))]

    async def check_token(token: Token) -> None:
        if not service.access.admits(token and token.credentials):
            raise ServiceError(401, 'no_token', 'Expected the header Authorization: Bearer '
                               'TOKEN, with the token of this service.',
                               {'WWW-Authenticate': 'Bearer'})

    locked = [] if service.access.token is None else [Depends(check_token)]
    Upload = Annotated[Path, Depends(service.upload)]

    @router.get('/health', tags=['service'], summary='Whether the service works')
    async def health() -> schemas.Health:
        """Needs no token."""
        info = service.recognizer.info
        return schemas.Health(
            status='ok', format=info.format, precision=info.precision,
            uptime_seconds=time.monotonic() - service.started,
            requests=schemas.InUse(now=service.requests, limit=settings.max_requests),
            streams=schemas.InUse(now=service.streams, limit=settings.max_streams),
            queue=service.queue, served=service.served, refused=service.refused,
            failed=service.failed)

    @router.get('/model', tags=['service'], summary='What is recognized',
                dependencies=locked, responses={401: _ERRORS[401]})
    async def model() -> schemas.Model:
        info = service.recognizer.info
        return schemas.Model(
            classes=list(info.classes), window_seconds=info.window_seconds,
            format=info.format, precision=info.precision,
            preprocessing=info.preprocessing.to_json(),
            limits=dataclasses.asdict(settings), source=window and window.source,
            teach=teacher is not None)

    @router.post('/predict', summary='Recognize a clip', dependencies=locked, **_CLIP)
    async def predict(path: Upload, top_k: Annotated[int, Query(
            ge=1, le=100, description='How many of the best classes.')] = 5
    ) -> schemas.Prediction:
        began, recognizer = time.perf_counter(), service.recognizer
        views_VTHWC, clip = await decode_clip(path, recognizer.info.preprocessing, settings)
        decoding = time.perf_counter() - began
        found, waiting, inference = await service.compute(
            lambda: next(recognizer.predict_views([views_VTHWC])))
        service.served += 1
        return schemas.Prediction(
            name=found.class_name, score=found.score, scores=found.scores.tolist(),
            top=[schemas.ClassScore(name=name, score=score)
                 for name, score in found.top(top_k)],
            **found.judgement(),
            clip=schemas.ClipFacts(**clip),
            seconds=schemas.Timings(decoding=decoding, waiting=waiting,
                                    inference=inference))

    @router.post('/frames', summary='Decode a clip for a page', dependencies=locked,
                 response_class=Response, **{**_CLIP, 'responses': {**_FRAMES, **_ERRORS}})
    async def frames(path: Upload) -> Response:
        """Browsers do not play every video; the page shows these frames instead."""
        parts = await preview_clip(path, settings)
        service.served += 1
        return _Parts(parts, settings.upload_seconds)

    if teacher is not None:
        @router.post('/teach', summary='Add a class', dependencies=locked, tags=['clips'])
        async def teach(
            paths: Annotated[list[Path], Depends(service.uploads)],
            name: Annotated[str, Query(pattern=_CLASS_NAME, description='The class.')],
            force: Annotated[bool, Query(description='Even if old classes lose more than '
                                         'two points.')] = False) -> schemas.Taught:
            """Takes two clips or more, each as a field `clip`."""
            async with service.teaching:
                views = [(await decode_clip(path, teacher.preprocessing, settings))[0]
                         for path in paths]
                said = await anyio.to_thread.run_sync(teacher.add, name, views, force)
                service.recognizer = teacher.recognizer
            service.served += 1
            return schemas.Taught(message=said, classes=list(service.recognizer.classes))

    return router
