"""From clips to predictions, through the launchers and without them."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG, as_arguments, run_tool

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.errors import HRI30Error
from hri30_ext.utils.curves import CURVES, read_curves

RESULTS = {'predictions.csv', 'scores.npz', 'metrics.json', 'per_class.csv',
           'confusion_matrix.png', 'analysis.json', 'report.html'}


@pytest.fixture(scope='module')
def trained(clips_root, tmp_path_factory):
    """A checkpoint of two epochs, made by hri30 train from another folder."""
    work_dir = tmp_path_factory.mktemp('work') / 'a run'
    options = {'data_root': clips_root.name, 'classes': CLASSES, 'num_frames': 4,
               'input_size': (32, 32), 'batch_size': 4, 'num_workers': 1,
               'max_epochs': 2, 'split.val_groups': 1, 'cache_dir': work_dir / 'cache'}
    result = run_tool('train', DEMO_CONFIG, '--work-dir', work_dir, '--device', 'cpu',
                      *as_arguments(options), cwd=clips_root.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    return work_dir, result


def test_training_ends_with_the_best_checkpoint_and_what_to_do_next(trained, clips_root):
    work_dir, result = trained
    best = next(work_dir.glob('best_top1_epoch_*.pth'))
    assert f'{best}\n' in result.stdout
    assert 'tools/test.sh' in result.stdout and 'synthetic data' in result.stdout
    assert (work_dir / 'training_curves.png').stat().st_size > 10_000
    assert 'epoch 2/2  loss ' in result.stdout and 'val 3 clips' in result.stdout
    meta = torch.load(best, weights_only=True)['meta']
    assert list(meta['dataset_meta']['classes']) == CLASSES
    points = read_curves(work_dir / 'training_curves.csv')
    assert [point['epoch'] for point in points] == [1, 2]
    assert all(set(point) == {*CURVES, 'lr'} for point in points)
    scalars = [json.loads(line) for line in
               next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert {'top1', 'loss', 'macro_f1'} <= {key for line in scalars for key in line}


def test_one_command_gives_metrics_and_predictions(trained, clips_root, options, tmp_path,
                                                   capsys):
    best = next(trained[0].glob('best_top1_epoch_*.pth'))
    metrics = run_test(DEMO_CONFIG, str(best), out=str(tmp_path),
                       options={**options, 'report': True})
    assert set(metrics) == {'val', 'test'}
    # Fitted on the validation clips, for every later use of the checkpoint.
    calibration = json.loads(best.with_suffix('.calibration.json').read_text())
    assert calibration['temperature'] > 0 and calibration['clips'] == 3
    assert calibration['sets'] is calibration['open_set'] is None
    printed, said = capsys.readouterr()
    recalls = [line.split()[1] for line in printed.split(
        'classes, the worst first\n')[1].splitlines()[1:4]]
    assert recalls == sorted(recalls, key=float)
    assert 'no sets of classes: ' in said and 'no unknown actions: ' in said
    analysis = json.loads((tmp_path / 'test' / 'analysis.json').read_text())
    assert analysis['calibration']['temperature'] == calibration['temperature']
    for split, files in (('val', RESULTS), ('test', RESULTS | {'test_set_labels.csv'})):
        folder = tmp_path / split
        assert {file.name for file in folder.iterdir() if file.is_file()} == files
        values = json.loads((folder / 'metrics.json').read_text())
        assert set(values) == {'top1', 'top5', 'mean_class', 'macro_precision',
                               'macro_recall', 'macro_f1', 'loss', 'num_videos'}
        assert values == metrics[split] and values['num_videos'] == 3
        with open(folder / 'predictions.csv', newline='') as file:
            rows = list(csv.DictReader(file))
        with np.load(folder / 'scores.npz') as arrays:
            assert [row['Video'] for row in rows] == arrays['videos'].tolist()
            assert [int(row['Predicted_Class']) for row in rows] == (
                arrays['scores'].argmax(1) + 1).tolist()
            assert arrays['scores'].dtype == np.float32
            # Rendered test clips: their names do not tell the group.
            assert set(arrays['groups'].tolist()) == {1000} or split == 'val'
    assert [row['Video'] for row in rows] == [f'testvideo00{i}.avi' for i in (1, 2, 3)]
    assert rows[0]['Predicted_Label'] == CLASSES[int(rows[0]['Predicted_Class']) - 1]
    assert (tmp_path / 'test' / 'test_set_labels.csv').read_text().startswith(
        'testvideo001,')


def test_unlabelled_clips_get_predictions_and_no_metrics(
        trained, clips_root, options, tmp_path, capsys):
    root = tmp_path / 'hidden'
    (root / 'test').mkdir(parents=True)
    source = clips_root / 'test_set' / 'testvideo001.avi'
    (root / 'test' / 'any name.avi').symlink_to(source)
    best = next(trained[0].glob('best_top1_epoch_*.pth'))
    metrics = run_test(DEMO_CONFIG, str(best), out=str(tmp_path),
                       options={**options, 'data_root': str(root), 'report': True})
    assert f'val: skipped, because {root} has no training clips' in capsys.readouterr().out
    assert metrics == {'test': {'num_videos': 1}}
    assert {file.name for file in (tmp_path / 'test').iterdir() if file.is_file()} == {
        'predictions.csv', 'scores.npz', 'test_set_labels.csv', 'report.html'}


@pytest.mark.parametrize('change, message', [
    (dict(config='configs/nope.py'), 'no such config'),
    (dict(options={'data_root': '/absent'}), 'no such data folder'),
    (dict(options={'load_from': '/absent.pth'}), 'absent.pth: no such checkpoint'),
    (dict(resume=True), 'no checkpoint to resume from'),
    (dict(resume='/absent.pth'), 'absent.pth: no such checkpoint'),
    (dict(options={'classes': ['A', 'B']}), 'class id 3, expected 1 to 2'),
    (dict(work_dir='/dev/null/run'), 'cannot be written'),
])
def test_mistakes_in_training(options, tmp_path, change, message):
    arguments = {'config': DEMO_CONFIG, 'work_dir': str(tmp_path / 'w'), **change,
                 'options': {**options, **change.get('options', {})}}
    with pytest.raises(HRI30Error, match=message):
        train(**arguments)
