"""Exporting a checkpoint."""

from pathlib import Path

from ..deploy import export as deploy_export
from ..deploy.runtime.exported import ModelInfo
from .common import describe_data
from .testing import prepare


def export(config: str, checkpoint: str, format: str, precision: str, out: str | Path,
           options: dict | None = None, **others) -> ModelInfo:
    """Exports a checkpoint of a config; see :func:`hri30_ext.deploy.export.export`.

    ``options`` are as parsed from ``--cfg-options``; ``others`` are arguments of that
    function, which returns the description of the folder.
    """
    cfg = prepare(config, checkpoint, options)
    return deploy_export.export(cfg, checkpoint, format, precision, out,
                                describe_data(cfg), **others)
