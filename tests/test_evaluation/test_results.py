"""The scores that every analysis reads."""

import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results

SCORES = np.array([[.7, .3], [.4, .6], [.1, .9]], np.float32)


def test_saved_and_loaded_sorted(tmp_path):
    Results(['c', 'a', 'b'], SCORES, ['X', 'Y'], [0, 1, 1], [3, 1, 2], ['/c', '/a', '/b'],
            'clips').save(tmp_path / 'scores.npz')
    results = Results.load(tmp_path, need_labels=True)
    assert results.videos == ['a', 'b', 'c'] and results.filenames == ['/a', '/b', '/c']
    np.testing.assert_array_equal(results.scores_NK, SCORES[[1, 2, 0]])
    assert results.labels_N.tolist() == [1, 1, 0] and results.groups_N.tolist() == [1, 2, 3]
    assert results.predicted_N.tolist() == [1, 1, 0] and results.data == 'clips'
    with np.load(tmp_path / 'scores.npz', allow_pickle=False) as arrays:
        assert arrays['scores'].dtype == np.float32


def test_what_is_not_known_is_left_open(tmp_path):
    Results(['a'], [[1, 0]], ['X', 'Y']).save(tmp_path / 'scores.npz')
    results = Results.load(tmp_path / 'scores.npz')
    assert results.labels_N is None and results.groups_N.tolist() == [-1]
    assert results.filenames == ['']
    with pytest.raises(HRI30Error, match='no labelled clips'):
        Results.load(tmp_path, need_labels=True)


@pytest.mark.parametrize('changes, message', [
    (dict(videos=['a', 'a', 'b']), 'there twice'),
    (dict(labels_N=[0, 1]), '2 labels of 3 videos'),
    (dict(labels_N=[0, 1, 2]), 'labels 0 to 2, expected 0 to 1'),
    (dict(scores_NK=SCORES[:2]), 'scores of shape'),
    (dict(scores_NK=SCORES * [[1], [np.nan], [1]]), r'1 of 3 clips are not [\s\S]*  b\n'),
])
def test_contradictions_are_named(changes, message):
    with pytest.raises(HRI30Error, match=message):
        Results(**{**dict(videos=['a', 'b', 'c'], scores_NK=SCORES, classes=['X', 'Y']),
                   **changes})


def test_other_files_are_named(tmp_path):
    with pytest.raises(HRI30Error, match='no such file'):
        Results.load(tmp_path)
    (tmp_path / 'val').mkdir()
    (tmp_path / 'val' / 'scores.npz').write_bytes(b'not a zip')
    with pytest.raises(HRI30Error, match='such as .*val'):
        Results.load(tmp_path)
    with pytest.raises(HRI30Error, match='the scores of tools'):
        Results.load(tmp_path / 'val')
    table = dict(videos=['a', 'b', 'c'], scores=SCORES, classes=['X', 'Y'])
    for arrays in (dict(x=1), dict(table, labels=np.zeros((3, 2), int)),
                   dict(table, groups=[2**63] * 3)):
        np.savez(tmp_path / 'val' / 'scores.npz', **arrays)
        with pytest.raises(HRI30Error, match='the scores of tools'):
            Results.load(tmp_path / 'val')


def test_clips_that_could_not_be_read_are_kept_apart(tmp_path):
    failed = {'z ü': 'cannot be decoded (x).', 'b': 'gone'}
    results = Results(['c', 'a'], SCORES[:2], ['X', 'Y'], [0, 1], failed=failed)
    results.save(tmp_path / 'scores.npz')
    found = Results.load(tmp_path)
    assert found.videos == ['a', 'c'] and list(found.failed.items()) == sorted(
        failed.items())
    with np.load(tmp_path / 'scores.npz', allow_pickle=False) as arrays:
        assert arrays['failed_videos'].tolist() == ['b', 'z ü']
        assert arrays['failed_reasons'].dtype.kind == 'U'
    nothing = found.without({'a': 'gone', 'c': 'gone'})  # no labels without clips
    nothing.save(tmp_path / 'scores.npz')
    assert Results.load(tmp_path).failed == nothing.failed and nothing.labels_N is None
    with pytest.raises(HRI30Error, match='there twice'):
        Results(['b'], [[1, 0]], ['X', 'Y'], failed=failed)


def test_scores_can_be_taken_away():
    results = Results(['a', 'b', 'c'], SCORES, ['X', 'Y'], [0, 1, 1], [1, 2, 3],
                      ['/a', '/b', '/c'], 'clips', {'d': 'gone'}, source='S')
    fewer = results.without({'b': 'empty', 'd': 'another', 'e': 'elsewhere'})
    assert (fewer.videos, fewer.filenames) == (['a', 'c'], ['/a', '/c'])
    assert fewer.failed == {'b': 'empty', 'd': 'gone'}
    np.testing.assert_array_equal(fewer.scores_NK, SCORES[[0, 2]])
    assert fewer.labels_N.tolist() == [0, 1] and fewer.groups_N.tolist() == [1, 3]
    assert (fewer.data, fewer.source) == ('clips', 'S')
    assert results.without({'e': 'elsewhere'}) is results
