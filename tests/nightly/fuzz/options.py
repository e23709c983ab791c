"""What is given to ``--cfg-options``, with a small config."""

import os
import tempfile
from pathlib import Path

from mmengine.config import Config

from hri30_ext.config import load_config, parse_options
from hri30_ext.errors import HRI30Error

_CONFIG = """
data_root = 'data'
classes = ['Walking', 'PickUpDrill']
num_frames = 8
split = dict(type='group', val_groups=1)
flip = None
decay = 'step'
decays = dict(step=dict(type='MultiStepLR', milestones=[10]), none=None)
num_workers = 0
model = dict(type='A', clip_len='${num_frames}', classes='${num_classes}')
pipeline = [dict(type='B', frames='${num_frames}'), '${flip}', '${decays[decay]}']
"""

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_path = Path(_folder.name) / 'config.py'
_path.write_text(_CONFIG, encoding='utf-8')


def one_input(data: bytes) -> None:
    """Loads the config with options.

    Args:
        data (bytes): One option a line.
    """
    pairs = data.decode('utf-8', 'surrogateescape').split('\n')[:20]
    before = sorted(os.listdir(_folder.name)), dict(os.environ)
    try:
        options = parse_options([pair for pair in pairs if pair])
        cfg = load_config(str(_path), options)
    except HRI30Error as error:
        assert len(str(error)) < 2000 + 2 * len(data)
    else:
        assert isinstance(cfg, Config) and 'model' in cfg
        assert Path(cfg.data_root).is_absolute() or not cfg.data_root
    # An option is a value: it runs nothing, and leaves nothing behind.
    assert (sorted(os.listdir(_folder.name)), dict(os.environ)) == before
