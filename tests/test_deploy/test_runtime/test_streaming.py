"""Streams: frames by time, features once a frame, and actions without flicker."""

import threading
import time as clock
from types import SimpleNamespace

import numpy as np
import pytest

from hri30_ext.deploy.runtime.recognizer import ClipRecognizer
from hri30_ext.deploy.runtime.streaming import (
    FrameQueue,
    Hysteresis,
    Smoother,
    Stream,
    StreamSettings,
    recognize,
)
from hri30_ext.deploy.runtime.video_io import Frame
from hri30_ext.errors import HRI30Error
from hri30_ext.video.preprocessing import Preprocessing, Resize

# Four frames over 1.6 s: one each 0.4 s.
INFO = SimpleNamespace(
    classes=('dark', 'bright'), temperature=None, sets=None, open_set=None,
    window_seconds=1.6,
    preprocessing=Preprocessing(4, 1, 'uniform', (Resize(8, 4), )))
# A prediction is an event as it is; no action begins.
PLAIN = dict(smooth_seconds=0, min_seconds=0, predictions=True, enter=1, leave=1)


class Clips:
    """A backend that remembers the clips it saw, as the brightness of their frames.

    ``bright`` is the mean brightness, weighted by the position in the clip.
    """

    weights_T = np.array([1, 2, 3, 4]) / 10

    def __init__(self, splittable=False):
        self.splittable = splittable
        self.clips, self.frames = [], 0

    def __call__(self, clips_NTHWC):
        self.frames += len(clips_NTHWC[0])
        return self._scores(clips_NTHWC.mean(axis=(2, 3, 4)))

    def frame_features(self, frames_MHWC):
        self.frames += len(frames_MHWC)
        return frames_MHWC.mean(axis=(1, 2, 3))[:, None, None, None].astype(np.float32)

    def clip_scores(self, features_NTCHW):
        return self._scores(features_NTCHW[..., 0, 0, 0])

    def _scores(self, values_NT):
        self.clips.append(np.round(values_NT[0]).astype(int).tolist())
        bright_N = values_NT @ self.weights_T / 255
        return np.stack([1 - bright_N, bright_N], axis=1).astype(np.float32)


def image(value):
    return np.full((8, 16, 3), value, np.uint8)


def stream_of(backend=None, info=INFO, **settings):
    return Stream(info, backend or Clips(), StreamSettings.create(**settings))


def info_with(**changes):
    return SimpleNamespace(**{**vars(INFO), **changes})


def play(stream, times, value=lambda time: round(time * 50)):
    """Pushes a frame a time, whose brightness tells the time; returns the events."""
    return [event for time in times for event in stream.push(image(value(time)), time)]


def always(value):
    return lambda time: value


# ---- Which frames ------------------------------------------------------------------------


@pytest.mark.parametrize('fps, begin', [(15, 0), (30, 1.7e9), (60, 0), (240, 0)])
def test_a_camera_of_any_rate_and_clock_shows_the_same_frames(fps, begin):
    backend = Clips()
    play(stream_of(backend), begin + np.arange(2.5 * fps) / fps,
         value=lambda time: round((time - begin) * 50))
    # 0, 0.4, 0.8 and 1.2 s; and so on, 0.4 s later.
    assert backend.clips == [[0, 20, 40, 60], [20, 40, 60, 80], [40, 60, 80, 100],
                             [60, 80, 100, 120]]


def nearest(times, targets):
    """Looks at all frames, and takes the earlier of two that are as near."""
    distances = np.abs(np.asarray(times)[None] - np.asarray(targets)[:, None])
    return np.round(distances, 9).argmin(axis=1)


@pytest.mark.parametrize('hop', [0.2, 0.4, 0.8, 0.3, 0.37])
@pytest.mark.parametrize('fps', [9, 25, 30])
def test_frames_are_the_nearest_of_all_whatever_the_hop(hop, fps):
    rng = np.random.default_rng(0)
    times = np.arange(6 * fps) / fps + rng.uniform(-0.4, 0.4, 6 * fps) / fps
    backend = Clips(splittable=True)
    number = dict(zip(times, range(len(times))))
    play(stream_of(backend, hop=hop), times, value=number.get)
    anchors = times[0] + 1.2 + hop * np.arange(100)
    expected = [nearest(times, anchor + np.array([-1.2, -0.8, -0.4, 0])).tolist()
                for anchor in anchors if anchor <= times[-1]]
    if hop > 1 / fps * 1.8:  # otherwise a frame may pass two times at once
        assert backend.clips == expected
    else:
        assert set(map(tuple, backend.clips)) <= set(map(tuple, expected))
    assert backend.frames == len(set(sum(backend.clips, [])))  # each is computed once


