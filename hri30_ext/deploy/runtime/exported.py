"""An exported model: one folder, which runs without torch and MMAction2.

::

    FOLDER
    ├── model.json          description of the folder, and how frames are prepared
    ├── model.onnx          or model.xml with model.bin: the whole model
    ├── frame_stage.*       if it can be split: the stages that see single frames
    ├── clip_stage.*        and the rest
    └── parity.json         comparison with the trained model

The folder is trusted like a model: the runtime runs no code of it, but computes whatever
its graphs say, and may read files beside them.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...errors import HRI30Error
from ...utils.reading import read_json
from ...video.preprocessing import Preprocessing
from .backends import Backend, OnnxBackend, OpenVINOBackend
from .certainty import ClassSets, OpenSet

#: The file that makes a folder an exported model.
INFO_NAME = 'model.json'

#: Formats, the precisions of each, and the hints for the runtime.
FORMATS = {
    'onnx': {'fp32': {}, 'int8': {}},
    # Without a hint, a CPU with bf16 would compute in it. fp16 are the stored weights; what
    # is not int8 runs in float32.
    'openvino': {precision: {'INFERENCE_PRECISION_HINT': hint} for precision, hint in (
        ('fp32', 'f32'), ('fp16', 'f32'), ('bf16', 'bf16'), ('int8', 'f32'))},
}
SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml'}


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True,
                tag_field='format_version', tag=1):
    """The description of an exported model, the content of ``model.json``.

    Its ``format_version`` rises when an older reader would misread a newer file.
    """
    # Names; the position is the class's in the scores.
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    preprocessing: Preprocessing  # from frames to the input of the model
    format: Literal['onnx', 'openvino']  # 'torch' in memory only
    precision: Literal['fp32', 'fp16', 'bf16', 'int8']  # one of FORMATS of this format
    # Names of the graphs' files by part, see hri30_ext.deploy.runtime.backends.WHOLE.
    files: dict[Literal['model', 'frame_stage', 'clip_stage'], str]
    # Median length of the training clips, the default window of a stream, if it is known.
    window_seconds: Annotated[float, Meta(ge=0.01, le=3600)] | None = None
    # Divides logits, to calibrate confidences. The scores of the model are without it.
    temperature: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    sets: ClassSets | None = None  # with a chosen certainty, the true class is in them
    open_set: OpenSet | None = None  # tells clips of no class
    hints: dict[str, str] = {}  # settings of the runtime
    versions: dict[str, str] = {}  # of the packages that wrote the folder
    source: dict[str, str] = {}  # name of the config, SHA-256 of the checkpoint
    parity: dict = {}  # how the scores compare with those of the trained model


def read_info(folder: str | Path) -> ModelInfo:
    """Reads the description of an exported folder; an HRI30Error: none, or invalid."""
    return read_json(Path(folder).expanduser() / INFO_NAME,
                     'a folder that this version of hri30 export wrote; export '
                     'the model again', schema=ModelInfo)


def load(folder: str | Path, threads: int | None = None, provider: str | None = None
         ) -> tuple[ModelInfo, Backend]:
    """Loads an exported model.

    Args:
        folder (str | Path): The folder that hri30 export wrote.
        threads (int, optional): CPU threads; None: one a core.
        provider (str, optional): Execution provider of ONNX Runtime, one of
            :data:`~.backends.PROVIDERS`; None: the CPU.

    Returns:
        tuple[ModelInfo, Backend]: Its description, with the ``provider`` that is used
        among the hints, and the backend, which reads graphs when they are first used.

    Raises:
        HRI30Error: an invalid description, or a runtime or provider that is not installed;
            the backend raises one for a graph that is missing or damaged.
    """
    folder = Path(folder).expanduser()
    info = read_info(folder)
    if info.format == 'onnx':
        backend = OnnxBackend(folder, info, threads, provider or 'cpu')
        info.hints['provider'] = backend.provider
        return info, backend
    if provider:
        raise HRI30Error(f'{folder}: provider {provider} is one of ONNX Runtime, and this '
                         f'folder is for {info.format}.\nExport with --format onnx.')
    return info, OpenVINOBackend(folder, info, threads)
