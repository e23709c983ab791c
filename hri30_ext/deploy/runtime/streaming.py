"""Recognizes actions in a stream of frames, by time and in bounded memory.

Shapes: T frames of a window, N frames in a row, H height, W width, C channels, K classes.
Times are in seconds. Those of frames are on the clock of the stream, which starts anywhere;
latencies are on the clock of this machine.

**Frames.** A model was trained on frames a certain time apart. From a camera of any rate,
the stream takes the frames nearest to those times, counted back from the newest sample of
the window. Predictions come every ``hop`` seconds or every n frames. A frame in several
windows passes the stages of the model without temporal kernels once.

**Events** are one JSON object a line, :meth:`Event.to_json`:

============== ==========================================================================
``event``      ``start``, ``end``: an action begins, ends. ``prediction``: one for each, on
               request. ``reset``: the time jumped or a file ended; the stream starts again
``time``       of the frame that caused it, stream time
``class``      ``start``, ``end``: the action. ``prediction``: the best class
``score``      its score in [0, 1], calibrated if the model has a temperature, smoothed
``start``      when the action was first above the upper threshold (``start``, ``end``)
``end``        when it fell below the lower one, or another replaced it (``end``)
``reason``     ``end``: ``below``, ``replaced``, ``reset``, ``closed``. ``reset``:
               ``back``, ``gap``, ``file``
``state``      ``prediction``: the action in progress, or ``unsure``
``unknown``    ``prediction``: whether the window seems to show no class, if the model can
               tell; then no action begins, and one in progress soon ends
``top``        ``prediction``: names and scores of the five best classes, best first
``latency_ms`` from the capture of the frame that caused the prediction to its end
``dropped``    frames dropped so far because they came faster than they were used
============== ==========================================================================

``hri30 stream`` adds ``{"event": "camera", "state": "lost" | "retry" | "back",
"message": ...}`` and, as the last line, ``{"event": "summary", ...}``: see
:mod:`~hri30_ext.deploy.runtime.live`.

A prediction describes a window, so events lag by about half a window, the smoothing and
the minimum duration. A file shorter than a window is predicted at its end, as a clip.
"""

import contextlib
import math
import queue
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ...errors import HRI30Error
from ...video.preprocessing import check_frame
from .certainty import apply_temperature, is_unknown

#: State while no class is sure.
UNSURE = 'unsure'

_HOP = 1 / 6  # seconds between predictions, about
_SAME = 1e-6  # times closer than these seconds are equal
# Frames kept between two samples of a window: bounds memory whatever the rate.
_FRAMES_PER_SAMPLE = 64
# Latencies in the summary: the last ones, so that days of streaming fit in memory.
_LATENCIES = 10_000
_POLL = .05  # seconds after which a queue notices its end

_Window = Annotated[float, Meta(ge=0.001, le=3600)]
_Seconds = Annotated[float, Meta(ge=0, le=3600)]
_Score = Annotated[float, Meta(ge=0, le=1)]


