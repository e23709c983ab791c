"""An exported model: one folder, which runs without torch and MMAction2.

::

    FOLDER
    ├── model.json          what is in the folder, and what is done to frames
    ├── model.onnx          or model.xml with model.bin: the whole model
    ├── frame_stage.*       where it can be split: the stages that see single frames
    ├── clip_stage.*        and the rest
    └── parity.json         what was compared with the model that was trained

The folder may come from anywhere: ``model.json`` is checked as a whole before anything of
it is used.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import HRI30Error
from ...video.preprocessing import Preprocessing
from .backends import (
    CLIP_STAGE,
    FRAME_STAGE,
    WHOLE,
    Backend,
    GraphFiles,
    OnnxBackend,
    OpenVINOBackend,
)

#: The file that makes a folder an exported model.
INFO_NAME = 'model.json'

#: Of ``model.json``. It is raised when an older reader would read a newer file wrongly.
FORMAT_VERSION = 1

#: Formats, the precisions of each, and the hints that they run with.
FORMATS = {
    'onnx': {'fp32': {}, 'int8': {}},
    'openvino': {
        'fp32': {'INFERENCE_PRECISION_HINT': 'f32'},
        # The weights are stored in 16 bits. Without the hint, a CPU that has bf16
        # would compute in it.
        'fp16': {'INFERENCE_PRECISION_HINT': 'f32'},
        'bf16': {'INFERENCE_PRECISION_HINT': 'bf16'},
        # What is not int8 is computed in float32.
        'int8': {'INFERENCE_PRECISION_HINT': 'f32'},
    },
}
_SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml'}

_MAX_BYTES = 4 << 20  # of model.json
_MAX_GRAPH_BYTES = 4 << 30
_FILE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,99}')


@dataclass(frozen=True)
class ModelInfo:
    """What is known of an exported model.

    Args:
        classes (tuple[str, ...]): Names; the position is the class's in the scores.
        preprocessing (Preprocessing): From frames to what the model takes.
        format (str): ``onnx`` or ``openvino``.
        precision (str): One of :data:`FORMATS` of this format.
        files (dict[str, str]): Names of the graphs' files, see
            :data:`~hri30_ext.deploy.runtime.backends.WHOLE`.
        window_seconds (float, optional): The median length of the training clips: what a
            stream is looked at at once. None where it is not known.
        temperature (float, optional): Divides logits, so that confidences can be believed.
            The scores of the model are without it.
        hints (dict[str, str]): What the runtime is told.
        versions (dict[str, str]): Of the packages that wrote the folder.
        source (dict[str, str]): Name of the config, SHA-256 of the checkpoint.
        parity (dict): How the scores compare with those of the trained model.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    format: str
    precision: str
    files: dict[str, str]
    window_seconds: float | None = None
    temperature: float | None = None
    hints: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    parity: dict = field(default_factory=dict)

    @property
    def frame_stage(self) -> bool:
        """Whether the stages that see single frames are there on their own."""
        return FRAME_STAGE in self.files and CLIP_STAGE in self.files

    def to_json(self) -> dict:
        """Returns what :meth:`from_json` reads."""
        return dict(asdict(self), format_version=FORMAT_VERSION, classes=list(self.classes),
                    preprocessing=self.preprocessing.to_json())

    @classmethod
    def from_json(cls, content) -> 'ModelInfo':
        """Reads what :meth:`to_json` wrote, and believes none of it.

        Raises:
            HRI30Error: an unknown version, or something is missing, surplus, of another
                type or out of range.
        """
        if not isinstance(content, Mapping):
            raise HRI30Error(f'a {type(content).__name__}, expected an object.')
        version = content.get('format_version')
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise HRI30Error(f'format_version={version!r}, and this program reads '
                             f'{FORMAT_VERSION}.\nExport the model again, or take the '
                             'version of this program that exported it.')
        names = set(cls.__dataclass_fields__)
        found = set(content) - {'format_version'}
        if found != names:
            raise HRI30Error(f'missing: {_listed(names - found)}; not known: '
                             f'{_listed(found - names)}.')
        form, precision = _format(content['format'], content['precision'])
        return cls(
            classes=_classes(content['classes']),
            preprocessing=Preprocessing.from_json(content['preprocessing']),
            format=form, precision=precision,
            files=_files(content['files'], form),
            window_seconds=_number(content['window_seconds'], 'window_seconds', 0.01, 3600),
            temperature=_number(content['temperature'], 'temperature', 0.01, 100),
            hints=_hints(content['hints'], form, precision),
            versions=_strings(content['versions'], 'versions'),
            source=_strings(content['source'], 'source'),
            parity=_object(content['parity'], 'parity'))


# ---- Checks -----------------------------------------------------------------------------


def _listed(names) -> str:
    return ', '.join(sorted(str(name)[:40] for name in names)[:10]) or 'none'


def _format(form, precision) -> tuple[str, str]:
    if not isinstance(form, str) or form not in FORMATS:
        raise HRI30Error(f'format={form!r}, expected one of {", ".join(FORMATS)}.')
    if not isinstance(precision, str) or precision not in FORMATS[form]:
        raise HRI30Error(f'precision={precision!r} of format {form}, expected one of '
                         f'{", ".join(FORMATS[form])}.')
    return form, precision


