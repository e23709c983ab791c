"""Checkpoints and early stopping, and that a resume forgets nothing."""

import pytest
from conftest import DEMO_CONFIG, PRIMITIVE, TINY
from same_training import load

from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.engine import ResumableEarlyStoppingHook, ValidatedCheckpointHook
from hri30_ext.errors import HRI30Error
from hri30_ext.utils.curves import read_curves


def run(folder, options, **changes):
    resume = changes.pop('resume', False)
    train(DEMO_CONFIG, work_dir=str(folder), resume=resume,
          options={**options, **TINY, **changes})
    return {file.name for file in folder.glob('*.pth')}


def test_recipe_of_early_stopping_is_the_default():
    hook = load_config(PRIMITIVE).custom_hooks[0]
    assert hook == dict(type='ResumableEarlyStoppingHook', monitor='loss', min_delta=0.001,
                        patience=15)
    without = load_config(PRIMITIVE, {'early_stopping': None}).custom_hooks
    assert not [hook for hook in without if 'EarlyStopping' in hook.type]


def test_counter_survives_a_resume(options, tmp_path, capfd):
    """No epoch can improve by 100 nats: the first sets the best, the others count."""
    options = {**options, 'early_stopping.min_delta': 100., 'early_stopping.patience': 4}
    run(tmp_path, options, max_epochs=3)
    state = load(tmp_path / 'epoch_3.pth')['early_stopping']
    assert state['wait_count'] == 2 and not state['stopped']
    run(tmp_path, options, max_epochs=20, resume=True)
    # 1 and 4 more: a counter that starts anew would end at epoch 8.
    assert load(tmp_path / 'epoch_5.pth')['early_stopping']['stopped']

    run(tmp_path, options, max_epochs=20, resume=True)
    assert 'Nothing to resume' in capfd.readouterr().out
    assert not (tmp_path / 'epoch_6.pth').exists()
    run(tmp_path, {**options, 'early_stopping.patience': 5}, max_epochs=20, resume=True)
    assert load(tmp_path / 'epoch_6.pth')['early_stopping']['wait_count'] == 5


@pytest.mark.parametrize('metric', ['top1', 'loss'])
def test_best_last_two_and_snapshots_are_kept(options, tmp_path, metric):
    """And resuming in between forgets no best score."""
    options = {**options, 'save_best': metric, 'snapshot_interval': 2}
    run(tmp_path, options, max_epochs=2)
    files = run(tmp_path, options, max_epochs=4, resume=True)
    best = {name for name in files if name.startswith('best_')}
    assert files - best == {'best.pth', 'epoch_3.pth', 'epoch_4.pth',
                            'snapshot_epoch_2.pth', 'snapshot_epoch_4.pth'}
    assert len(best) == 1 and next(iter(best)).startswith(f'best_{metric}_epoch_')
    # The file to resume from knows the score of its own epoch.
    info = load(tmp_path / 'epoch_4.pth')['message_hub']['runtime_info']
    assert info['best_ckpt'] == str(tmp_path / next(iter(best)))
    points = read_curves(tmp_path / 'training_curves.csv')
    scores = [point[f'val_{metric}'] for point in points]
    chosen = min(scores) if metric == 'loss' else max(scores)
    assert len(scores) == 4 and info['best_score'] == pytest.approx(chosen, abs=1e-6)


def test_epochs_without_validation_are_saved_too(options, tmp_path):
    options = {**options, 'train_cfg.val_interval': 2, 'early_stopping': None}
    files = run(tmp_path, options, max_epochs=3, snapshot_interval=1)
    # Epoch 2 is validated, epoch 3 is since it is the last.
    assert {'snapshot_epoch_1.pth', 'snapshot_epoch_2.pth', 'epoch_3.pth'} <= files
    assert load(tmp_path / 'snapshot_epoch_1.pth')['meta']['epoch'] == 1


def test_metric_that_is_not_there_is_refused():
    with pytest.raises(HRI30Error, match="save_best='accuracy': not a metric"):
        ValidatedCheckpointHook(save_best='accuracy')
    with pytest.raises(HRI30Error, match="early_stopping.monitor='accuracy': not a metric"):
        ResumableEarlyStoppingHook(monitor='accuracy')
    assert ResumableEarlyStoppingHook(monitor='mean_class').rule == 'greater'
    assert ValidatedCheckpointHook(save_best='macro_f1').rules == ['greater']
