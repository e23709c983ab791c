"""Clips that are changed before the preprocessing: the split's clips, each decoded once."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import DEMO_CONFIG
from mmengine.config import Config

from hri30_ext.apis import degrading
from hri30_ext.apis import test as run_test
from hri30_ext.apis.recognizer import Recognizer
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.corruptions import CORRUPTIONS, format_robustness
from hri30_ext.evaluation.early import SHARES, format_early
from hri30_ext.evaluation.results import Results
from hri30_ext.video.decode import Video


def test_unchanged_clips_have_the_scores_of_a_test(checkpoint, options, tmp_path,
                                                   monkeypatch):
    run_test(DEMO_CONFIG, checkpoint, 'val', str(tmp_path), options)
    expected = Results.load(tmp_path / 'val')
    opened = []
    monkeypatch.setattr(degrading, 'Video', lambda name: opened.append(name) or Video(name))
    recognizer = Recognizer(DEMO_CONFIG, checkpoint, options=options)
    found = degrading.score_changed(recognizer, 'val', [
        lambda frames, seed: np.zeros_like(frames), lambda frames, seed: frames])
    order = np.argsort(opened)
    np.testing.assert_allclose(found.scores_NCK[order, 1], expected.scores_NK, atol=1e-5)
    assert found.labels_N[order].tolist() == expected.labels_N.tolist()
    assert np.ptp(found.scores_NCK[:, 0], axis=0).max() < 1e-6  # black clips are alike
    assert np.ptp(found.scores_NCK[:, 1], axis=0).max() > 1e-4
    assert len(opened) == len(set(opened)) == 3


def test_both_analyses_write_what_they_say(checkpoint, options, tmp_path):
    out = tmp_path / 'out'
    early = degrading.measure_early(DEMO_CONFIG, checkpoint, 'test', str(out), options)
    robust = degrading.measure_robustness(DEMO_CONFIG, checkpoint, out=str(out),
                                          options=options)
    assert json.loads((out / 'test/early.json').read_text()) == early
    assert json.loads((out / 'val/robustness.json').read_text()) == robust
    for picture in ('test/early.png', 'val/robustness.png'):
        assert (out / picture).read_bytes().startswith(b'\x89PNG')
    assert [row['share'] for row in early['shares']] == list(SHARES)
    assert early['data'].endswith(', test') and ', val, 3' in early['rule']['chosen_on']
    assert '100%' in format_early(early)
    assert [(row['corruption'], row['strength']) for row in robust['rows']] == [
        ('clean', 0), *((name, strength) for name, found in CORRUPTIONS.items()
                        for strength in found.strengths)]
    assert len(format_robustness(robust).splitlines()) == 22


def test_broken_clips_are_left_out_unknown_labels_refused(monkeypatch, tmp_path, capsys):
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'no video')
    clips = [dict(filename=str(broken), label=0)]
    monkeypatch.setattr(degrading, 'list_split', lambda loader, subset: clips)
    recognizer = SimpleNamespace(
        cfg=Config(dict(data_root='data', test_dataloader={}, cache_dir=str(tmp_path))),
        predict_views=lambda views: list(views))
    with pytest.raises(HRI30Error, match='none of the clips of val can be read'):
        degrading.score_changed(recognizer, 'val', [])
    assert 'left out 1 of 1' in (said := capsys.readouterr().err) and 'broken.avi' in said
    clips[0]['label'] = -1
    with pytest.raises(HRI30Error, match='no labelled clips of test'):
        degrading.score_changed(recognizer, 'test', [])
