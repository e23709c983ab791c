"""The end-points of the service."""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, StreamingResponse

from ...errors import HRI30Error
from ...utils.fileio import ran_out_of_disk
from . import schemas
from .decoding import decode_clip, explain, preview_clip
from .guards import Access, Guard, error_response
from .service import Service, ServiceError
from .session import CLIENT_SETTINGS, Session
from .settings import Settings

#: It becomes a string of a config, which must not refer to anything.
_CLASS_NAME = r'^\w[\w -]{0,63}$'
_TAUGHT_CLIPS = 20  # of a class, at most

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
    504: 'The model took too long.',
    507: 'The disk of the service is full.'}.items()}
_ERRORS[429]['headers'] = {'Retry-After': {'description': 'Seconds.',
                                           'schema': {'type': 'integer'}}}
_CLIP = {'requestBody': {
    'required': True, 'content': {'multipart/form-data': {'schema': {
        'type': 'object', 'required': ['clip'], 'additionalProperties': False,
        'properties': {'clip': {'type': 'string', 'format': 'binary',
                                'description': 'A video. Its name is ignored.'}}}}}}}
_WEBM = {200: {'description': 'A video without sound, 640 pixels wide or high at most.',
               'content': {'video/webm': {'schema': {'type': 'string',
                                                     'format': 'binary'}}}}}


class _Timed(StreamingResponse):
    """Sends a video in parts; after some seconds, the connection is closed.

    What a slow client has not taken is held in memory.
    """

    def __init__(self, content: bytes, seconds: float, part: int = 2**20) -> None:
        super().__init__((content[at:at + part] for at in range(0, len(content), part)),
                         headers={'Content-Length': str(len(content))},
                         media_type='video/webm')
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
        yield
        service.close()

    app = FastAPI(title='HRI30 action recognition', version='1',
                  description=_DESCRIPTION, lifespan=lifespan,
                  # Their pages load scripts from elsewhere.
                  docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(Guard, access=access)
    for kind in (HTTPException, HRI30Error, RequestValidationError, Exception):
        app.add_exception_handler(kind, partial(_answer, service))
    for file in (Path(__file__).parent / 'page').iterdir():
        app.add_route('/' + file.name.replace('index.html', ''),
                      lambda request, file=file: FileResponse(file),
                      include_in_schema=False)
    app.include_router(_api(service, window, teacher))

    @app.websocket('/v1/stream')
    async def stream(websocket: WebSocket) -> None:
        await Session(websocket, service).run()

    if window is not None:
        @app.websocket('/v1/watch')
        async def watch(websocket: WebSocket) -> None:
            await window.serve(websocket, service)
    return app


async def _answer(service: Service, request: Request, error: Exception) -> Response:
    """Gives all errors one form."""
    status, code, headers = 500, 'internal', None
    message = 'The service has a bug; its log says more.'
    if isinstance(error, HTTPException):
        status, message, headers = error.status_code, str(error.detail), error.headers
        code = getattr(error, 'code', {404: 'not_found', 405: 'method_not_allowed'}.get(
            status, 'error'))
    elif isinstance(error, HRI30Error):
        status, (code, message) = 422, explain(error)
    elif ran_out_of_disk(error):
        status, code, message = 507, 'disk_full', 'The disk of the service is full.'
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
    Upload = Annotated[list[Path], Depends(service.uploads(1))]
    of_clip = dict(tags=['clips'], dependencies=locked, openapi_extra=_CLIP)

    @router.get('/health', tags=['service'], summary='Whether the service works')
    async def health() -> schemas.Health:
        """Needs no token."""
        info = service.recognizer.info
        return schemas.Health(
            status='ok', format=info.format, precision=info.precision,
            uptime_seconds=time.monotonic() - service.started,
            requests=schemas.InUse(now=service.requests, limit=settings.max_requests),
            streams=schemas.InUse(now=service.streams, limit=settings.max_streams),
            queue=len(service.queue), served=service.served, refused=service.refused,
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

    @router.post('/predict', summary='Recognize a clip', responses=_ERRORS, **of_clip)
    async def predict(paths: Upload, top_k: Annotated[int, Query(
            ge=1, le=100, description='How many of the best classes.')] = 5
    ) -> schemas.Prediction:
        began, recognizer = time.perf_counter(), service.recognizer
        views_VTHWC, clip = await decode_clip(paths[0], recognizer.info.preprocessing,
                                              settings)
        decoding = time.perf_counter() - began
        found, waiting, inference = await service.compute(
            lambda: next(recognizer.predict_views([views_VTHWC])))
        service.served += 1
        return schemas.Prediction(
            name=found.class_name, score=found.score, scores=found.scores.tolist(),
            top=[schemas.ClassScore(name=name, score=score)
                 for name, score in found.top(top_k)],
            **found.judgement(), clip=clip,
            seconds=schemas.Timings(decoding=decoding, waiting=waiting,
                                    inference=inference))

    @router.post('/preview', summary='Make a WebM of a clip for a page',
                 response_class=Response, responses={**_WEBM, **_ERRORS}, **of_clip)
    async def preview(paths: Upload) -> Response:
        """Browsers do not play every video; the page shows this one instead."""
        content = await preview_clip(paths[0], settings)
        service.served += 1
        return _Timed(content, settings.upload_seconds)

    if teacher is not None:
        @router.post('/teach', summary='Add a class', dependencies=locked, tags=['clips'])
        async def teach(
            paths: Annotated[list[Path], Depends(service.uploads(_TAUGHT_CLIPS))],
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
