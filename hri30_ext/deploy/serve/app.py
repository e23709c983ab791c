"""Names the action that a clip or a camera shows.

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
"""

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, FastAPI, File, Query, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from ...errors import HRI30Error
from ...utils.fileio import ran_out_of_disk
from ..runtime.streaming import StreamSettings
from . import schemas
from .decoding import decode_clip, explain, preview_clip
from .guards import Access, Guard, error_response
from .service import Service
from .session import Session
from .settings import MIB, Settings

Clip = Annotated[UploadFile, File(description='A video. Its name is ignored.')]
Clips = Annotated[list[UploadFile], File(max_length=20, description='Videos of the class.')]
#: It becomes a string of a config, which must not refer to anything.
ClassName = Annotated[str, Query(pattern=r'^\w[\w -]{0,63}$', description='The class.')]


def create_app(recognizer, settings: Settings | None = None, access: Access | None = None,
               window=None, teacher=None) -> FastAPI:
    """Creates the application around a ``ClipRecognizer``.

    ``window`` is a :class:`.window.Window`, whose stream the page shows; ``teacher`` a
    :class:`hri30_ext.apis.teaching.Teacher`, with which clients may add classes.
    """
    service = Service(recognizer, settings or Settings(), access or Access())

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title='HRI30 action recognition', version='1', lifespan=lifespan,
                  description=__doc__.replace('SETTINGS', ', '.join(
                      StreamSettings.__struct_fields__)),
                  # Their pages load scripts from elsewhere.
                  docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(Guard, service=service)
    for kind in (HTTPException, HRI30Error, RequestValidationError, Exception):
        app.add_exception_handler(kind, _answer)
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


async def _answer(request: Request, error: Exception) -> Response:
    """Gives all errors one form."""
    status, code, message = 500, 'internal', 'The service has a bug; its log says more.'
    if ran_out_of_disk(error):
        status, code, message = 507, 'disk_full', 'The disk of the service is full.'
    elif isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
        code = getattr(error, 'code', {404: 'not_found', 405: 'method_not_allowed'}.get(
            status, 'bad_request'))
    elif isinstance(error, HRI30Error):
        status, (code, message) = 422, explain(error)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        status, code = 422, 'invalid'
        message = f'{".".join(map(str, first["loc"]))}: {first["msg"]}'
    return error_response(status, code, message, getattr(error, 'headers', None))


def _path(upload: UploadFile) -> Path:
    """Returns the path of a descriptor of this process: the file itself has no name, and
    the system removes it when the process ends in any way."""
    descriptor = upload.file.fileno()  # moves a small upload from memory to a file
    upload.file.flush()
    return Path(f'/proc/{os.getpid()}/fd/{descriptor}')


def _api(service: Service, window, teacher) -> APIRouter:
    """Returns the end-points that OpenAPI documents."""
    settings = service.settings
    router = APIRouter(prefix='/v1', responses={'default': {
        'model': schemas.Error, 'description': 'Any error.'}})
    # The guard checks the token; this describes it.
    locked = [Depends(HTTPBearer(auto_error=False))] if service.access.token else []
    of_clip = dict(tags=['clips'], dependencies=locked)

    @router.get('/health', tags=['service'], summary='Whether the service works')
    async def health() -> schemas.Health:
        """Needs no token."""
        info = service.recognizer.info
        return schemas.Health(status='ok', format=info.format, precision=info.precision)

    @router.get('/model', tags=['service'], summary='What is recognized',
                dependencies=locked)
    async def model() -> schemas.Model:
        info = service.recognizer.info
        return schemas.Model(
            classes=list(info.classes), window_seconds=info.window_seconds,
            format=info.format, precision=info.precision,
            preprocessing=info.preprocessing.to_json(),
            limits=dataclasses.asdict(settings), source=window and window.source,
            teach=teacher is not None)

    @router.post('/predict', summary='Recognize a clip', **of_clip)
    async def predict(clip: Clip, top_k: Annotated[int, Query(
            ge=1, le=100, description='How many of the best classes.')] = 5
    ) -> schemas.Prediction:
        recognizer = service.recognizer
        views_VTHWC, facts = await decode_clip(
            _path(clip), recognizer.info.preprocessing, settings)
        prediction = await service.compute(
            lambda: next(recognizer.predict_views([views_VTHWC])))
        return schemas.Prediction(
            name=prediction.class_name, score=prediction.score,
            scores=prediction.scores.tolist(),
            top=[schemas.ClassScore(name=name, score=score)
                 for name, score in prediction.top(top_k)],
            **prediction.judgement(), clip=facts)

    @router.post('/preview', summary='Make a WebM of a clip for a page',
                 response_class=StreamingResponse, **of_clip)
    async def preview(clip: Clip) -> StreamingResponse:
        """Browsers do not play every video; the page shows this one instead."""
        content = await preview_clip(_path(clip), settings)
        # In parts: the guard stops a client that does not take them.
        return StreamingResponse((content[at:at + MIB] for at in range(
            0, len(content), MIB)), media_type='video/webm')

    if teacher is not None:
        @router.post('/teach', summary='Add a class', **of_clip)
        async def teach(
            clip: Clips, name: ClassName,
            force: Annotated[bool, Query(description='Even if old classes lose more than '
                                         'two points.')] = False) -> schemas.Taught:
            """Takes two clips or more, each as a field `clip`."""
            async with service.teaching:
                views = [(await decode_clip(_path(one), teacher.preprocessing, settings))[0]
                         for one in clip]
                message = await anyio.to_thread.run_sync(teacher.add, name, views, force)
                service.recognizer = teacher.recognizer
            return schemas.Taught(message=message, classes=list(service.recognizer.classes))

    return router
