"""The same recordings in every layout, by one config, and training on a whole side."""

import pytest
from conftest import DEMO_CONFIG

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.evaluation.results import Results
from hri30_ext.synthetic import write_dataset


@pytest.fixture
def train_on(options, tmp_path):
    def run(layout, **settings):
        root, out = tmp_path / layout, tmp_path / 'runs' / layout
        write_dataset(root, train_groups=2, test_groups=4, clips=1, size=(96, 64),
                      classes=(1, 2), layout=layout, progress=False)
        chosen = {**options, 'data_root': str(root), 'classes': HRI30_CLASSES[:2],
                  'split.type': 'paper', 'max_epochs': 1, **settings}
        checkpoint = train(DEMO_CONFIG, str(out), options=chosen)
        return run_test(DEMO_CONFIG, str(checkpoint), out=str(out), options=chosen), out
    return run


def test_a_whole_side_is_trained_on_and_the_last_epoch_tested(train_on):
    metrics, out = train_on('ucf', **{'split.val_groups': 0})
    assert list(metrics) == ['test'] and metrics['test']['num_videos'] == 8
    assert list(out.glob('best*')) == [] and 'epoch_1' in (
        out / 'last_checkpoint').read_text()
    assert ', paper split 1, test' in Results.load(out / 'test').data


def test_split_3_of_the_released_layout_says_what_it_tests(train_on):
    _, out = train_on('released', **{'split.number': 3, 'split.val_groups': 0})
    results = Results.load(out / 'test')
    assert results.videos == ['CID01_SID01_VID01.avi', 'CID02_SID01_VID01.avi']
    assert '210 of the 1,049' in (out / 'test' / 'report.html').read_text()
