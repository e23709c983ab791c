"""A service around a model that needs no computing, for the tests."""

import contextlib
import time
import warnings

import numpy as np

from hri30_ext.deploy.runtime.exported import ModelInfo
from hri30_ext.deploy.runtime.recognizer import ClipRecognizer
from hri30_ext.deploy.serve.app import create_app
from hri30_ext.deploy.serve.guards import Access
from hri30_ext.deploy.serve.server import listen, run_in_thread
from hri30_ext.deploy.serve.settings import Settings
from hri30_ext.video.preprocessing import Preprocessing, Resize

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # which HTTP client it prefers
    from starlette.testclient import TestClient  # noqa: F401

CLASSES = ('PickUpDrill', 'PutDownDrill', 'WalkForward')
TOKEN = 'a-token-of-some-length'


class FakeRecognizer(ClipRecognizer):
    """A recognizer without a model; names one class whatever it sees.

    Args:
        classes (tuple[str, ...]): Names.
        label (int): The class that has the score 0.8.
        window_seconds (float, optional): Of a stream.
        before (Callable, optional): Called before each answer, to wait or to fail.
    """

    def __init__(self, classes=CLASSES, label=1, window_seconds=.6, before=None):
        self.label, self.before = label, before
        self.seen = []  # shapes
        super().__init__(ModelInfo(
            classes, Preprocessing(4, 1, 'uniform', (Resize(32, 24),)), 'onnx', 'fp32',
            {'model': 'model.onnx'}, window_seconds=window_seconds), self.answer)

    def answer(self, views_NTHWC):
        self.seen.append(views_NTHWC.shape)
        if self.before is not None:
            self.before()
        scores_NK = np.full((len(views_NTHWC), len(self.classes)),
                            .2 / (len(self.classes) - 1), np.float32)
        scores_NK[:, self.label] = .8
        return scores_NK


@contextlib.contextmanager
def running(recognizer=None, token=None, teacher=None, **limits):
    """Yields the address of a service that listens, and its application."""
    app = create_app(recognizer or FakeRecognizer(), Settings(**limits), Access(token),
                     teacher=teacher)
    with run_in_thread(app, listen('127.0.0.1', 0)) as (url, _):
        yield url, app


def wait_for(condition):
    """Waits until something is so."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(.01)