# ---- Settings and events ----------------------------------------------------------------


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a stream, times in seconds; :meth:`create` checks them."""
    # Length of the window; None: the median length of the training clips, which is stored
    # with the model.
    window_seconds: _Window | None = None
    # Between predictions; None: 1/6, rounded to a multiple of the time between samples.
    hop: _Window | None = None
    every: Annotated[int, Meta(ge=1)] | None = None  # instead: a prediction every n frames
    smooth_seconds: _Seconds = 0.4  # in which the weight of a prediction falls to 1/e
    enter: _Score = 0.6  # smoothed score at which an action begins
    leave: _Score = 0.4  # below it an action ends; in between, the state does not change
    min_seconds: _Seconds = 0.3  # how long a class stays above enter before it starts
    predictions: bool = False  # whether every prediction is an event too

    @classmethod
    def create(cls, **settings) -> 'StreamSettings':
        """Creates settings from names and values.

        Raises:
            HRI30Error: an unknown name, or a value out of range.
        """
        try:
            return msgspec.convert(settings, cls)
        except msgspec.ValidationError as error:
            raise HRI30Error(f'stream: {error}.\nSettings: '
                             f'{", ".join(cls.__struct_fields__)}.') from error

    def __post_init__(self) -> None:
        if self.every and self.hop:
            raise ValueError('every and hop are both set, expected one')
        if self.leave > self.enter:
            raise ValueError(f'leave={self.leave}, expected at most enter={self.enter}')


class Event(msgspec.Struct, frozen=True, omit_defaults=True,
            rename={'class_name': 'class'}):
    """An event; the fields are in the table at the top of this file."""
    event: str
    time: float
    class_name: str | None = None
    score: float | None = None
    start: float | None = None
    end: float | None = None
    reason: str | None = None
    state: str | None = None
    unknown: bool | None = None
    top: list[tuple[str, float]] | None = None
    latency_ms: float | None = None
    dropped: int | None = None

    def to_json(self) -> dict:
        """Returns numbers, strings and lists, for one line of JSON; no None."""
        content = {name: round(value, 4) if isinstance(value, float) else value
                   for name, value in msgspec.to_builtins(self).items()}
        if self.top is not None:
            content['top'] = [[name, round(score, 4)] for name, score in self.top]
        return content


@dataclass(eq=False, slots=True)
class TimedFrame:
    """A frame of a window: its time, its image for the model, and what came of it."""
    time: float
    image: np.ndarray  # uint8 RGB, (H, W, 3)
    features: np.ndarray | None = None  # (C, H, W), once they were computed


# ---- From predictions to actions ---------------------------------------------------------


class Smoother:
    """Averages scores over time, with weights that fall to 1/e in ``seconds``; 0: none."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last: tuple[float, np.ndarray] | None = None

    def update(self, time: float, scores_xK: np.ndarray) -> np.ndarray:
        """Adds the scores of a prediction, (..., K), and returns the smoothed ones."""
        if self._last and self.seconds:
            before, smoothed_xK = self._last
            share = math.exp((before - time) / self.seconds)
            scores_xK = share * smoothed_xK + (1 - share) * scores_xK
        self._last = (time, scores_xK)
        return scores_xK


class Hysteresis:
    """Decides which action is in progress, so that scores near a threshold do not flicker.

    A class begins once it was the best, at ``enter`` or above, for ``min_seconds``. It goes
    on until its score is below ``leave``, or another class begins.

    ``active`` is the label of the action in progress, and when it began; None: unsure.
    """

    def __init__(self, enter: float, leave: float, min_seconds: float) -> None:
        self.enter, self.leave, self.min_seconds = enter, leave, min_seconds
        self.active: tuple[int, float] | None = None
        self._candidate: tuple[int, float] | None = None

    def update(self, time: float, scores_K: np.ndarray, unknown: bool | None = None
               ) -> list[tuple]:
        """Adds smoothed scores, (K, ), with which nothing begins if they are ``unknown``.

        Returns nothing, an end, a start, or both in this order: ``end`` or ``start``, the
        label, when the action began, and why it ended.
        """
        changes = []
        if self.active and scores_K[self.active[0]] < self.leave:
            changes += self.stop('below')
        best = int(np.argmax(scores_K))
        if unknown or scores_K[best] < self.enter or (
                self.active and best == self.active[0]):
            self._candidate = None
            return changes
        if not self._candidate or self._candidate[0] != best:
            self._candidate = (best, time)
        if time - self._candidate[1] >= self.min_seconds - _SAME:
            changes += self.stop('replaced')
            self.active, self._candidate = self._candidate, None
            changes.append(('start', *self.active, None))
        return changes

    def stop(self, reason: str) -> list[tuple]:
        """Ends the action in progress, if there is one."""
        if not self.active:
            return []
        (label, start), self.active = self.active, None
        return [('end', label, start, reason)]


# ---- The stream --------------------------------------------------------------------------


