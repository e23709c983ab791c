"""The runtimes of exported models: ONNX Runtime and OpenVINO.

Shapes: N clips, M frames, T frames of a clip, H height, W width, C channels, K classes.
"""

import contextlib
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import HRI30Error
from .onnx_graph import check_graph

#: Parts of a model, each a graph: the whole, and, if it can be split, the stages without
#: temporal kernels and the rest.
WHOLE, FRAME_STAGE, CLIP_STAGE = 'model', 'frame_stage', 'clip_stage'

#: Execution providers of ONNX Runtime by short name, with the packages that bring them.
PROVIDERS = {
    'cpu': ('CPUExecutionProvider', 'onnxruntime'),
    'cuda': ('CUDAExecutionProvider', 'onnxruntime-gpu'),
    'tensorrt': ('TensorrtExecutionProvider', 'onnxruntime-gpu tensorrt'),
    'coreml': ('CoreMLExecutionProvider', 'onnxruntime  (on macOS)'),
    'directml': ('DmlExecutionProvider', 'onnxruntime-directml  (on Windows)'),
}

# Operators of OpenVINO that may not end.
_CONTROL_FLOW = {'If', 'Loop', 'TensorIterator'}


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


def import_runtime(package: str):
    """Imports ``onnxruntime`` or ``openvino``, the latter without its telemetry; an
    HRI30Error: it is not installed."""
    # Importing openvino would send data, from a fork of this process.
    sys.modules.setdefault('openvino_telemetry', None)
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise HRI30Error(f'{package} is not installed, and this model needs it.\n'
                         f'Install it with: python -m pip install {package}') from error


class _GraphBackend(Backend):
    """Runs the graphs of an exported folder, each from one array to one array.

    Calls of several threads wait for each other: a graph has one set of buffers, and uses
    all its threads anyway. A graph is compiled at its first use: a stream needs the two
    stages and not the whole model, a program that reads files the reverse.

    Subclasses have ``_compile(path)``, ``_shapes(graph)`` and ``_infer(graph, array)``.
    """

    package: str

    def __init__(self, folder: Path, info) -> None:
        self.splittable, self._folder, self._info = FRAME_STAGE in info.files, folder, info
        self._graphs = {}
        self._lock = threading.Lock()
        self._runtime = import_runtime(self.package)

    def run(self, part: str, array: np.ndarray) -> np.ndarray:
        with self._lock:
            if part not in self._graphs:
                self._graphs[part] = self._load(part)
            return self._infer(self._graphs[part], np.ascontiguousarray(array))

    def _load(self, part: str):
        path = self._folder / self._info.files[part]
        try:
            graph = self._compile(path)
            taken, given = self._shapes(graph)
        except Exception as error:  # those of ONNX Runtime share no class
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line for line in reversed(lines) if line), repr(error))
            raise HRI30Error(f'{path}: cannot be run ({reason[:200]}).\nExpected a graph '
                             'that hri30 export wrote, whole; export or copy the '
                             'folder again.') from error
        width, height = self._info.preprocessing.size
        frames = self._info.preprocessing.num_frames
        takes = {WHOLE: (None, frames, height, width, 3),
                 FRAME_STAGE: (None, height, width, 3),
                 CLIP_STAGE: (None, frames, None, None, None)}[part]
        gives = ((None, ) * 4 if part == FRAME_STAGE
                 else (None, len(self._info.classes)))
        for verb, found, expected in (('takes', taken, takes), ('gives', given, gives)):
            if len(found) != len(expected) or any(
                    isinstance(a, int) and b is not None and a != b
                    for a, b in zip(found, expected)):
                raise HRI30Error(
                    f'{path}: {verb} arrays of {tuple(found)}, and model.json says '
                    f'{expected}.\nThe files are not of one model; export again.')
        return graph


