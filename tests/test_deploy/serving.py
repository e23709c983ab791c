"""A service around a model that needs no computing, for the tests."""

import contextlib
import json

import msgspec
import numpy as np

from hri30_ext.deploy.runtime.exported import ModelInfo
from hri30_ext.deploy.runtime.recognizer import ClipRecognizer
from hri30_ext.deploy.serve.app import create_app
from hri30_ext.deploy.serve.guards import Access
from hri30_ext.deploy.serve.server import listen, run_in_thread
from hri30_ext.deploy.serve.settings import Settings
from hri30_ext.video.preprocessing import Preprocessing, Resize

CLASSES = ('PickUpDrill', 'PutDownDrill', 'WalkForward')


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


def write_exported(folder):
    """Writes a model as if exported: the class is the strongest of red, green and blue."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir()
    graph = helper.make_graph([
        helper.make_node('Cast', ['frames'], ['values'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['values', 'axes'], ['means'], keepdims=0),
        helper.make_node('Softmax', ['means'], ['scores'], axis=-1),
    ], 'colours', [
        helper.make_tensor_value_info('frames', TensorProto.UINT8, ['N', 4, 24, 32, 3]),
    ], [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', 3])], [
        helper.make_tensor('axes', TensorProto.INT64, [3], [1, 2, 3])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                                ir_version=8), folder / 'model.onnx')
    info = msgspec.structs.replace(FakeRecognizer().info, files={'model': 'model.onnx'})
    (folder / 'model.json').write_text(json.dumps(info.to_json()))
    return folder


@contextlib.contextmanager
def running(recognizer=None, token=None, teacher=None, **limits):
    """Yields the address of a service that listens, and its application."""
    app = create_app(recognizer or FakeRecognizer(), Settings(**limits), Access(token),
                     teacher=teacher)
    with run_in_thread(app, listen('127.0.0.1', 0)) as (url, _):
        yield url, app
