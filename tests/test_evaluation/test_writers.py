import json

import numpy as np
import pytest

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation import writers
from hri30_ext.evaluation.metrics import ClassScores
from hri30_ext.evaluation.results import Results


def test_predictions():
    scores = np.zeros((1, 30), np.float32)
    scores[0, [24, 25, 0, 1, 2]] = .9823, .0142, .002, .001, .0005
    assert writers.format_predictions(['video_001.avi'], scores, HRI30_CLASSES) == (
        'Video,Predicted_Class,Predicted_Label,Confidence,Top_5\n'
        'video_001.avi,25,UsingTheDrill,0.9823,UsingTheDrill(0.9823); '
        'UsingThePolisher(0.0142); DeliverObject(0.0020); '
        'MoveBackwardsWhileDrilling(0.0010); MoveBackwardsWhilePolishing(0.0005)\n')


def test_names_with_commas_and_quotes_stay_in_their_column():
    text = writers.format_predictions(['a,b"c'], np.array([[1., 0.]]), ['A', 'B'])
    assert text.splitlines()[1] == '"a,b""c",1,A,1.0000,A(1.0000); B(0.0000)'


def test_per_class():
    results = Results('abc', np.eye(3)[[0, 1, 1]], ['A', 'B', 'C'], [0, 0, 1])
    scores = ClassScores.of(results)
    assert scores.matrix_KK.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    text = writers.format_per_class(scores, results.classes)
    assert text == ('Class_ID,Class,Precision,Recall,F1,Clips\n'
                    '1,A,1.0000,0.5000,0.6667,2\n'
                    '2,B,0.5000,1.0000,0.6667,1\n'
                    '3,C,0.0000,0.0000,0.0000,0\n')


def test_submission_is_sorted_and_spelt_as_released(tmp_path):
    scores = np.zeros((2, 30), np.float32)
    scores[0, 28] = scores[1, 17] = 1
    results = Results(['testvideo002.avi', 'testvideo001.mp4'], scores, HRI30_CLASSES)
    writers.write_results(tmp_path, results, submission=True)
    assert (tmp_path / 'test_set_labels.csv').read_bytes() == (
        b'testvideo001,NoCollaborativeWithDrilll,18\ntestvideo002,WalkingWithDrill,29\n')
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        'predictions.csv', 'scores.npz', 'test_set_labels.csv']


def test_a_name_that_breaks_the_submission_leaves_no_submission(tmp_path):
    with pytest.raises(HRI30Error):
        writers.write_results(tmp_path, Results(['a\nb'], np.ones((1, 2)), ['A', 'B']),
                      submission=True)
    assert not (tmp_path / 'test_set_labels.csv').exists()


def test_clips_that_could_not_be_read(tmp_path):
    results = Results(['c', 'a'], np.eye(2), ['A', 'B'], [0, 1],
                      failed={'b': '=cmd(), "x"', 'd': 'gone'})
    (tmp_path / 'test_set_labels.csv').write_text('of an earlier test')
    metrics = writers.write_results(tmp_path, results, submission=True)
    assert (metrics['num_videos'], metrics['num_failed'], metrics['top1']) == (2, 2, 1)
    assert (tmp_path / 'predictions.csv').read_text().splitlines()[1:] == [
        'a,2,B,1.0000,B(1.0000); A(0.0000)', """b,,FAILED,0.0000,"'=cmd(), ""x""\"""",
        'c,1,A,1.0000,A(1.0000); B(0.0000)', 'd,,FAILED,0.0000,gone']
    assert not (tmp_path / 'test_set_labels.csv').exists()
    writers.write_results(tmp_path, results, submission=True, failed_class='B')
    assert (tmp_path / 'test_set_labels.csv').read_text() == 'a,B,2\nb,B,2\nc,A,1\nd,B,2\n'


def test_nothing_stays_that_is_of_other_scores(tmp_path):
    results = Results(['a'], [[1., 0.]], ['A', 'B'], [0])
    writers.write_results(tmp_path, results, dict(errors={}))
    assert (tmp_path / 'metrics.json').is_file()
    assert (tmp_path / 'analysis.json').is_file()
    (tmp_path / 'report.html').touch()
    nothing = Results([], np.zeros((0, 2)), ['A', 'B'], failed={'a': 'gone'})
    assert writers.write_results(tmp_path, nothing) == dict(num_videos=0, num_failed=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        'predictions.csv', 'scores.npz']


def test_labelled_results(tmp_path):
    results = Results([f'v{i:02}' for i in range(30)], np.eye(30)[::-1], HRI30_CLASSES,
                      np.arange(30)[::-1])
    writers.write_results(tmp_path, results)
    assert json.loads((tmp_path / 'metrics.json').read_text())['top1'] == 1
    picture = (tmp_path / 'confusion_matrix.png').read_bytes()
    assert picture.startswith(b'\x89PNG') and len(picture) > 20_000
    writers.write_results(tmp_path, results)
    assert (tmp_path / 'confusion_matrix.png').read_bytes() == picture