class Stream:
    """Takes frames one by one and returns events. For one thread at a time.

    Args:
        info: Of the model, see :class:`~hri30_ext.deploy.runtime.exported.ModelInfo`.
        backend (Callable): Of the model, a
            :class:`~hri30_ext.deploy.runtime.backends.Backend`.

    Attributes:
        frames, predictions (int): So far.
        dropped (int): Frames dropped before they came here; set by the caller that drops
            them, for the events.
        latest (Event | None): The last prediction, as an event.
        scores_K (np.ndarray | None): Its scores, smoothed, (K, ).
        hop (float | None): Seconds between predictions; None: by frames.
        window_seconds (float): Length of the window.
        span (float): Seconds from its first to its last sample.
        latencies_ms (deque[float]): Of the last predictions.

    Raises:
        HRI30Error: the length of the window is not known.
    """

    def __init__(self, info, backend: Callable, settings: StreamSettings | None = None
                 ) -> None:
        settings = settings or StreamSettings()
        window = settings.window_seconds or info.window_seconds
        if not window:
            raise HRI30Error('stream: the model does not have the length of its training '
                             'clips.\nSet window_seconds.')
        self.info, self.settings = info, settings
        self.window_seconds = max(window, info.preprocessing.span_seconds)
        times_T = info.preprocessing.sample_times(self.window_seconds)
        # The newest sample is the newest frame: events come sooner.
        self._offsets_T = times_T.max() - times_T
        self.span = float(self._offsets_T.max())
        self.hop = settings.hop
        distances = np.diff(np.sort(self._offsets_T))
        interval = float(distances.min()) if len(distances) else self.hop or _HOP
        if self.hop is None and settings.every is None:
            self.hop = max(1, round(_HOP / interval)) * interval
        self._least_gap = interval / _FRAMES_PER_SAMPLE
        self._backend = backend
        self._reuse = getattr(backend, 'splittable', False)
        self._closed = False
        self.frames = self.predictions = self.dropped = 0
        self.scores_K: np.ndarray | None = None
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._restart()

    def _restart(self) -> None:
        how = self.settings
        self._smoother = Smoother(how.smooth_seconds)
        self._hysteresis = Hysteresis(how.enter, how.leave, how.min_seconds)
        self._frames: deque[TimedFrame] = deque()
        self._time: float | None = None  # of the last frame
        self._first: float | None = None  # the newest sample of the first window
        self._next = 0  # number of the next window, in hops
        self._since = 0  # frames since the last prediction
        self._captured = None  # capture of the frame since which a prediction is due
        self.latest: Event | None = None

    def warm_up(self) -> None:
        """Runs the model once: graphs are compiled at their first use."""
        width, height = self.info.preprocessing.size
        frame = TimedFrame(0., np.zeros((height, width, 3), np.uint8))
        self._scores([frame] * len(self._offsets_T))

    def push(self, frame_HWC: np.ndarray, timestamp: float, captured: float | None = None,
             more: bool = False) -> list[Event]:
        """Adds the next frame.

        Args:
            frame_HWC (np.ndarray): uint8 RGB, (H, W, 3), of any size. It is copied.
            timestamp (float): When it was taken, in seconds on any steady clock. A frame
                with the time of the one before is ignored. If time goes back, or skips
                more than a window, the stream starts again.
            captured (float, optional): When it came from the camera, ``time.monotonic()``,
                for the latency; by default, now.
            more (bool): Whether another frame is already available: a prediction that is
                due then waits for it.

        Raises:
            HRI30Error: an invalid frame or time, or a closed stream.
        """
        if self._closed:
            raise HRI30Error('stream: a frame after close(); expected a new stream().')
        if not (isinstance(timestamp, int | float | np.number)
                and math.isfinite(timestamp)):
            raise HRI30Error(f'stream: timestamp={timestamp!r}, expected seconds.')
        captured = clock.monotonic() if captured is None else captured
        time = float(timestamp)
        check_frame(frame_HWC)
        self.frames += 1
        events: list[Event] = []
        if self._time is not None:
            passed = time - self._time
            if passed < -_SAME or passed > self.window_seconds + _SAME:
                events += self._reset(time, 'back' if passed < 0 else 'gap')
            elif passed < _SAME:
                return events
        if self._time is None:
            self._first = time + self.span
        self._time = time
        self._keep(frame_HWC)
        anchor = self._find_due(time)
        if anchor is None:
            return events
        if self._captured is None:
            self._captured = captured
        if more:
            return events
        return events + self._predict(anchor, time)

    def _keep(self, frame_HWC: np.ndarray) -> None:
        """Adds the newest frame, and removes those older than the next window."""
        begin = min(self._time, self._newest_sample()) - self.span
        while len(self._frames) > 1 and self._frames[1].time <= begin + _SAME:
            self._frames.popleft()
        if self._frames and self._time - self._frames[-1].time < self._least_gap - _SAME:
            return  # the camera is faster than any model needs
        image_HWC = self.info.preprocessing.frame(frame_HWC).copy()
        self._frames.append(TimedFrame(self._time, image_HWC))

    def _newest_sample(self) -> float:
        """Returns the time of the newest sample of the next window, if it is known."""
        return math.inf if self.hop is None else self._first + self._next * self.hop

    def _find_due(self, time: float) -> float | None:
        """Returns the newest sample of the window that is due, if one is."""
        if self.hop is None:
            self._since += 1
            waits = self.latest is not None and self._since < self.settings.every
            return None if waits or time < self._first - _SAME else time
        late = time - self._newest_sample() + _SAME
        if late < 0:
            return None
        passed = math.floor(late / self.hop)
        if passed:  # overdue predictions are skipped
            self._next += passed
            self._captured = None
        return self._newest_sample()

    def _predict(self, anchor: float, time: float) -> list[Event]:
        """Predicts the window whose newest sample is at ``anchor``."""
        times_N = np.array([frame.time for frame in self._frames])
        distances_TN = np.abs(times_N - (anchor - self._offsets_T)[:, None])
        # The nearest ones; of two equally near, the earlier one.
        near_TN = distances_TN <= distances_TN.min(axis=1, keepdims=True) + _SAME
        scores_K = self._scores([self._frames[i] for i in near_TN.argmax(axis=1)])
        began, self._captured, self._since = self._captured, None, 0
        self._next += 1
        return self._decide(scores_K, time, began)

    def _predict_short_clip(self) -> list[Event]:
        """Predicts all frames as a clip, if there was no full window to predict."""
        if self.latest is not None or not self._frames:
            return []
        began, images = clock.monotonic(), [frame.image for frame in self._frames]
        views_VTHWC = np.stack([
            images[i] for i in self.info.preprocessing.indices(len(images))
        ]).reshape(-1, len(self._offsets_T), *images[0].shape)
        self._hysteresis.min_seconds = 0  # there is no time to wait
        return self._decide(self._backend(views_VTHWC).mean(axis=0), self._frames[0].time,
                            began)

    def _scores(self, chosen: Sequence[TimedFrame]) -> np.ndarray:
        """Returns class probabilities of a window, (K, )."""
        if not self._reuse:
            return self._backend(np.stack([frame.image for frame in chosen])[None])[0]
        new = [frame for frame in dict.fromkeys(chosen) if frame.features is None]
        if new:
            features = self._backend.frame_features(np.stack([one.image for one in new]))
            for frame, features_CHW in zip(new, features):
                # A copy: a slice would keep the features of its neighbours in memory.
                frame.features = np.array(features_CHW)
        return self._backend.clip_scores(
            np.stack([frame.features for frame in chosen])[None])[0]

    def _decide(self, scores_K: np.ndarray, time: float, began: float) -> list[Event]:
        """Makes events of the scores of the model at ``time``."""
        calibrated_K = apply_temperature(scores_K, self.info.temperature)
        unknown = is_unknown(self.info, scores_K)
        # Windows that are unknown count as 0, so that a single one ends no action.
        self.scores_K, known_K = self._smoother.update(
            time, np.stack([calibrated_K, calibrated_K * (not unknown)]))
        changes = self._hysteresis.update(time, known_K, unknown)
        latency_ms = 1000 * (clock.monotonic() - began)
        self.latencies_ms.append(latency_ms)
        self.predictions += 1
        best = np.argsort(-self.scores_K, kind='stable')[:5]
        top = [(self.info.classes[i], float(self.scores_K[i])) for i in best]
        active = self._hysteresis.active
        self.latest = Event(
            'prediction', self._time, class_name=top[0][0], score=top[0][1], top=top,
            state=self.info.classes[active[0]] if active else UNSURE, unknown=unknown,
            latency_ms=latency_ms, dropped=self.dropped)
        return [*self._events(changes, latency_ms),
                *([self.latest] if self.settings.predictions else [])]

    def _events(self, changes: list[tuple], latency_ms: float | None = None
                ) -> list[Event]:
        return [Event(kind, self._time, class_name=self.info.classes[label],
                      score=float(self.scores_K[label]), start=start,
                      end=self._time if kind == 'end' else None, reason=reason,
                      latency_ms=latency_ms, dropped=self.dropped)
                for kind, label, start, reason in changes]

    def _reset(self, time: float, reason: str) -> list[Event]:
        events = self._events(self._hysteresis.stop('reset'))
        self._restart()
        return [*events, Event('reset', time, reason=reason, dropped=self.dropped)]

    def why_no_prediction(self) -> str | None:
        """Returns why there was no prediction so far; None if there was one."""
        if self.predictions:
            return None
        if not self.frames:
            return 'no prediction: there was no frame'
        return (f'no prediction: {self.frames} frames do not fill a window of '
                f'{self.window_seconds:.2f} s; set a shorter one (window_seconds)')

    def end_clip(self) -> list[Event]:
        """Ends a file, and starts again.

        A file shorter than a window is predicted as a clip. If its score reaches the upper
        threshold, its action starts with it and ends with it.

        Returns:
            list[Event]: Events; the last one is a ``reset``, unless there was no frame.
        """
        if self._time is None:
            return []
        return self._predict_short_clip() + self._reset(self._time, 'file')

    def close(self, clip_ended: bool = False) -> list[Event]:
        """Ends the stream, and with it the action in progress; ``clip_ended``: and a file,
        see :meth:`end_clip`.
        """
        if self._closed:
            return []
        self._closed = True
        events = self._predict_short_clip() if clip_ended else []
        return events + self._events(self._hysteresis.stop('closed'))


