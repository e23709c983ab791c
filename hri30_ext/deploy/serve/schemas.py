"""Answers of the end-points, as OpenAPI documents them."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Score = Annotated[float, Field(ge=0, le=1, description='Probability of the class.')]
Seconds = Annotated[float, Field(ge=0)]


class ClassScore(BaseModel):
    """A class and its score."""
    name: str
    score: Score


class ClipFacts(BaseModel):
    """Facts about the upload."""
    frames: int = Field(ge=1, description='Frames that could be decoded.')
    width: int = Field(ge=1, description='Pixels.')
    height: int = Field(ge=1, description='Pixels.')
    fps: float = Field(ge=0, description='Frames per second; 0 where the file says none.')
    seconds: Seconds = Field(description='Time stamp of the last frame.')


class Prediction(BaseModel):
    """What the clip shows."""
    name: str = Field(description='The class with the highest score.')
    score: Score
    top: list[ClassScore] = Field(description='The best classes, best first.')
    scores: list[Score] = Field(
        description='Of every class, in the order of `classes` of `/v1/model`.')
    set: list[str] | None = Field(
        None, description='Classes that hold the true one with this certainty, the most '
        'probable first; null: not fitted.')
    certainty: float | None = None
    unknown: bool | None = Field(
        None, description='Whether the clip seems to be of no class; null: not fitted.')
    clip: ClipFacts


class Health(BaseModel):
    """Whether the service works."""
    status: Literal['ok']
    format: str = Field(description='The runtime of the model.')
    precision: str


class Model(BaseModel):
    """What the service recognizes, and how."""
    classes: list[str] = Field(description='Names; the position is the label.')
    window_seconds: float | None = Field(
        description='Length of the window of a stream; null: not known.')
    format: str
    precision: str
    preprocessing: dict = Field(description='From frames to the input of the model.')
    limits: dict[str, float] = Field(description='Limits of the service, by name.')
    source: str | None = Field(
        None, description='The source that `/v1/watch` shows, where there is one.')
    teach: bool = Field(False, description='Whether clients may add classes.')


class Taught(BaseModel):
    """A class that was added."""
    message: str = Field(description='What the old classes lose; for people.')
    classes: list[str] = Field(description='With the new one, in the order of the labels.')


class ErrorDetail(BaseModel):
    """What went wrong."""
    code: str = Field(description='For programs.')
    message: str = Field(description='For people.')


class Error(BaseModel):
    """Every error."""
    error: ErrorDetail
