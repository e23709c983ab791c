"""What README says works: here, the lines that switch a part of the recipe."""

import re

import pytest
import torch
from conftest import DEMO_CONFIG, PRIMITIVE

from hri30_ext.apis import train
from hri30_ext.config import PROJECT_ROOT, load_config, parse_options
from hri30_ext.errors import HRI30Error

README = (PROJECT_ROOT / 'README.md').read_text(encoding='utf-8')
TABLE = README.split('### Each part of the recipe in one line')[1].split('\n###')[0]
LINES = re.findall(r'\| `([\w.]+=[^`]+)` \|$', TABLE, re.MULTILINE)


def test_every_row_of_the_table_is_found():
    rows = [line for line in TABLE.splitlines() if line.startswith('|')]
    assert len(LINES) == len(rows) - 2 >= 30  # but for the head


@pytest.mark.parametrize('line', LINES)
def test_line_changes_the_primitive(line, monkeypatch):
    # As on a machine that has it.
    monkeypatch.setattr('hri30_ext.config.best_precision', lambda: 'bf16')
    changed, default = load_config(PRIMITIVE, parse_options([line])), load_config(PRIMITIVE)
    # Not the setting alone: what is built from it.
    assert any(changed[key] != default[key] for key in (
        'train_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'model',
        'default_hooks', 'randomness', 'visualizer'))


@pytest.mark.parametrize('line', LINES)
def test_line_trains(line, options, tmp_path):
    """The demo's small model, which has the same settings."""
    options = {**options, 'max_epochs': 1, **parse_options([line])}
    if line == 'precision=fp16' and not torch.cuda.is_available():
        with pytest.raises(HRI30Error, match='needs CUDA'):
            train(DEMO_CONFIG, work_dir=str(tmp_path), options=options)
        return
    try:
        train(DEMO_CONFIG, work_dir=str(tmp_path), options=options)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert (tmp_path / 'epoch_1.pth').is_file()