# ---- Frames that come faster than they are used ------------------------------------------


class FrameQueue(queue.Queue):
    """Frames between the thread that captures them and the one that recognizes them.

    Args:
        size (int): Frames that may wait.
        live (bool): Whether a full queue drops its oldest frame, as for a camera, and
            counts it in ``dropped``; otherwise :meth:`put` waits, as for a file.
    """

    def __init__(self, size: int, live: bool) -> None:
        super().__init__(0 if live else size)
        self.size, self.live, self.dropped = size, live, 0
        self.stopped = self._ended = False

    def put(self, frame) -> None:
        while self.live and self.qsize() >= self.size:
            with contextlib.suppress(queue.Empty):  # the other thread took it
                self.get_nowait()
                self.dropped += 1
        while not self.stopped:
            with contextlib.suppress(queue.Full):
                return super().put(frame, timeout=_POLL)

    def end(self) -> None:
        """Ends the iteration after the frames that wait."""
        self._ended = True

    def stop(self) -> None:
        """Ends the iteration soon; from any thread, and from a signal handler."""
        self.stopped = True

    def __iter__(self) -> Iterator[tuple]:
        """Yields frames, and whether a due prediction should wait for the next one."""
        held = 0
        while not self.stopped and not (self._ended and self.empty()):
            try:
                frame = self.get(timeout=_POLL)
            except queue.Empty:
                continue
            # A prediction waits for newer frames, but not forever.
            more = self.live and held < self.size and not self.empty()
            held = held + 1 if more else 0
            yield frame, more


