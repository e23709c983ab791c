"""JSON that others wrote: a temperature, an analysis, clips set aside."""

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hri30_ext.doctor import undo
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.calibration import BOUNDS, calibration_path, load_calibration
from hri30_ext.utils.reading import read_json

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_root = Path(_folder.name).resolve()
_data = _root / 'data'
_aside = _data / 'set_aside' / '20300131-120000'
_CLIP = 'train_set/CID01_SID01_VID01.avi'
_ROWS = 'annotations/train_set_labels.csv'


def one_input(data: bytes) -> None:
    """Has a file read by all that reads such files.

    Args:
        data (bytes): The file.
    """
    for path, read in ((_root / 'any.json', _object),
                       (calibration_path(_root / 'best.pth'), _temperature),
                       (_aside / 'manifest.json', _manifest)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        try:
            read(path)
        except HRI30Error as error:
            assert str(path) in str(error) and len(str(error)) < 3000


def _object(path: Path) -> None:
    assert isinstance(read_json(path, 'an object'), dict)


def _temperature(path: Path) -> None:
    temperature = load_calibration(_root / 'best.pth').temperature
    assert math.isfinite(temperature) and BOUNDS[0] <= temperature <= BOUNDS[1]


def _manifest(path: Path) -> None:
    """Moves a clip and rows back, or nothing; and never anything else."""
    read_json(path, 'an object')  # most inputs are none: they are not worth the files
    before = {_aside / _CLIP: b'clip', _aside / _ROWS: b'all rows', _data / _ROWS: b'rows'}
    after = {_data / _CLIP: b'clip', _data / _ROWS: b'all rows'}
    for file, content in before.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (_data / _CLIP).unlink(missing_ok=True)
    others = _files() - before.keys() - {path}
    try:
        undo(_data)
    except HRI30Error as error:
        assert _contents(before) == before and path.exists()
        if 'cannot be moved back' not in str(error):
            raise  # the manifest is invalid, which has to name it
        assert str(_aside) in str(error) and len(str(error)) < 3000
    else:
        assert not path.exists()
        for file, content in _contents(after).items():
            assert content == after[file] or before.get(file) == content
    assert _files() - before.keys() - after.keys() - {path} == others


def _files() -> set[Path]:
    return {path for path in _root.rglob('*') if not path.is_dir()}


def _contents(files: Iterable[Path]) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files if file.exists()}
