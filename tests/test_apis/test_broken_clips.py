"""Testing with clips that cannot be read: each keeps its row, the others their scores."""

import csv
import json
import multiprocessing

import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, as_arguments, call_hri30

from hri30_ext.apis import test as run_test
from hri30_ext.apis import testing
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results
from hri30_ext.transforms import flip

OF_LABELLED = {'metrics.json', 'per_class.csv', 'confusion_matrix.png', 'analysis.json'}


def rows(folder):
    with open(folder / 'predictions.csv', newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def names(folder):
    return {file.name for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize('changes', [
    {}, {'num_workers': 1, 'batch_size': 2}, {'test_clips': 2}, {'test_flip': True}],
    ids=['plain', 'workers', 'views', 'flip'])
def test_the_others_are_what_they_were(
        root, checkpoint, options, tmp_path, changes, capsys, monkeypatch):
    options = {**options, **changes, 'data_root': str(root), 'report': not changes}
    if changes.get('test_flip'):  # as if all mirror images were classes
        monkeypatch.setattr(flip, 'mirrored_labels', lambda *_: ({}, set()))
        monkeypatch.setattr(testing, 'mirrored_labels', lambda *_: ({}, set()))
    out = tmp_path / 'out'
    run_test(DEMO_CONFIG, checkpoint, 'test', str(out), options)
    # Processes that are left to the garbage collector take 5 seconds each to end.
    assert not multiprocessing.active_children()
    before, whole = Results.load(out / 'test'), rows(out / 'test')
    assert (out / 'test' / 'test_set_labels.csv').is_file()
    capsys.readouterr()

    (root / 'test_set' / 'testvideo002.avi').write_bytes(b'text')
    metrics = run_test(DEMO_CONFIG, checkpoint, 'test', str(out), options)['test']
    after, found = Results.load(out / 'test'), rows(out / 'test')
    assert (metrics['num_videos'], metrics['num_failed']) == (2, 1)
    assert json.loads((out / 'test' / 'metrics.json').read_text()) == metrics
    assert after.videos == ['testvideo001.avi', 'testvideo003.avi']
    np.testing.assert_array_equal(after.scores_NK, before.scores_NK[[0, 2]])
    assert after.labels_N.tolist() == before.labels_N[[0, 2]].tolist()
    reason = after.failed['testvideo002.avi']
    assert list(after.failed) == ['testvideo002.avi'] and 'cannot be decoded' in reason
    assert [found[0], found[2]] == [whole[0], whole[2]]
    assert found[1] == dict(Video='testvideo002.avi', Predicted_Class='',
                            Predicted_Label='FAILED', Confidence='0.0000', Top_5=reason)
    # A submission of before would be handed in.
    assert not (out / 'test' / 'test_set_labels.csv').exists()
    assert f'testvideo002.avi: {reason}\n' in capsys.readouterr().out
    if not changes:
        report = (out / 'test' / 'report.html').read_text(encoding='utf-8')
        assert 'id="failed"' in report and reason in report
        analysis = json.loads((out / 'test' / 'analysis.json').read_text())
        assert analysis['errors']['clips'] == 2


def test_a_class_for_the_submission(root, checkpoint, options, tmp_path, capsys):
    (root / 'test_set' / 'testvideo001.avi').write_bytes(b'')
    options = {**options, 'data_root': str(root), 'failed_class': CLASSES[1],
               'num_workers': 1}  # a message, and no traceback of a process
    assert call_hri30('test', DEMO_CONFIG, checkpoint, '--split', 'test', '--out', tmp_path,
                      *as_arguments(options)) == 3
    lines = (tmp_path / 'test' / 'test_set_labels.csv').read_text().splitlines()
    assert [line.split(',')[0] for line in lines] == [
        'testvideo001', 'testvideo002', 'testvideo003']
    assert lines[0] == f'testvideo001,{CLASSES[1]},2'
    out, err = capsys.readouterr()
    assert 'testvideo001.avi: ' in out and 'Traceback' not in out + err
    with pytest.raises(HRI30Error, match="failed_class='Nope': is no class"):
        run_test(DEMO_CONFIG, checkpoint, 'test', str(tmp_path),
                 {**options, 'failed_class': 'Nope'})


def test_no_clip_can_be_read(root, checkpoint, options, tmp_path):
    options = {**options, 'data_root': str(root), 'report': True}
    run_test(DEMO_CONFIG, checkpoint, 'test', str(tmp_path), options)
    assert names(tmp_path / 'test') > OF_LABELLED
    for path in (root / 'test_set').glob('*.avi'):
        path.write_bytes(b'')
    metrics = run_test(DEMO_CONFIG, checkpoint, 'test', str(tmp_path), options)
    assert metrics == {'test': dict(num_videos=0, num_failed=3)}
    assert {row['Predicted_Label'] for row in rows(tmp_path / 'test')} == {'FAILED'}
    assert names(tmp_path / 'test') == {'predictions.csv', 'scores.npz', 'report.html'}
