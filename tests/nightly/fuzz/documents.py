"""JSON that others wrote: a temperature, an analysis."""

import math
import tempfile
from pathlib import Path

from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.calibration import BOUNDS, calibration_path, load_calibration
from hri30_ext.utils.reading import read_json

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_root = Path(_folder.name).resolve()


def one_input(data: bytes) -> None:
    """Has a file read by all that reads such files.

    Args:
        data (bytes): The file.
    """
    for path, read in ((_root / 'any.json', _object),
                       (calibration_path(_root / 'best.pth'), _temperature)):
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
