"""Writing the report of a result folder again."""

from pathlib import Path

from mmengine.device import get_device

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..config import load_config
from ..deploy.torch_backend import build_recognizer
from ..evaluation.analysis import ANALYSIS, analyze
from ..evaluation.calibration import load_calibration
from ..evaluation.results import Results
from ..report import write_report
from ..utils.reading import read_json


def report(folder: str | Path, config: str | None = None, checkpoint: str | None = None,
           options: dict | None = None, explain: bool = True) -> Path:
    """Writes ``report.html`` from the ``scores.npz`` of a result folder; returns its path.

    Args:
        folder (str | Path): Of ``tools/test.sh``.
        config, checkpoint, options (optional): Of the test; see :func:`.testing.test`.
        explain (bool): Whether to show where the model looked, which needs ``config`` and
            ``checkpoint``.

    Raises:
        HRI30Error: no result folder, or a file that cannot be read.
    """
    folder = Path(folder).expanduser()
    results = Results.load(folder)
    folder = folder if folder.is_dir() else folder.parent
    cfg = load_config(config, options) if config else None
    model = None
    if explain and cfg is not None and checkpoint:
        model = build_recognizer(cfg, checkpoint).to(get_device())
    analysis = None
    if results.labels_N is not None:
        # What was fitted for the checkpoint is in the analysis of the test as well.
        if not checkpoint and (folder / ANALYSIS).is_file():
            analysis = read_json(folder / ANALYSIS, 'the analysis of tools/test.sh; test '
                                 'again, or remove it')
        else:
            analysis = analyze(results, checkpoint and load_calibration(checkpoint))
    return write_report(folder, results, analysis, cfg=cfg, checkpoint=checkpoint,
                        model=model)