def test_every_n_frames_the_window_ends_at_that_frame():
    times = np.arange(120) / 30
    backend = Clips()
    play(stream_of(backend, every=7), times, value=lambda time: round(time * 30))
    ends = range(36, 120, 7)  # 36 frames are 1.2 s
    assert backend.clips == [[end - 36, end - 24, end - 12, end] for end in ends]


@pytest.mark.parametrize('settings', [{}, dict(hop=0.1), dict(every=100)])
def test_memory_is_bounded_whatever_the_rate(settings):
    stream = stream_of(Clips(splittable=True), **settings)
    sizes = []
    for time in np.arange(12_000) / 4000:
        stream.push(image(0), time)
        sizes.append(len(stream._frames))
    # 64 frames for each of three intervals, one before them, and the newest.
    assert max(sizes) <= 3 * 64 + 2


@pytest.mark.parametrize('sampling, window, hop', [
    ((8, 1, 'uniform'), 1.5, 0.1875), ((32, 1, 'uniform'), 1.6, 0.15),  # 3 of 0.05 s
    ((8, 1, 'interval'), 1.5, 4 / 30), ((1, 1, 'uniform'), 1.5, 1 / 6)])
def test_predictions_come_about_six_times_a_second(sampling, window, hop):
    info = info_with(preprocessing=Preprocessing(
        *sampling, (Resize(8, 4), ), 4 if 'interval' in sampling else None))
    assert stream_of(info=info, window_seconds=window).hop == pytest.approx(hop, abs=1e-6)


# ---- Features once a frame ---------------------------------------------------------------


@pytest.mark.parametrize('intervals, first, new', [
    (1, 4, 1), (2, 4, 2), (4, 4, 4), (6, 4, 4),
    # Of two windows half an interval apart, none of the frames is in both.
    (0.5, 7, 1)])
def test_a_frame_is_computed_once(intervals, first, new):
    reused, anew = Clips(splittable=True), Clips(splittable=False)
    events, others = (
        play(stream_of(backend, **PLAIN, hop=intervals * 0.4),
             np.arange(300) / 30, value=lambda time: round(time * 20))
        for backend in (reused, anew))
    assert len(events) == len(others) > 3
    np.testing.assert_allclose([event.score for event in events],
                               [event.score for event in others], atol=1e-5)
    assert anew.frames == 4 * len(others)
    assert reused.frames == first + new * (len(events) - 1)


# ---- From scores to actions --------------------------------------------------------------


def test_the_temperature_of_the_model_is_used():
    stream = stream_of(info=info_with(temperature=0.5), **PLAIN)
    event = play(stream, np.arange(37) / 30, value=always(204))[-1]
    assert event.score == pytest.approx(0.8 ** 2 / (0.8 ** 2 + 0.2 ** 2), abs=1e-6)


def test_smoothing_by_hand():
    exponential = Smoother(2.0)
    assert exponential.update(0, np.array([1.0]))[0] == 1
    half = 2 * np.log(2)  # after which a half is left
    assert exponential.update(half, np.array([0.0]))[0] == pytest.approx(0.5)
    assert exponential.update(3 * half, np.array([0.0]))[0] == pytest.approx(0.125)
    plain = Smoother(0)
    assert [plain.update(time, np.array([time]))[0] for time in (0, 1)] == [0, 1]


def decide(rows, **settings):
    """Returns time, kind, label, begin and reason of what begins and ends."""
    hysteresis = Hysteresis(**settings)
    return [(time, *change) for time, *scores in rows
            for change in hysteresis.update(time, np.array(scores))]


def test_between_the_thresholds_what_was_goes_on():
    scores = [0.5, 0.59, 0.6, 0.45, 0.59, 0.41, 0.39]
    assert decide([(time, score, 1 - score) for time, score in enumerate(scores)],
                  enter=0.6, leave=0.4, min_seconds=0) == [
        (2, 'start', 0, 2, None),
        # Below 0.4, and the other one is above 0.6.
        (6, 'end', 0, 2, 'below'), (6, 'start', 1, 6, None)]


