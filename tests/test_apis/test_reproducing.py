"""The paper's splits by one command."""

import re

import numpy as np
import pytest
from conftest import DEMO_CONFIG

from hri30_ext.apis import runs as runs_module
from hri30_ext.apis.reproducing import reproduce
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.compare import compare_folders
from hri30_ext.evaluation.results import Results
from hri30_ext.names import HRI30_CLASSES

UCF = [f'Walking/v_Walking_g{group:02}_c01.avi' for group in range(1, 15)]
CID = [f'train_set/CID27_SID{group:02}_VID01.avi' for group in range(1, 11)]


@pytest.fixture
def faked(monkeypatch):
    """Stands in for training: half of four clips of two groups are right."""
    called = []

    def fake(run):
        called.append(run)
        (run.folder / 'test').mkdir(exist_ok=True, parents=True)
        Results(list('abcd'), np.eye(30)[[26, 26, 0, 0]], HRI30_CLASSES,
                None if 'hidden' in run.settings[0] else [26] * 4, [1, 2, 1, 2],
                data='x, test').save(run.folder / 'test' / 'scores.npz')
        run.record(done=True)

    monkeypatch.setattr(runs_module, 'run_in_process', lambda _, run: fake(run))
    return called


def test_table_of_three_splits(faked, name_clips, tmp_path):
    options = [f'data_root={name_clips(*UCF)}']
    report = reproduce(DEMO_CONFIG, str(tmp_path / 'o'), options)
    assert [run.settings[1:] for run in faked] == [
        ('split.type=paper', f'split.number={i}', 'split.val_groups=0') for i in (1, 2, 3)]
    assert [row['top1'] for row in report['splits']] == [.5] * 3
    block = (tmp_path / 'o' / 'reproduction.md').read_text()
    assert re.search(r'\| 2 \| 4 \| 50.00 \| [^|]+too few[^|]+\| 50.00 \| 83.49 / 99.84 \|',
                     block)
    assert 'No mean: the test side of split 2 lies within' in block
    folders = [tmp_path / 'o' / f'split{i}' / 'test' for i in (1, 2, 3)]
    assert '(3) x, test' in compare_folders(*folders)
    assert report == reproduce(DEMO_CONFIG, str(tmp_path / 'o'), options)
    assert len(faked) == 3  # complete splits are not repeated
    with pytest.raises(HRI30Error, match='holds a run with other settings'):
        reproduce(DEMO_CONFIG, str(tmp_path / 'o'), [*options, 'lr=0.5'])


def test_the_released_layout_gives_what_it_has(faked, name_clips, tmp_path):
    root = name_clips(*CID, root=tmp_path / 'hidden')
    report = reproduce(DEMO_CONFIG, str(tmp_path / 'o'), [f'data_root={root}'])
    assert [run.name for run in faked] == ['split 1', 'split 3']
    first, second, _ = report['splits']
    assert 'labels are hidden' in first['note'] and 'top1' not in first
    assert 'split.number=2' in second['note']
