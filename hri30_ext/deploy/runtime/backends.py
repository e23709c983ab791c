"""What runs an exported model: ONNX Runtime or OpenVINO, on the CPU.

Shapes: N clips, M frames, T frames of a clip, H height, W width, C channels, K classes.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import HRI30Error

#: Names of the graphs of an exported folder: the whole model, and, where it can be split,
#: the stages without temporal kernels and the rest.
WHOLE, FRAME_STAGE, CLIP_STAGE = 'model', 'frame_stage', 'clip_stage'


class Backend(Protocol):
    """A model that is ready to predict.

    It may be called from several threads; calls then wait for each other.

    Attributes:
        splittable (bool): Whether :meth:`frame_features` and :meth:`clip_scores` are there:
            the model begins with stages that see one frame at a time, so that a stream
            computes them once a frame, and not once a window that the frame is in.
    """

    splittable: bool

    def __call__(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """Predicts clips.

        Args:
            clips_NTHWC (np.ndarray): uint8 RGB, prepared by
                :class:`~hri30_ext.video.preprocessing.Preprocessing`.

        Returns:
            np.ndarray: Class probabilities, float32, (N, K).
        """

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        """Computes what the stages without temporal kernels make of each frame.

        Args:
            frames_MHWC (np.ndarray): uint8 RGB, prepared.

        Returns:
            np.ndarray: Features, float32, (M, C, H, W) of their own.
        """

    def clip_scores(self, features_NTCHW: np.ndarray) -> np.ndarray:
        """Predicts clips from the features of their frames.

        Args:
            features_NTCHW (np.ndarray): Of :meth:`frame_features`, T frames a clip.

        Returns:
            np.ndarray: Class probabilities, float32, (N, K).
        """


@dataclass(frozen=True)
class GraphFiles:
    """Where the graphs of a model are, and what they must take and give.

    Args:
        folder (Path): Of the files.
        names (Mapping[str, str]): Of the files, by :data:`WHOLE`, :data:`FRAME_STAGE` and
            :data:`CLIP_STAGE`.
        frame_shape (tuple[int, int, int]): H, W, C.
        num_frames (int): T.
        num_classes (int): K.
    """

    folder: Path
    names: Mapping[str, str]
    frame_shape: tuple[int, int, int]
    num_frames: int
    num_classes: int

    @property
    def splittable(self) -> bool:
        """Whether the two stages are there on their own."""
        return FRAME_STAGE in self.names and CLIP_STAGE in self.names

    def path(self, name: str) -> Path:
        """Returns where a graph is."""
        return self.folder / self.names[name]

    def check(self, name: str, taken: Sequence, given: Sequence) -> None:
        """Compares a graph with what it must be.

        Args:
            name (str): Of the graph.
            taken (Sequence): Shape of its input; what is no int is open.
            given (Sequence): Of its output.

        Raises:
            HRI30Error: it takes or gives something else.
        """
        takes = {WHOLE: (None, self.num_frames, *self.frame_shape),
                 FRAME_STAGE: (None, *self.frame_shape),
                 CLIP_STAGE: (None, self.num_frames, None, None, None)}[name]
        gives = (None, ) * 4 if name == FRAME_STAGE else (None, self.num_classes)
        for verb, found, expected in (('takes', taken, takes), ('gives', given, gives)):
            if len(found) != len(expected) or any(
                    isinstance(a, int) and b is not None and a != b
                    for a, b in zip(found, expected)):
                raise HRI30Error(
                    f'{self.path(name)}: {verb} arrays of {_shape(found)}, and model.json '
                    f'says {_shape(expected)}.\nThe files are not of one model; export '
                    'it again.')


def _shape(sizes: Sequence) -> str:
    return ' x '.join(str(size) if isinstance(size, int) else 'any' for size in sizes)


class _GraphBackend:
    """What both runtimes share: graphs by name, each from one array to one array."""

    def __init__(self, files: GraphFiles) -> None:
        self.splittable = files.splittable
        self._files = files
        self._graphs = {}
        self._lock = threading.Lock()

    def _compile(self, path: Path):
        raise NotImplementedError

    def _shapes(self, graph) -> tuple[Sequence, Sequence]:
        raise NotImplementedError

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _run(self, name: str, array: np.ndarray) -> np.ndarray:
        # One at a time: a graph has one set of buffers, and uses all its threads anyway.
        with self._lock:
            # A graph is compiled when it is first wanted: a stream needs the two stages
            # and no whole model, a program that reads files the reverse.
            if name not in self._graphs:
                graph = self._compile(self._files.path(name))
                try:
                    shapes = self._shapes(graph)
                except (IndexError, RuntimeError) as error:  # no input, or any rank
                    raise _unreadable(self._files.path(name), error) from error
                self._files.check(name, *shapes)
                self._graphs[name] = graph
            return self._infer(self._graphs[name], np.ascontiguousarray(array))

    def __call__(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """See :meth:`Backend.__call__`."""
        return self._run(WHOLE, clips_NTHWC)

    def frame_features(self, frames_MHWC: np.ndarray) -> np.ndarray:
        """See :meth:`Backend.frame_features`."""
        return self._run(FRAME_STAGE, frames_MHWC)

    def clip_scores(self, features_NTCHW: np.ndarray) -> np.ndarray:
        """See :meth:`Backend.clip_scores`."""
        return self._run(CLIP_STAGE, features_NTCHW)


def _not_installed(package: str) -> HRI30Error:
    return HRI30Error(f'{package} is not installed, and this model needs it.\n'
                      f'Install it with: python -m pip install {package}')


class OnnxBackend(_GraphBackend):
    """Runs graphs with ONNX Runtime, on the CPU.

    Args:
        files (GraphFiles): The graphs.
        threads (int, optional): None: one a core.

    Raises:
        HRI30Error: ONNX Runtime is not installed.
    """

    def __init__(self, files: GraphFiles, threads: int | None = None) -> None:
        super().__init__(files)
        try:
            import onnxruntime
        except ImportError as error:
            raise _not_installed('onnxruntime') from error
        self._runtime = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads or 0
        self._options.log_severity_level = 3  # errors
        # A robot has other programs: threads that wait do not keep a core busy.
        self._options.add_session_config_entry('session.intra_op.allow_spinning', '0')

    def _compile(self, path: Path):
        try:
            return self._runtime.InferenceSession(
                str(path), self._options, providers=['CPUExecutionProvider'])
        except Exception as error:  # its exceptions share no class
            raise _unreadable(path, error) from error

    def _shapes(self, graph) -> tuple[Sequence, Sequence]:
        return graph.get_inputs()[0].shape, graph.get_outputs()[0].shape

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        return graph.run(None, {graph.get_inputs()[0].name: array})[0]


class OpenVINOBackend(_GraphBackend):
    """Runs graphs with OpenVINO, on the CPU.

    Args:
        files (GraphFiles): The graphs.
        threads (int, optional): None: one a core.
        hints (Mapping[str, str], optional): Such as ``INFERENCE_PRECISION_HINT``.

    Raises:
        HRI30Error: OpenVINO is not installed.
    """

    def __init__(self, files: GraphFiles, threads: int | None = None,
                 hints: Mapping[str, str] | None = None) -> None:
        super().__init__(files)
        try:
            import openvino
        except ImportError as error:
            raise _not_installed('openvino') from error
        self._core = openvino.Core()
        self._settings = dict(hints or {}, PERFORMANCE_HINT='LATENCY')
        if threads:
            self._settings['INFERENCE_NUM_THREADS'] = threads

    def _compile(self, path: Path):
        try:
            return self._core.compile_model(str(path), 'CPU', self._settings)
        except RuntimeError as error:
            raise _unreadable(path, error) from error

    def _shapes(self, graph) -> tuple[Sequence, Sequence]:
        taken, given = (
            [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
            for port in (graph.inputs[0], graph.outputs[0]))
        return taken, given

    def _infer(self, graph, array: np.ndarray) -> np.ndarray:
        # A copy: the runtime's own buffer is written again by the next call.
        return np.array(graph(array)[0])


def _unreadable(path: Path, error: Exception) -> HRI30Error:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return HRI30Error(f'{path}: cannot be run ({lines[-1][:200] if lines else error!r}).\n'
                      'Expected a graph that tools/deploy/export.py wrote, whole; export '
                      'or copy the folder again.')
