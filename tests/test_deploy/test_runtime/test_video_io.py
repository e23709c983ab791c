"""Frames in and out: files, cameras that go away, annotated video."""

import contextlib
import gc
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from clip_files import draw, write

from hri30_ext.deploy.runtime import video_io
from hri30_ext.deploy.runtime.video_io import CameraLost, FileSource, VideoWriter
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic.video import write_video
from hri30_ext.video.decode import Video


def write_file(path, frames, fps, first=0):
    """Frame i is of brightness ``first`` + 4 i."""
    write_video(np.stack([np.full((32, 48, 3), first + 4 * i, np.uint8)
                          for i in range(frames)]), path, 'mjpeg', fps)
    return path


def read_all(source):
    frames = list(iter(source.read, None))
    source.close()
    return frames


# ---- Files -------------------------------------------------------------------------------


def test_files_follow_each_other_at_their_own_rates(tmp_path):
    first = write_file(tmp_path / 'a ü.avi', 3, fps=10)
    second = write_file(tmp_path / 'b.avi', 2, fps=25, first=100)
    frames = read_all(video_io.open_source(str(tmp_path)))
    np.testing.assert_allclose([frame.time for frame in frames],
                               [0, 0.1, 0.2, 0.3, 0.34], atol=1e-6)
    assert [frame.clip for frame in frames] == [first.name] * 3 + [second.name] * 2
    np.testing.assert_allclose([frame.image.mean() for frame in frames],
                               [0, 4, 8, 100, 104], atol=1.5)


def test_uneven_times_of_a_container_are_kept(tmp_path):
    times = [500, 540, 590, 800, 810]  # milliseconds
    write(tmp_path / 'phone.mkv', draw(5, (48, 32), 0), times=times)
    found = [frame.time for frame in read_all(FileSource([tmp_path / 'phone.mkv']))]
    np.testing.assert_allclose(found, [0, 0.04, 0.09, 0.3, 0.31], atol=1e-3)


def test_frames_of_a_stream_are_those_of_training(tmp_path):
    """De-interlaced, at their times."""
    write(tmp_path / 'dv.avi', draw(4, (720, 480), 0), 'dvvideo', Fraction(30000, 1001),
          'yuv411p')
    frames = read_all(FileSource([tmp_path / 'dv.avi']))
    np.testing.assert_allclose([frame.time for frame in frames],
                               np.arange(4) * 1001 / 30000, atol=1e-3)
    np.testing.assert_array_equal([frame.image for frame in frames],
                                  Video(tmp_path / 'dv.avi').read_all())


def test_a_loop_plays_again_and_time_goes_on(tmp_path):
    source = FileSource([write_file(tmp_path / 'a.avi', 3, fps=10)], loop=True)
    frames = [source.read() for _ in range(7)]
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(7) / 10,
                               atol=1e-6)
    assert [frame.file for frame in frames] == [1, 1, 1, 2, 2, 2, 3]
    gc.collect()
    gc.disable()  # PyAV's frames may be garbage that waits for it
    try:
        frames = [source.read().file for _ in range(60)]
        kept = [one for one in gc.get_objects() if type(one) is av.VideoFrame]
    finally:
        gc.enable()
    assert frames[-1] == 23 and len(kept) < 5
    source.stop()
    assert source.read() is None


def test_at_its_own_pace_a_file_can_be_stopped_while_it_waits(tmp_path):
    source = FileSource([write_file(tmp_path / 'slow.avi', 3, fps=1)], realtime=True)
    assert source.live and source.read().time == 0
    threading.Timer(0.05, source.stop).start()
    assert source.read() is None


@pytest.mark.parametrize('name, words', [
    ('none.avi', 'no such file'), ('text.avi', 'cannot be decoded'),
    ('folder', 'no videos'), ('/dev/null', 'cannot be opened')])
def test_sources_that_are_none(name, words, tmp_path):
    (tmp_path / 'text.avi').write_text('no video')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(HRI30Error, match=words):
        video_io.open_source(str(tmp_path / name))


# ---- Cameras -----------------------------------------------------------------------------


def camera_of(monkeypatch, *openings, retries=3):
    """A camera whose n-th opening gives that many frames; None: it cannot be opened."""
    openings, notes = iter(openings), []

    def open_camera(target):
        count = next(openings)
        if count is None:
            raise HRI30Error(target)
        frames = [(np.zeros((8, 8, 3), np.uint8), None)] * count
        return SimpleNamespace(fps=0., frames=lambda: (frame for frame in frames))

    monkeypatch.setattr(video_io, 'CameraDecoder', open_camera)
    source = video_io.CameraSource(
        'rtsp://user:an@secret@camera/1', retries, delay=0,
        notify=lambda kind, message: notes.append((kind, message)))
    return source, notes