def recognize(source, stream: Stream, frames: FrameQueue) -> Iterator[tuple]:
    """Recognizes the frames of a source, which a thread of its own captures.

    Args:
        source: One of :mod:`~hri30_ext.deploy.runtime.video_io`; it is closed.
        frames (FrameQueue): Between the threads; its ``stop()`` ends all of it.

    Yields:
        tuple[Frame | None, list[Event]]: Each frame that was not dropped, with its events;
        None with those of the end of a file, and with the last ones of the stream.

    Raises:
        HRI30Error: the error that ended the source, after the last events.
    """
    errors, file = [], 0

    def capture() -> None:
        try:
            while (frame := source.read()) is not None and not frames.stopped:
                frames.put(frame)
        except BaseException as error:  # raised again where frames are used
            errors.append(error)
        finally:
            frames.end()
            source.close()

    thread = threading.Thread(target=capture, name='capture', daemon=True)
    thread.start()
    try:
        for frame, more in frames:
            stream.dropped = frames.dropped
            if file and frame.file != file:
                yield None, stream.end_clip()
            file = frame.file
            # Reading a file ahead of its use is no latency.
            captured = frame.captured if source.live else None
            yield frame, stream.push(frame.image, frame.time, captured, more)
        stream.dropped = frames.dropped
        if last := stream.close(clip_ended=file > 0 and not frames.stopped):
            yield None, last
        if errors and not frames.stopped:
            raise errors[0]
    finally:
        frames.stop()
        source.stop()
        # A camera that hangs in its driver must not keep the program from ending.
        thread.join(timeout=2)
