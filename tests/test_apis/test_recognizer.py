"""One recognizer: names, batches, mistakes, and the scores of tools/test.sh."""

import numpy as np
import pytest
from brightness import make_recognizer
from conftest import DEMO_CONFIG, random_checkpoint

from hri30_ext.apis.recognizer import Prediction, Recognizer
from hri30_ext.apis.testing import prepare, run_split
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import write_video

LSTM = str(next((PROJECT_ROOT / 'configs' / 'cnn_lstm').glob('*.py')))


def clip_of(brightness, frames=9):
    return np.full((frames, 12, 20, 3), brightness, np.uint8)


def write_clip(path, brightness):
    write_video(np.full((9, 32, 32, 3), brightness, np.uint8), path)
    return path


def test_top_names_in_order():
    found = Prediction(('a', 'b', 'c', 'd'), np.array([.1, .4, .1, .4], np.float32))
    assert (found.class_name, found.label) == ('b', 1)
    assert [name for name, _ in found.top(3)] == ['b', 'd', 'a']
    assert found.top(1)[0][1] == found.score == pytest.approx(0.4)


def test_one_for_one_and_a_list_for_a_list(tmp_path):
    recognizer = make_recognizer()
    path = write_clip(tmp_path / 'clip ü.avi', 204)
    one = recognizer.predict(path)
    assert one.class_name == 'bright' and one.score == pytest.approx(0.8, abs=0.01)
    assert one.scores.dtype == np.float32
    found = recognizer.predict([clip_of(0), str(path), clip_of(51)])
    assert [item.class_name for item in found] == ['dark', 'bright', 'dark']
    np.testing.assert_allclose(found[2].scores, [0.8, 0.2], atol=1e-6)
    assert recognizer.predict([]) == []
    assert [item.label for item in recognizer.predict(
        clip for clip in [clip_of(0), clip_of(255)])] == [0, 1]


def test_batches_are_filled_across_clips():
    recognizer = make_recognizer(views=3)
    values = [0, 50, 100, 150, 200]
    found = recognizer.predict([clip_of(value) for value in values])
    assert recognizer.backend.batches == [6, 6, 3]  # 5 clips of 3 views, 8 at most
    np.testing.assert_allclose([item.scores[1] for item in found],
                               np.array(values) / 255, atol=1e-6)


def test_views_are_averaged_and_a_mirrored_clip_is_mapped_back():
    def side(clips_NTHWC):  # how bright the left and the right half are
        halves = [half.mean(axis=(1, 2, 3, 4)) / 255
                  for half in np.split(clips_NTHWC, 2, axis=3)]
        return np.stack(halves, axis=1).astype(np.float32)

    recognizer = make_recognizer(side)
    clip = clip_of(0)
    clip[:, :, :10] = 102
    np.testing.assert_allclose(recognizer.predict(clip).scores, [0.4, 0], atol=0.02)
    recognizer._mirrored = np.array([1, 0])
    np.testing.assert_allclose(recognizer.predict(clip).scores, [0.4, 0], atol=0.02)
    recognizer._mirrored = np.array([0, 1])  # and not, if it were not mapped
    np.testing.assert_allclose(recognizer.predict(clip).scores, [0.2, 0.2], atol=0.02)


@pytest.mark.parametrize('clip, words', [
    ('none.avi', 'no such file'),
    (np.zeros((5, 8, 8, 3), np.float32), 'float32'),
    (np.zeros((5, 8, 8), np.uint8), r'\(5, 8, 8\)'),
    (np.zeros((5, 3, 8, 8), np.uint8), r'\(5, 3, 8, 8\)'),
    (np.zeros((0, 8, 8, 3), np.uint8), 'with one frame or more'),
    (7, 'int'),
    ([clip_of(0), None], 'NoneType'),
])
def test_mistakes_are_told_before_any_work(clip, words):
    recognizer = make_recognizer()
    with pytest.raises(HRI30Error, match=words):
        recognizer.predict(clip)
    assert not recognizer.backend.batches or isinstance(clip, list)  # after those before


def test_files_that_are_no_whole_video(tmp_path):
    recognizer = make_recognizer()
    (tmp_path / 'text.avi').write_text('no video ' * 100)
    (tmp_path / 'empty.mp4').touch()
    for name in ('text.avi', 'empty.mp4'):
        with pytest.raises(HRI30Error, match=f'{name}.*\n?.*'):
            recognizer.predict(tmp_path / name)
    with pytest.raises(HRI30Error, match='empty.mp4: cannot be decoded'):
        recognizer.predict(tmp_path)
    whole = write_clip(tmp_path / 'whole.avi', 204)
    found = dict(recognizer.predict_files(sorted(tmp_path.iterdir())))
    assert [type(one).__name__ for one in found.values()] == [
        'ClipError', 'ClipError', 'Prediction']  # in order, though read before the last
    assert repr(found[str(whole)]) == 'Prediction(bright 0.8000, whole.avi)'


def test_a_folder_is_its_videos(tmp_path):
    for name, brightness in (('b.avi', 204), ('a.avi', 51)):
        write_clip(tmp_path / name, brightness)
    (tmp_path / 'notes.txt').touch()
    found = make_recognizer().predict(tmp_path)
    assert [(one.class_name, one.clip) for one in found] == [
        ('dark', str(tmp_path / 'a.avi')), ('bright', str(tmp_path / 'b.avi'))]


@pytest.mark.parametrize('config, extra, tolerance', [
    (DEMO_CONFIG, {}, 1e-5),
    (DEMO_CONFIG, {'test_clips': 3}, 1e-5),
    (DEMO_CONFIG, {'test_flip': True}, 1e-5),
    (DEMO_CONFIG, {'precision': 'bf16'}, 1e-3),  # 8 bits: sums differ with their order
    # A model of frames.
    pytest.param(LSTM, {'test_clips': 2, 'input_size': (64, 64)}, 1e-5,
                 marks=pytest.mark.slow),
])
def test_a_file_scores_as_in_testing(config, extra, tolerance, options, tmp_path):
    options = {**options, 'precision': 'fp32', **extra}
    checkpoint = random_checkpoint(config, options, tmp_path / 'random.pth')
    expected = run_split(prepare(config, checkpoint, dict(options)), 'val',
                         tmp_path / 'logs').results
    recognizer = Recognizer(config, checkpoint, device='cpu', options=dict(options))
    assert list(recognizer.classes) == list(expected.classes)
    found = recognizer.predict(expected.filenames)
    assert len(found) == 3
    np.testing.assert_allclose([item.scores for item in found], expected.scores_NK,
                               atol=tolerance)
    # Different clips have different scores: the comparison could fail.
    assert np.ptp(expected.scores_NK, axis=0).max() > 1e-4