def test_another_class_takes_over_only_when_it_is_sure_for_long():
    rows = [(0, .5, .2), (1, .5, .2), (2, .35, .4), (3, .45, .35), (4, .3, .45),
            (5, .3, .45), (6, .3, .1), (7, .29, .28)]
    assert decide(rows, enter=0.3, leave=0.2, min_seconds=1) == [
        (1, 'start', 0, 0, None), (5, 'end', 0, 0, 'replaced'), (5, 'start', 1, 4, None),
        (6, 'end', 1, 4, 'below')]


# ---- Events ------------------------------------------------------------------------------


def test_an_action_begins_and_ends():
    stream = stream_of(hop=0.2, min_seconds=0.4, smooth_seconds=0, enter=0.75, leave=0.7)
    events = play(stream, np.arange(240) / 30,
                  value=lambda time: 255 if 3 <= time < 5 else 128)
    kinds = [(event.event, event.class_name, event.reason) for event in events]
    assert kinds == [('start', 'bright', None), ('end', 'bright', 'below')]
    start, end = events
    # 0.5 before; 0.7 with the newest sample, 0.85 with two, 0.95 with three.
    assert start.start == pytest.approx(3.4) and start.time == pytest.approx(3.8)
    assert end.start == start.start and end.end == end.time
    # 0.8 without the newest, 0.65 without two.
    assert end.time == pytest.approx(5.4)
    assert start.score == pytest.approx(0.95, abs=0.01) and start.latency_ms > 0
    assert stream.close() == []


def test_a_stream_that_ends_ends_its_action():
    stream = stream_of(smooth_seconds=0, min_seconds=0)
    play(stream, np.arange(45) / 30, value=always(255))
    assert stream.latest.state == 'bright'
    ended, = stream.close()
    assert (ended.event, ended.reason, ended.end) == ('end', 'closed', 44 / 30)
    assert stream.close() == []
    with pytest.raises(HRI30Error, match='after close'):
        stream.push(image(0), 9)


def test_unsure_is_told_as_such():
    event = play(stream_of(**PLAIN), np.arange(37) / 30, value=always(204))[-1]
    content = event.to_json()
    assert content.pop('latency_ms') > 0
    assert content == {
        'event': 'prediction', 'time': 1.2, 'class': 'bright', 'score': 0.8,
        'state': 'unsure', 'dropped': 0, 'top': [['bright', 0.8], ['dark', 0.2]]}


@pytest.mark.parametrize('later, reason', [(0.5, 'back'), (4.0, 'gap')])
def test_a_jump_in_time_begins_anew(later, reason):
    backend = Clips(splittable=True)
    stream = stream_of(backend, smooth_seconds=0, min_seconds=0)
    play(stream, np.arange(60) / 30, value=always(255))
    seen = len(backend.clips)
    events = stream.push(image(255), later)
    assert [event.event for event in events] == ['end', 'reset']
    assert (events[0].reason, events[0].end) == ('reset', 59 / 30)
    assert (events[1].reason, events[1].time) == (reason, later)
    assert stream.latest is None
    events = play(stream, later + np.arange(1, 36) / 30, value=always(255))
    assert not events and len(backend.clips) == seen  # no window is full yet
    assert [event.event for event in stream.push(image(255), later + 1.2)] == ['start']
    assert backend.clips[-1] == [255] * 4


def test_a_gap_within_a_window_and_a_repeated_frame_are_none():
    stream = stream_of(smooth_seconds=0, min_seconds=0)
    events = play(stream, [0, 1.5, 1.5, 3.0])
    assert 'reset' not in [event.event for event in events]
    assert stream.predictions == 2 and stream.latest.time == 3.0


def test_the_array_may_be_written_again():
    # Of the size that the model takes: nothing is left to resize, and to copy by that.
    # And at a rate at which the frame before is often the nearest.
    backend, buffer = Clips(), np.zeros((4, 8, 3), np.uint8)
    stream = stream_of(backend)
    for number in range(20):
        buffer[:] = number
        stream.push(buffer, number * 0.09)
    assert backend.clips == [[0, 4, 9, 13], [4, 9, 13, 18]]