def _classes(value) -> tuple[str, ...]:
    # Names are shown on terminals and pages.
    if (not isinstance(value, list) or not 1 <= len(value) <= 10_000
            or not all(isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
                       for name in value) or len(set(value)) != len(value)):
        raise HRI30Error('classes: expected 1 to 10000 different names, each of 1 to 200 '
                         'printable characters.')
    return tuple(value)


def _object(value, name: str) -> dict:
    if not isinstance(value, Mapping):
        raise HRI30Error(f'{name}: a {type(value).__name__}, expected an object.')
    return dict(value)


def _strings(value, name: str) -> dict[str, str]:
    value = _object(value, name)
    if len(value) > 50 or not all(
            isinstance(item, str) and len(item) <= 500 and item.isprintable()
            for pair in value.items() for item in pair):
        raise HRI30Error(f'{name}: expected at most 50 short texts by name.')
    return value


def _files(value, form: str) -> dict[str, str]:
    value = _strings(value, 'files')
    if set(value) not in ({WHOLE}, {WHOLE, FRAME_STAGE, CLIP_STAGE}):
        raise HRI30Error(f'files: found {_listed(value)}; expected {WHOLE}, or {WHOLE}, '
                         f'{FRAME_STAGE} and {CLIP_STAGE}.')
    for name in value.values():
        # Names of files in this folder: no path leads out of it.
        if not _FILE_NAME.fullmatch(name) or not name.endswith(_SUFFIXES[form]):
            raise HRI30Error(f'files: {name!r}, expected a name that ends with '
                             f'{_SUFFIXES[form]}, of letters, digits and _.-, without a '
                             'folder.')
    return value


def _hints(value, form: str, precision: str) -> dict[str, str]:
    value = _strings(value, 'hints')
    if value != FORMATS[form][precision]:
        raise HRI30Error(f'hints: {value} are not those of {form} {precision}, '
                         f'{FORMATS[form][precision]}.')
    return value


def _number(value, name: str, least: float, most: float) -> float | None:
    if value is None:
        return None
    if (isinstance(value, bool) or not isinstance(value, int | float)
            or not math.isfinite(value) or not least <= value <= most):
        raise HRI30Error(f'{name}={value!r}, expected a number from {least:g} to {most:g}, '
                         'or null.')
    return float(value)


# ---- Reading ----------------------------------------------------------------------------


def is_exported(folder: str | Path) -> bool:
    """Says whether a folder looks like an exported model."""
    return (Path(folder).expanduser() / INFO_NAME).is_file()


def read_info(folder: str | Path) -> ModelInfo:
    """Reads what an exported folder says of itself.

    Args:
        folder (str | Path): As tools/deploy/export.py wrote it.

    Raises:
        HRI30Error: no such folder, or one that is not as expected.
    """
    path = Path(folder).expanduser() / INFO_NAME
    try:
        # A pipe would be waited for.
        with open(path, 'rb', opener=lambda name, flags: os.open(
                name, flags | os.O_NONBLOCK)) as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise HRI30Error(f'{path}: cannot be read ({error.strerror or error}).\nExpected a '
                         'folder that tools/deploy/export.py wrote.') from error
    try:
        if len(text) > _MAX_BYTES:
            raise HRI30Error(f'more than {_MAX_BYTES:,} bytes.')
        return ModelInfo.from_json(json.loads(text.decode('utf-8'),
                                              parse_constant=_no_constant))
    except RecursionError as error:
        raise HRI30Error(f'{path}: nested too deep.') from error
    except ValueError as error:  # not UTF-8, not JSON
        raise HRI30Error(f'{path}: not JSON ({error}).\nExport the model again.') from error
    except HRI30Error as error:
        raise HRI30Error(f'{path}: {error}') from error


def _no_constant(name: str):
    raise ValueError(f'{name} is no number')


def _check_file(path: Path) -> None:
    """Refuses what is elsewhere, though its name is not, and what no memory holds."""
    if path.resolve().parent != path.parent.resolve():
        raise HRI30Error(f'{path}: a link that leads out of the folder.\nCopy the whole '
                         'folder, with the files themselves.')
    if path.stat().st_size > _MAX_GRAPH_BYTES:
        raise HRI30Error(f'{path}: {path.stat().st_size:,} bytes, more than '
                         f'{_MAX_GRAPH_BYTES:,}.\nExport the model again.')


def load(folder: str | Path, threads: int | None = None) -> tuple[ModelInfo, Backend]:
    """Makes an exported model ready to predict.

    Args:
        folder (str | Path): As tools/deploy/export.py wrote it.
        threads (int, optional): Of the CPU; None: one a core.

    Returns:
        tuple[ModelInfo, Backend]: What is known of it, and what runs it. The graphs are
        read when they are first used.

    Raises:
        HRI30Error: the folder is not as expected, its files are not there, or the runtime
            that it needs is not installed.
    """
    folder = Path(folder).expanduser()
    info = read_info(folder)
    needed = list(info.files.values())
    if info.format == 'openvino':
        needed += [str(Path(name).with_suffix('.bin')) for name in info.files.values()]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise HRI30Error(f'{folder}: {", ".join(missing)} is not there, and {INFO_NAME} '
                         'names it.\nCopy the whole folder, or export again.')
    for name in needed:
        _check_file(folder / name)
    width, height = info.preprocessing.size
    files = GraphFiles(folder, info.files, (height, width, 3),
                       info.preprocessing.num_frames, len(info.classes))
    if info.format == 'openvino':
        return info, OpenVINOBackend(files, threads, info.hints)
    return info, OnnxBackend(files, threads)
