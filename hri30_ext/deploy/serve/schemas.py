"""What the end-points answer, as OpenAPI documents it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0, le=1, description='Probability of the class.')]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class ClassScore(BaseModel):
    """A class and its score."""

    name: str = Field(description='Name of the class.')
    score: Score


class ClipFacts(BaseModel):
    """What was found in the upload."""

    frames: int = Field(ge=1, description='Frames that could be decoded.')
    width: int = Field(ge=1, description='Pixels.')
    height: int = Field(ge=1, description='Pixels.')
    fps: float = Field(ge=0, description='Frames a second; 0 where the file does not say.')
    seconds: Seconds = Field(description='Time stamp of the last frame.')


class Timings(BaseModel):
    """Where the time went, in seconds."""

    decoding: Seconds = Field(description='In a process of its own, with its start.')
    waiting: Seconds = Field(description='Until the model was free.')
    inference: Seconds = Field(description='In the model.')


class Prediction(BaseModel):
    """What the clip shows."""

    model_config = ConfigDict(json_schema_extra={'examples': [{
        'name': 'PickUpDrill', 'score': 0.97,
        'top': [{'name': 'PickUpDrill', 'score': 0.97},
                {'name': 'PutDownDrill', 'score': 0.03}],
        'scores': [0.97, 0.03],
        'clip': {'frames': 44, 'width': 720, 'height': 480, 'fps': 30, 'seconds': 1.433},
        'seconds': {'decoding': 0.24, 'waiting': 0, 'inference': 0.09}}]})

    name: str = Field(description='The class with the highest score.')
    score: Score
    top: list[ClassScore] = Field(description='The best classes, best first.')
    scores: list[Score] = Field(
        description='Of every class, in the order of `classes` of `/v1/model`.')
    clip: ClipFacts
    seconds: Timings


class InUse(BaseModel):
    """How much of a limit is in use."""

    now: Count
    limit: Count


class Health(BaseModel):
    """Whether the service works, and how busy it is."""

    model_config = ConfigDict(json_schema_extra={'examples': [{
        'status': 'ok', 'format': 'openvino', 'precision': 'int8', 'uptime_seconds': 3600.5,
        'requests': {'now': 1, 'limit': 4}, 'streams': {'now': 0, 'limit': 4},
        'queue': 0, 'served': 120, 'refused': 3, 'failed': 1}]})

    status: Literal['ok']
    format: str = Field(description='What runs the model.')
    precision: str
    uptime_seconds: Seconds
    requests: InUse = Field(description='Uploads that are worked on.')
    streams: InUse = Field(description='WebSockets that are open.')
    queue: Count = Field(description='What waits for the model or is in it.')
    served: Count = Field(description='Uploads that were answered, since the start.')
    refused: Count = Field(description='Uploads and WebSockets too many, since the start.')
    failed: Count = Field(description='Uploads that were answered with another error.')


class Model(BaseModel):
    """What the service recognizes, and how."""

    model_config = ConfigDict(json_schema_extra={'examples': [{
        'classes': ['PickUpDrill', 'PutDownDrill'], 'window_seconds': 1.5,
        'format': 'openvino', 'precision': 'int8',
        'preprocessing': {'num_frames': 8, 'num_views': 1, 'sampling': 'uniform',
                          'frame_interval': None,
                          'steps': [{'type': 'Resize', 'width': 224, 'height': 224}]},
        'limits': {'max_upload_bytes': 67108864}}]})

    classes: list[str] = Field(description='Names; the position is the label.')
    window_seconds: float | None = Field(
        description='How much of a stream is looked at at once; null: not known.')
    format: str
    precision: str
    preprocessing: dict = Field(description='From frames to what the model takes.')
    limits: dict[str, float] = Field(description='Limits of the service, by name.')


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description='For programs.')
    message: str = Field(description='For people.')


class Error(BaseModel):
    """Every error."""

    model_config = ConfigDict(json_schema_extra={'examples': [{
        'error': {'code': 'not_a_video',
                  'message': 'This is not a video that can be decoded.'}}]})

    error: ErrorDetail