def test_a_due_prediction_waits_for_frames_that_are_there():
    backend = Clips()
    stream = stream_of(backend, **PLAIN)
    times = np.arange(50) / 30
    play(stream, times[:36])
    assert stream.push(image(60), times[36], more=True) == []
    assert stream.push(image(62), times[37], more=True) == []
    event, = stream.push(image(63), times[38])
    assert event.time == times[38] and backend.clips == [[0, 20, 40, 60]]
    # What is overdue by then is not made up for: 1.6 s is left out.
    rest = [stream.push(image(round(time * 50)), time, more=time < 1.99)
            for time in np.arange(39, 61) / 30]
    assert [bool(events) for events in rest] == [False] * 21 + [True]
    assert backend.clips[-1] == [40, 60, 80, 100]


def test_the_frames_of_a_prediction_that_waits_are_not_forgotten():
    backend = Clips()
    stream = stream_of(backend, hop=0.8)
    for time in np.arange(52) / 30:
        stream.push(image(round(time * 50)), time, more=time < 1.69)
    assert backend.clips == [[0, 20, 40, 60]]  # at 1.7 s, and of 0 to 1.2 s


# From the frame that was waited for; but what is overdue counts in no latency.
@pytest.mark.parametrize('waited, time, seconds', [(2, 1.3, 2), (5, 1.6, 1)])
def test_latency(waited, time, seconds):
    stream = stream_of(**PLAIN)
    play(stream, np.arange(36) / 30, value=always(128))
    now = clock.monotonic()
    stream.push(image(128), 1.2, captured=now - waited, more=True)
    event, = stream.push(image(128), time, captured=now - 1)
    assert 1000 * seconds <= event.latency_ms < 1000 * seconds + 1900


@pytest.mark.parametrize('settings, words', [
    (dict(hop=0), r'\.hop'), (dict(hop=float('nan')), r'\.hop'),
    (dict(every=0), r'\.every'), (dict(every=True), r'\.every'),
    (dict(every=2, hop=1), 'every and hop'), (dict(enter=0.3, leave=0.5), 'leave=0.5'),
    (dict(enter=1.5), r'\.enter'), (dict(smooth_seconds='long'), r'\.smooth_seconds'),
    (dict(min_seconds=-1), r'\.min_seconds'), (dict(window='1 s'), '`window`'),
    (dict(window_seconds='1'), r'\.window_seconds')])
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(HRI30Error, match=words):
        ClipRecognizer(INFO, Clips()).stream(**settings)


def test_a_model_without_a_window_asks_for_one():
    info = info_with(window_seconds=None)
    with pytest.raises(HRI30Error, match='window_seconds'):
        stream_of(info=info)
    assert stream_of(info=info, window_seconds=2.0).hop == 0.5


@pytest.mark.parametrize('frame, time, words', [
    (np.zeros((8, 8), np.uint8), 0, 'RGB'), (image(0).astype(float), 0, 'uint8'),
    (image(0), float('nan'), 'timestamp'), (image(0), None, 'timestamp')])
def test_what_is_no_frame_is_refused(frame, time, words):
    with pytest.raises(HRI30Error, match=words):
        stream_of().push(frame, time)


# ---- Frames that come faster than they are used ------------------------------------------


class Burst:
    """A live source of frames that all come while the first one is being looked at."""

    live = True

    def __init__(self, count, error=None):
        self.left, self.count, self.error = count, count, error
        self.begun, self.sent = threading.Event(), threading.Event()
        self.stopped = self.closed = False

    def read(self):
        if self.left == self.count - 1:
            self.begun.wait()
        if self.stopped or not self.left:
            self.sent.set()
            if self.error and not self.stopped:
                raise self.error
            return None
        self.left -= 1
        time = (self.count - self.left) / 30
        return Frame(image(255), time, clock.monotonic())

    def stop(self):
        self.stopped = True
        self.begun.set()

    def close(self):
        self.closed = True


def use(source, stream, size):
    """Uses all frames; the first one takes until all others have come."""
    frames, found = 0, []
    for frame, events in recognize(source, stream, FrameQueue(size, live=True)):
        frames += frame is not None
        found += events
        if frames == 1:
            source.begun.set()
            source.sent.wait()
    return frames, found