class OnnxBackend(_GraphBackend):
    """Runs graphs with ONNX Runtime; ``threads`` None: one a core.

    Args:
        provider (str): What runs them: a short name of :data:`PROVIDERS`, or a full one,
            as the attribute is. Operators that it lacks run on CUDA, if it is TensorRT, or
            on the CPU.

    Raises:
        HRI30Error: ONNX Runtime is not installed, or not with this provider.
    """

    package = 'onnxruntime'

    def __init__(self, folder: Path, info, threads: int | None = None,
                 provider: str = 'cpu') -> None:
        super().__init__(folder, info)
        self.provider = self._find(provider)
        self._options = self._runtime.SessionOptions()
        self._options.intra_op_num_threads = threads or 0
        self._options.log_severity_level = 3  # errors
        # A robot has other programs: waiting threads do not keep a core busy.
        self._options.add_session_config_entry('session.intra_op.allow_spinning', '0')

    def _compile(self, path: Path):
        data = path.read_bytes()
        check_graph(data)
        # The checked bytes, not the file again.
        return self._runtime.InferenceSession(
            data, self._options, providers=self._providers(data))

    def _providers(self, data: bytes) -> list:
        cpu, cuda, tensorrt = (PROVIDERS[name][0] for name in ('cpu', 'cuda', 'tensorrt'))
        providers = [self.provider, *([cpu] if self.provider != cpu else [])]
        if self.provider in (cuda, tensorrt):
            with contextlib.suppress(ImportError):  # else those of the system
                importlib.import_module('tensorrt')  # the libraries that pip installed
            self._runtime.preload_dlls()
        if self.provider == tensorrt:
            # ONNX Runtime tells engines apart by names in the graph, compute capability
            # and versions: not by weights. An exported folder comes from anywhere, and an
            # engine is code: none is read from there.
            cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
            cache = cache / 'hri30' / 'tensorrt' / hashlib.sha256(data).hexdigest()
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            providers[:1] = [(self.provider, dict(
                trt_engine_cache_enable=True, trt_engine_cache_path=str(cache))), cuda]
        return providers

    def _find(self, provider: str) -> str:
        available = self._runtime.get_available_providers()
        name = PROVIDERS.get(provider, (provider, ))[0]
        if name in available:
            return name
        package = dict(PROVIDERS.values()).get(name)
        install = (f', or replace it: python -m pip uninstall onnxruntime; python -m pip '
                   f'install {package}' if package else f', or {", ".join(PROVIDERS)}.')
        raise HRI30Error(f'provider {provider}: the installed ONNX Runtime has '
                         f'{", ".join(available)}.\nExpected one of them{install}')

    def _load(self, part: str):
        graph = super()._load(part)
        if graph.get_providers()[0] != self.provider:  # it only warns
            raise HRI30Error(f'provider {self.provider}: cannot start; ONNX Runtime would '
                             f'use {", ".join(graph.get_providers())}.\nInstall the driver '
                             'and the libraries that it names above.')
        return graph

    def _shapes(self, graph) -> tuple[Sequence, Sequence]:
        return graph.get_inputs()[0].shape, graph.get_outputs()[0].shape

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        return graph.run(None, {graph.get_inputs()[0].name: array})[0]


class OpenVINOBackend(_GraphBackend):
    """Runs graphs with OpenVINO, on the CPU; ``threads`` None: one a core."""

    package = 'openvino'

    def __init__(self, folder: Path, info, threads: int | None = None) -> None:
        super().__init__(folder, info)
        self._core = self._runtime.Core()
        self._settings = dict(info.hints, PERFORMANCE_HINT='LATENCY')
        if threads:
            self._settings['INFERENCE_NUM_THREADS'] = threads

    def _compile(self, path: Path):
        model = self._core.read_model(path)
        loops = {operator.get_type_name() for operator in model.get_ops()} & _CONTROL_FLOW
        if loops:
            raise HRI30Error(f'control flow ({", ".join(sorted(loops))})')
        return self._core.compile_model(model, 'CPU', self._settings)

    def _shapes(self, graph) -> tuple[Sequence, Sequence]:
        taken, given = (
            [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
            for port in (graph.inputs[0], graph.outputs[0]))
        return taken, given

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        # One by one: OpenVINO keeps buffers for each number of frames that it meets.
        return np.concatenate([*map(super().frame_features, np.split(
            frames_MHWC, len(frames_MHWC)))])

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        # A copy: the next call overwrites the runtime's own buffer.
        return np.array(graph(array)[0])
