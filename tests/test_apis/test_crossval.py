"""Cross-validation: folds, what is written, and where it runs."""

import json
import os

import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE, as_arguments, run_tool

from hri30_ext.apis import runs as runs_module
from hri30_ext.apis.crossval import _interval, crossval, format_crossval
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results


@pytest.fixture
def faked(monkeypatch):
    """Stands in for training: right in the random split, wrong for class 1 by group."""
    called = []

    def fake(run):
        called.append(run)
        names = (run.folder / 'held_out_of_3.txt').read_text().split()
        labels = np.array([int(name[3:5]) - 1 for name in names])
        predicted = labels if 'random' in run.name else np.maximum(labels, 1)
        (run.folder / 'val').mkdir(exist_ok=True)
        Results(names, np.eye(3)[predicted], CLASSES, labels,
                [int(name[9:11]) for name in names], data='some clips, val').save(
                    run.folder / 'val' / 'scores.npz')
        run.record(done=True)

    monkeypatch.setattr(runs_module, 'run_in_process', lambda _, run: fake(run))
    return called


def options_of(clips_root):
    return [f'data_root={clips_root}', f'classes={",".join(CLASSES)}']


def test_each_group_is_held_out_once(faked, clips_root, tmp_path):
    report = crossval(DEMO_CONFIG, None, [1, 2], str(tmp_path), options_of(clips_root),
                      random=True)
    assert len(faked) == 2 * 2 * 3  # protocols, seeds, folds
    for run in faked:
        assert 'early_stopping=None' in run.settings and 'save_best=None' in run.settings
        assert f'split.val_file={run.folder / "held_out_of_3.txt"}' in run.settings
    by_group = report['protocols']['groups']
    assert by_group['top1'] == pytest.approx([2 / 3] * 6)
    assert by_group['interval']['low'] < 2 / 3 < by_group['interval']['high']
    assert report['protocols']['random']['mean'] == 1
    for protocol in ('groups', 'random'):
        whole = Results.load(tmp_path / protocol / 'seed1', need_labels=True)
        assert len(whole.videos) == 9 and (tmp_path / protocol / 'seed1' /
                                           'confusion_matrix.png').is_file()
    assert 'leaks' in Results.load(tmp_path / 'random' / 'seed2').data
    text = format_crossval(report)
    assert 'LEAKS' in text and '33.3 points higher' in text and 'synthetic data' in text
    # A second call finds all of it done.
    again = crossval(DEMO_CONFIG, None, [1, 2], str(tmp_path), options_of(clips_root),
                     random=True)
    assert len(faked) == 12 and again == report
    other = 'holds a run with other settings'
    for config, folds, words in ((DEMO_CONFIG, 2, other), (PRIMITIVE, None, other),
                                 (DEMO_CONFIG, 9, 'folds=9: expected 2 to 3')):
        with pytest.raises(HRI30Error, match=words):
            crossval(config, folds, [1], str(tmp_path), options_of(clips_root))


def test_interval_is_over_groups_not_clips():
    """Two groups, all right or all wrong: other groups could have any score."""
    whole = Results([f'{i:02}' for i in range(20)], np.eye(2)[[0] * 20], ['X', 'Y'],
                    [0] * 10 + [1] * 10, [1] * 10 + [2] * 10)
    # Of seeds that could not read the same clips.
    seeds = [whole.without({'00': 'hung'}), whole.without({'19': 'hung'})]
    for results in ([whole], seeds):
        interval = _interval(results)
        assert interval['unit'] == 'groups' and 'too few' in interval['note']
        assert [interval['low'], interval['high']] == pytest.approx([0, 1], abs=.01)


@pytest.mark.slow
def test_tool_trains_every_fold(options, tmp_path):
    del options['split.val_groups']
    result = run_tool('crossval', DEMO_CONFIG, '--folds', 2, '--out',
                      tmp_path / 'o', *as_arguments({**options, 'max_epochs': 1}),
                      cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'whole groups' in result.stdout and '2 x 1' in result.stdout
    report = json.loads((tmp_path / 'o' / 'crossval.json').read_text())
    assert len(report['protocols']['groups']['top1']) == 2
    whole = Results.load(tmp_path / 'o' / 'groups' / 'seed1', need_labels=True)
    assert len(whole.videos) == 9 and set(whole.groups_N) == {1, 2, 3}
    assert os.path.isfile(whole.filenames[0])