def test_no_frame_is_lost_without_being_counted():
    source, stream = Burst(100), stream_of(smooth_seconds=0, min_seconds=0)
    frames, events = use(source, stream, 40)
    assert (frames, stream.frames, stream.dropped) == (41, 41, 59)
    assert source.closed
    # 40 frames are 1.33 s; before them, 2 s are missing, which is more than a window.
    assert [event.event for event in events] == ['reset', 'start', 'end']
    assert events[-1].dropped == 59


def test_a_backlog_is_used_up_before_the_next_prediction():
    _, events = use(Burst(60), stream_of(smooth_seconds=0, predictions=True), 100)
    # All frames are there before the second one is used: 1.2 s and 1.6 s wait.
    found = [event for event in events if event.event == 'prediction']
    assert len(found) == 1 and found[0].time == 60 / 30


def test_frames_that_always_wait_do_not_hold_predictions_back_for_ever():
    source, stream, queue = Burst(60), stream_of(), FrameQueue(100, live=True)
    for _ in recognize(source, stream, queue):
        source.begun.set()
        source.sent.wait()
        queue.size = 5  # of the 60 that wait, 5 in a row
    # Frames are of 0.03 to 2 s: windows end at 1.23 and 1.63 s.
    assert stream.predictions == 2


def test_a_source_that_fails_ends_the_stream_first():
    source = Burst(60, HRI30Error('went away'))
    stream = stream_of(smooth_seconds=0, min_seconds=0)
    found = []
    with pytest.raises(HRI30Error, match='went away'):
        for _, events in recognize(source, stream, FrameQueue(100, live=True)):
            source.begun.set()
            found += events
    assert [(event.event, event.reason) for event in found] == [
        ('start', None), ('end', 'closed')]


class Files:
    """Files of some frames each, 30 a second."""

    live = False

    def __init__(self, *lengths):
        self.frames = iter([
            Frame(image(200), time / 30, 0., 'same.avi', file) for time, file in enumerate(
                k + 1 for k, length in enumerate(lengths) for _ in range(length))])

    def read(self):
        return next(self.frames, None)

    def stop(self):
        pass

    close = stop


def test_every_file_is_a_stream_of_its_own_and_none_is_too_short():
    backend = Clips()
    stream = stream_of(backend, min_seconds=0.4, enter=0.7, leave=0.6)
    found = [(event.event, event.class_name, event.reason, round(30 * event.time),
              event.start and round(30 * event.start))
             for _, events in recognize(Files(10, 60, 1), stream, FrameQueue(16, False))
             for event in events]
    # 10 frames and 1 fill no window: they are predicted at their end, as clips.
    assert found == [
        ('start', 'bright', None, 9, 0), ('end', 'bright', 'reset', 9, 0),
        ('reset', None, 'file', 9, None), ('start', 'bright', None, 58, 46),
        ('end', 'bright', 'reset', 69, 46), ('reset', None, 'file', 69, None),
        ('start', 'bright', None, 70, 70), ('end', 'bright', 'closed', 70, 70)]
    assert len(backend.clips) == stream.predictions == 4


def test_a_short_file_is_scored_as_a_clip():
    stream, clips = stream_of(Clips(), predictions=True), Clips()
    frames = [image(25 * k) for k in range(10)]
    for k, frame in enumerate(frames):
        assert stream.push(frame, k / 30) == []
    assert '10 frames do not fill a window of 1.60 s' in stream.why_no_prediction()
    event, reset = stream.end_clip()
    expected_K = ClipRecognizer(INFO, clips).predict(np.stack(frames)).scores
    assert clips.clips == stream._backend.clips and reset.reason == 'file'
    assert event.score == pytest.approx(expected_K.max(), abs=1e-6)
    assert stream.end_clip() == [] == stream.close(clip_ended=True)
    assert stream.why_no_prediction() is None
    assert stream_of().why_no_prediction() == 'no prediction: there was no frame'


def test_a_runner_can_be_stopped():
    source, queue, frames = Burst(1000), FrameQueue(16, live=True), 0
    for _ in recognize(source, stream_of(), queue):
        frames += 1
        queue.stop()
    assert frames == 1 and source.closed