def test_a_camera_that_comes_back_goes_on(monkeypatch):
    source, notes = camera_of(monkeypatch, 3, None, 0, 2, None, None, None)
    frames = [source.read() for _ in range(5)]
    assert all(frame.image.shape == (8, 8, 3) for frame in frames)
    times = [frame.time for frame in frames]
    assert times[0] == 0 and times == sorted(times)
    assert [kind for kind, _ in notes] == ['lost', 'retry', 'retry', 'retry', 'back']
    # The tries start again, and end.
    with pytest.raises(CameraLost, match='3 tries'):
        source.read()
    assert [kind for kind, _ in notes[5:]] == ['lost', 'retry', 'retry', 'retry']
    assert not any('secret' in message or 'user' in message for _, message in notes)


def test_a_camera_that_is_not_there_is_no_lost_camera(monkeypatch):
    with pytest.raises(HRI30Error, match='cannot be opened') as caught:
        camera_of(monkeypatch, None)
    assert not isinstance(caught.value, CameraLost) and 'secret' not in str(caught.value)


def test_each_try_waits_twice_as_long(monkeypatch):
    source, _ = camera_of(monkeypatch, 1, *[None] * 9, retries=9)
    source._delay, waits = 0.5, []
    monkeypatch.setattr(source._stopped, 'wait', lambda seconds: waits.append(seconds))
    source.read()
    with pytest.raises(CameraLost):
        source.read()
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_stopped_camera_is_not_tried_again(monkeypatch):
    source, notes = camera_of(monkeypatch, 2, 1)
    assert source.read() is not None
    source.stop()
    assert source.read() is None and notes == []
    source.close()  # and released
    assert next(source._images, None) is None


# ---- Annotated video ---------------------------------------------------------------------


def prediction(score, state='Walking'):
    return SimpleNamespace(state=state, latency_ms=12.3,
                           top=(('Walking', score), ('PickUpDrill', 0.1)))


@pytest.mark.parametrize('size', [(480, 720), (64, 64), (1080, 1920)])
def test_frames_of_any_size_are_annotated(size):
    plain = np.full((*size, 3), 200, np.uint8)
    for latest in (None, prediction(0.9), prediction(0.3, 'unsure')):
        drawn = video_io.annotate(plain, latest, dropped=7, note='5 a second')
        assert drawn.shape == plain.shape and drawn.dtype == np.uint8
        assert (drawn != plain).any() and (plain == 200).all()  # drawn on a copy


def test_video_keeps_the_pace_of_its_frames(tmp_path):
    path = tmp_path / 'new folder' / 'out.mp4'
    writer = VideoWriter(path, fps=10)
    # A tenth of a second apart; then three frames were lost; then twice as fast; then a
    # pause that is cut to two seconds.
    for time in (5.0, 5.1, 5.5, 5.55, 5.6, 65.6):
        writer.write(np.full((32, 48, 3), 128, np.uint8), time)
    assert not path.exists()
    writer.close()
    capture = cv2.VideoCapture(str(path))
    assert sum(iter(capture.grab, False)) == 1 + 1 + 4 + 1 + 20
    assert [file.name for file in path.parent.iterdir()] == ['out.mp4']


def test_a_video_without_frames_is_none(tmp_path):
    VideoWriter(tmp_path / 'out.avi', fps=10).close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(HRI30Error, match=r'\.mp4 or \.avi'):
        VideoWriter(tmp_path / 'out.gif', fps=10)
    (tmp_path / 'file').touch()
    with pytest.raises(HRI30Error, match='cannot be written'):
        VideoWriter(tmp_path / 'file' / 'out.mp4', fps=10)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    (tmp_path / '.out-part.avi').symlink_to('/dev/full')
    images = np.random.default_rng(0).integers(0, 256, (99, 64, 96, 3), np.uint8)
    # A rate of phones, whose numerator is too large for MPEG-4.
    with pytest.raises(HRI30Error, match='out.avi: cannot be written .No space'), \
            contextlib.closing(VideoWriter(tmp_path / 'out.avi', 120e3 / 1001)) as writer:
        for k, image in enumerate(images):
            writer.write(image, k / 119)
    assert not list(tmp_path.iterdir())
