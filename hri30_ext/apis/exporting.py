"""Exporting a checkpoint."""

from pathlib import Path

from ..deploy import export as deploy_export
from ..deploy.runtime.exported import ModelInfo
from .common import describe_data
from .testing import prepare


def export(config: str, checkpoint: str, format: str, precision: str, out: str | Path,
           options: dict | None = None, **others) -> ModelInfo:
    """Exports a checkpoint of a config.

    Args:
        config (str): Path of the config.
        checkpoint (str): Its weights.
        options (dict, optional): As parsed from ``--cfg-options``.
        **others: Of :func:`hri30_ext.deploy.export.export`, as the other arguments.

    Returns:
        ModelInfo: The description of the folder.

    Raises:
        HRI30Error: see there.
    """
    cfg = prepare(config, checkpoint, options)
    return deploy_export.export(cfg, checkpoint, format, precision, out,
                                describe_data(cfg), **others)
