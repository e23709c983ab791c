"""Training on a whole side of the paper's split, in the UCF-101 layout."""

from conftest import DEMO_CONFIG

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.evaluation.results import Results
from hri30_ext.synthetic import write_dataset


def test_a_whole_side_is_trained_on_and_the_last_epoch_tested(options, tmp_path):
    root, out = tmp_path / 'ucf', tmp_path / 'run'
    write_dataset(root, train_groups=2, test_groups=4, clips=1, size=(96, 64),
                  classes=(1, 2), layout='ucf', progress=False)
    chosen = {**options, 'data_root': str(root), 'classes': HRI30_CLASSES[:2],
              'split.type': 'paper', 'split.val_groups': 0, 'max_epochs': 1}
    checkpoint = train(DEMO_CONFIG, str(out), options=chosen)
    metrics = run_test(DEMO_CONFIG, str(checkpoint), out=str(out), options=chosen)
    assert list(metrics) == ['test'] and metrics['test']['num_videos'] == 8
    assert list(out.glob('best*')) == [] and 'epoch_1' in (
        out / 'last_checkpoint').read_text()
    assert ', paper split 1, test' in Results.load(out / 'test').data
