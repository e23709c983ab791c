"""The runtimes of exported models: ONNX Runtime and OpenVINO.

Shapes: N clips, M frames, T frames of a clip, H height, W width, C channels, K classes.
"""

import functools
import importlib
import sys
import threading
from pathlib import Path

import numpy as np

from ...errors import HRI30Error

#: Parts of a model, each a graph: the whole, and, if it can be split, the stages without
#: temporal kernels and the rest.
WHOLE, FRAME_STAGE, CLIP_STAGE = 'model', 'frame_stage', 'clip_stage'

#: Execution providers of ONNX Runtime by short name; docs/deploy.md has their packages.
PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider',
             'coreml': 'CoreMLExecutionProvider', 'directml': 'DmlExecutionProvider'}


class Backend:
    """A model that is ready to predict; subclasses run its parts in ``run(part, array)``.

    Frames are uint8 RGB, as :class:`~hri30_ext.video.preprocessing.Preprocessing` prepares
    them; class probabilities are float32, (N, K).

    Attributes:
        splittable (bool): Whether the model has :meth:`frame_features` and
            :meth:`clip_scores`: it begins with stages that see one frame at a time, which a
            stream computes once a frame, not once for each window with the frame.
    """

    splittable = False

    def __call__(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """Returns class probabilities of clips."""
        return self.run(WHOLE, clips_NTHWC)

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        """Returns features of each frame, float32, (M, C, H, W) of their own."""
        return self.run(FRAME_STAGE, frames_MHWC)

    def clip_scores(self, features_NTCHW: np.ndarray) -> np.ndarray:
        """Returns class probabilities of clips from the features of their frames."""
        return self.run(CLIP_STAGE, features_NTCHW)


def import_package(package: str):
    """Imports a package that not every installation has, such as ``openvino``, without its
    telemetry; an HRI30Error: it is not installed."""
    # Importing openvino would send data, from a fork of this process.
    sys.modules.setdefault('openvino_telemetry', None)
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise HRI30Error(f'{error.name or package} is not installed.\nInstall it with: '
                         f'python -m pip install {error.name or package}') from error


class _GraphBackend(Backend):
    """Runs the graphs of an exported folder, each from one array to one array.

    Calls of several threads wait for each other: a graph has one set of buffers, and uses
    all its threads anyway. A graph is compiled at its first use: a stream needs the two
    stages and not the whole model, a program that reads files the reverse.

    Subclasses have ``_compile(path)`` and ``_infer(graph, array)``.
    """

    package: str

    def __init__(self, folder: Path, info) -> None:
        self.splittable, self._folder, self._info = FRAME_STAGE in info.files, folder, info
        self._graphs = {}
        self._lock = threading.Lock()
        self._runtime = import_package(self.package)

    def run(self, part: str, array: np.ndarray) -> np.ndarray:
        """Runs a part; an HRI30Error: its first use fails."""
        array = np.ascontiguousarray(array)
        with self._lock:
            if part in self._graphs:
                return self._infer(self._graphs[part], array)
            path = self._folder / self._info.files[part]
            try:
                graph = self._compile(path)
                result = self._infer(graph, array)
                classes = len(self._info.classes)
                if part != FRAME_STAGE and result.shape != (len(array), classes):
                    raise HRI30Error(f'scores of shape {result.shape} for {len(array)} '
                                     f'clips and {classes} classes')
            except Exception as error:  # those of ONNX Runtime share no class
                lines = [line.strip() for line in str(error).splitlines()]
                reason = next((line for line in reversed(lines) if line), repr(error))
                raise HRI30Error(
                    f'{path}: cannot be run ({reason[:300]}).\nExpected the graph that '
                    'model.json describes, whole; export or copy the folder again.'
                ) from error
            self._graphs[part] = graph
            return result


class OnnxBackend(_GraphBackend):
    """Runs graphs with ONNX Runtime; ``threads`` None: one a core.

    Args:
        provider (str): What runs them: a short name of :data:`PROVIDERS`, or a full one,
            as the attribute is. Operators that it lacks run on the CPU.

    Raises:
        HRI30Error: ONNX Runtime is not installed, or not with this provider.
    """

    package = 'onnxruntime'

    def __init__(self, folder: Path, info, threads: int | None = None,
                 provider: str = 'cpu') -> None:
        super().__init__(folder, info)
        self.provider = PROVIDERS.get(provider, provider)
        available = self._runtime.get_available_providers()
        if self.provider not in available:
            raise HRI30Error(f'provider {provider}: the installed ONNX Runtime has '
                             f'{", ".join(available)}.\nExpected one of them; '
                             'docs/deploy.md names the package of each provider.')
        if self.provider == PROVIDERS['cuda']:
            self._runtime.preload_dlls()  # the libraries that pip installed
        self._options = self._runtime.SessionOptions()
        self._options.intra_op_num_threads = threads or 0
        self._options.log_severity_level = 3  # errors
        # A robot has other programs: waiting threads do not keep a core busy.
        self._options.add_session_config_entry('session.intra_op.allow_spinning', '0')

    def _compile(self, path: Path):
        graph = self._runtime.InferenceSession(
            path, self._options,
            providers=[*dict.fromkeys((self.provider, PROVIDERS['cpu']))])
        if graph.get_providers()[0] != self.provider:  # it only warns
            raise HRI30Error(f'provider {self.provider} cannot start, and ONNX Runtime '
                             f'would use {", ".join(graph.get_providers())}; install the '
                             'driver and the libraries that it names above')
        return graph

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        return graph.run(None, {graph.get_inputs()[0].name: array})[0]


@functools.cache
def openvino_core():
    """Returns the one ``openvino.Core`` of this process, which nothing deletes.

    OpenVINO's CPU plugin gives the thread another stack for signals, and when it is deleted
    the one before it back. Of two that overlap, the second gives back the freed stack of
    the first, and the next signal, such as the end of a child process, kills Python.
    """
    return import_package('openvino').Core()


class OpenVINOBackend(_GraphBackend):
    """Runs graphs with OpenVINO, on the CPU; ``threads`` None: one a core."""

    package = 'openvino'

    def __init__(self, folder: Path, info, threads: int | None = None) -> None:
        super().__init__(folder, info)
        self._settings = dict(info.hints, PERFORMANCE_HINT='LATENCY')
        if threads:
            self._settings['INFERENCE_NUM_THREADS'] = threads

    def _compile(self, path: Path):
        return openvino_core().compile_model(path, 'CPU', self._settings)

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        # One by one: OpenVINO keeps buffers for each number of frames that it meets.
        return np.concatenate([*map(super().frame_features, np.split(
            frames_MHWC, len(frames_MHWC)))])

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        # A copy: the next call overwrites the runtime's own buffer.
        return np.array(graph(array)[0])
