"""Recognizing what a stream of frames shows, by time and within bounded memory.

Shapes: T frames of a window, N frames in a row, H height, W width, C channels, K classes.
Times are in seconds: those of frames on the stream's own clock, which starts anywhere;
latencies on that of this machine.

**Which frames.** A model was trained on frames that lie a certain time apart. Of a camera
of any rate, the frames nearest to those times are taken, counted back from the newest
sample of the window; nothing else is kept. Predictions come every ``hop`` seconds or every
n frames. Where a frame is in several windows, as always when the hop is a multiple of the
interval between samples, the stages of the model without temporal kernels see it once.

**Events** are one JSON object a line, :meth:`Event.to_json`:

============== ==========================================================================
``event``      ``start``, ``end``: an action begins, ends. ``prediction``: where asked for,
               one for each. ``reset``: the stream's time jumped, all starts anew
``time``       of the frame that caused it, stream time
``class``      ``start``, ``end``: the action. ``prediction``: the best class
``score``      its score in [0, 1], calibrated where the model has a temperature, smoothed
``start``      when the action was first above the upper threshold (``start``, ``end``)
``end``        when it was below the lower one, or another took its place (``end``)
``reason``     ``end``: ``below``, ``replaced``, ``reset``, ``closed``. ``reset``: ``back``
               or ``gap``
``state``      ``prediction``: the action that goes on, or ``unsure``
``top``        ``prediction``: names and scores of the five best classes, best first
``latency_ms`` from the capture of the frame that caused the prediction to its end
``dropped``    frames that were lost so far because they came faster than they were used
============== ==========================================================================

``tools/deploy/stream.py`` adds ``{"event": "camera", "state": "lost" | "retry" | "back",
"message": ...}`` and, as the last line, ``{"event": "summary", ...}``: see
:mod:`~hri30_ext.deploy.runtime.live`.

What a window shows lies on average half of it back, and what is told lags by as much, and
by the smoothing and the least duration.
"""

import math
import threading
import time as clock
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ...errors import HRI30Error
from ...video.preprocessing import check_frame

#: What is told where no class is sure.
UNSURE = 'unsure'

#: Seconds from prediction to prediction, about, where nothing else is asked for.
HOP = 1 / 6

#: The least window and hop: less is told apart from nothing by rounding alone.
_LEAST_SECONDS = 0.001

#: Seconds within which two times are the same one.
_SAME = 1e-6
#: Parts of an interval between samples that the times of frames are told apart by, where
#: predictions do not fall on a common grid of times.
_FINEST = 16
#: Latencies that the summary is over: the last ones, so that days of streaming fit.
_LATENCIES = 10_000


# ---- Settings and events ----------------------------------------------------------------


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is looked at.

    Args:
        window_seconds (float, optional): What is looked at at once; by default the median
            length of the training clips, which is kept with the model.
        hop (float, optional): Seconds from prediction to prediction; by default
            :data:`HOP`, rounded to multiples of the time between samples of the window.
        every (int, optional): Instead of ``hop``: a prediction every n frames.
        smoothing (str): ``exponential``, ``mean`` or ``none``, over predictions.
        smooth_seconds (float): The time constant, or the length of the mean.
        enter (float): Smoothed score in [0, 1] from which an action begins.
        leave (float): Below it an action ends; at most ``enter``. In between, what was
            goes on.
        min_seconds (float): How long a class must stay above ``enter`` before its start is
            told: flicker is not acted on.
        predictions (bool): Whether every prediction is an event too.
        reuse (bool): Whether features of frames are kept from window to window, where the
            model can be split.

    Raises:
        HRI30Error: a value out of range.
    """

    window_seconds: float | None = None
    hop: float | None = None
    every: int | None = None
    smoothing: str = 'exponential'
    smooth_seconds: float = 0.4
    enter: float = 0.6
    leave: float = 0.4
    min_seconds: float = 0.3
    predictions: bool = False
    reuse: bool = True

    @classmethod
    def create(cls, **settings) -> 'StreamSettings':
        """Makes settings of names and values.

        Raises:
            HRI30Error: an unknown name, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise HRI30Error(f'stream: no setting {", ".join(unknown)}.\nExpected some of '
                             f'{", ".join(known)}.')
        return cls(**settings)

    def __post_init__(self) -> None:
        for name in ('window_seconds', 'hop'):
            value = getattr(self, name)
            if value is not None and not _is_number(value, least=_LEAST_SECONDS, most=3600):
                raise _wrong(name, value, f'seconds from {_LEAST_SECONDS} to 3600')
        for name in ('smooth_seconds', 'min_seconds'):
            if not _is_number(getattr(self, name), least=0, most=3600):
                raise _wrong(name, getattr(self, name), 'seconds from 0 to 3600')
        if self.every is not None:
            if type(self.every) is not int or self.every < 1:
                raise _wrong('every', self.every, 'a number of frames, 1 or more')
            if self.hop is not None:
                raise HRI30Error('stream: every and hop are both set; expected one.')
        if self.smoothing not in ('exponential', 'mean', 'none'):
            raise _wrong('smoothing', self.smoothing, 'exponential, mean or none')
        for name in ('enter', 'leave'):
            if not _is_number(getattr(self, name), least=0, most=1):
                raise _wrong(name, getattr(self, name), 'a score from 0 to 1')
        if self.leave > self.enter:
            raise _wrong('leave', self.leave, f'at most enter, which is {self.enter}')


def _is_number(value, least: float = -math.inf, most: float = math.inf) -> bool:
    return (isinstance(value, int | float | np.number) and not isinstance(value, bool)
            and math.isfinite(value) and least <= value <= most)


def _wrong(name: str, value, expected: str) -> HRI30Error:
    return HRI30Error(f'stream: {name}={value!r}, expected {expected}.')


@dataclass(frozen=True)
class Event:
    """Something to act on; the fields are in the table at the top of this file.

    ``class_name`` is ``class`` in JSON, and what is None is left out there.
    """

    event: str
    time: float
    class_name: str | None = None
    score: float | None = None
    start: float | None = None
    end: float | None = None
    reason: str | None = None
    state: str | None = None
    top: Sequence[tuple[str, float]] | None = None
    latency_ms: float | None = None
    dropped: int | None = None

    def to_json(self) -> dict:
        """Returns numbers, strings and lists, for one line of JSON."""
        content = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == 'top':
                value = [[name, round(score, 4)] for name, score in value]
            elif isinstance(value, float):
                value = round(value, 4)
            content['class' if field.name == 'class_name' else field.name] = value
        return content


# ---- Which frames are kept ---------------------------------------------------------------


class Kept:
    """A frame in the buffer.

    Args:
        number (int): In the stream.
        time (float): When it was taken.
        image (np.ndarray): As it came.
        prepare (Callable): Makes of it what the model takes, once, when it is wanted.
    """

    def __init__(self, number: int, time: float, image: np.ndarray, prepare: Callable
                 ) -> None:
        self.number, self.time = number, time
        self._image, self._prepare = image, prepare

    @property
    def frame(self) -> np.ndarray:
        """Prepared for the model, uint8 RGB, (H, W, 3)."""
        if self._prepare is not None:
            self._image, self._prepare = self._prepare(self._image), None
        return self._image


class FrameBuffer:
    """Keeps the frames nearest to the times of a grid, as far back as a window reaches.

    Whatever the rate of the camera, it holds at most a frame for each time of the grid
    within the window, one before it, and the newest. Only those that are kept are prepared.

    Args:
        span (float): Seconds from the oldest sample of a window to the newest.
        step (float): Seconds between two times of the grid.
        prepare (Callable): From a frame to what is kept of it.
    """

    def __init__(self, span: float, step: float,
                 prepare: Callable = lambda frame_HWC: frame_HWC) -> None:
        self.span, self.step, self._prepare = span, step, prepare
        self._count = 0
        self.clear()

    def clear(self) -> None:
        """Forgets all frames; the next one is the origin of the grid."""
        self._kept: deque[Kept] = deque()
        self._newest: Kept | None = None

    def __len__(self) -> int:
        return len(self._entries())

    @property
    def oldest_number(self) -> int:
        """Number of the oldest frame that can still be selected."""
        return self._entries()[0].number

    def add(self, time: float, frame: np.ndarray, needed: float = math.inf) -> None:
        """Takes the next frame.

        Args:
            time (float): Later than that of the frame before.
            frame (np.ndarray): uint8 RGB, (H, W, 3). It is not copied.
            needed (float): The time of the newest sample of a window that is still to be
                selected, where that is not later than the last frame.
        """
        entry = Kept(self._count, time, frame, self._prepare)
        previous = self._newest
        self._count += 1
        self._newest = entry
        if previous is None:
            self._origin = time
            self._keep(entry)
            return
        begin = min(previous.time, needed) - self.span
        while len(self._kept) > 1 and self._kept[1].time <= begin + _SAME:
            self._kept.popleft()
        # Times of the grid that have passed now: one of the two frames is nearest to each,
        # and no later frame can be nearer.
        first = math.floor((previous.time - self._origin + _SAME) / self.step) + 1
        last = math.floor((time - self._origin + _SAME) / self.step)
        if first > last:
            return
        if self._kept[-1] is not previous and not _nearer(
                previous, entry, self._origin + first * self.step):
            self._keep(previous)
        if _nearer(previous, entry, self._origin + last * self.step):
            self._keep(entry)

    def _keep(self, entry: Kept) -> None:
        self._kept.append(entry)
        _ = entry.frame  # the image as it came is large

    def select(self, times: Sequence[float]) -> list[Kept]:
        """Returns the frame nearest to each time; of two as near, the earlier one."""
        entries = self._entries()
        moments = [entry.time for entry in entries]
        chosen = []
        for time in times:
            i = max(bisect_right(moments, time) - 1, 0)
            later = i + 1 < len(entries) and _nearer(entries[i], entries[i + 1], time)
            chosen.append(entries[i + later])
        return chosen

    def _entries(self) -> list[Kept]:
        entries = list(self._kept)
        if entries and entries[-1] is not self._newest:
            entries.append(self._newest)
        return entries


def _nearer(earlier: Kept, later: Kept, time: float) -> bool:
    """Whether the later of two frames is nearer to a time."""
    return abs(later.time - time) < abs(time - earlier.time) - _SAME


def _interval(offsets: Sequence[float]) -> float | None:
    """Returns the least time between two samples; None where there is one alone."""
    distances = np.diff(np.unique(np.round(offsets, 9)))
    return float(distances.min()) if len(distances) else None


def common_grid(offsets: Sequence[float], hop: float | None) -> tuple[float, float | None]:
    """Finds the times that frames are kept for.

    Args:
        offsets (Sequence[float]): Seconds from each sample of a window to its newest.
        hop (float, optional): Seconds from prediction to prediction, where they are even.

    Returns:
        tuple[float, float | None]: Seconds between two times, and the hop, rounded to them.
        Where samples and predictions fall on a grid of their own that is not too fine,
        that of the grid: exactly the frames that are needed are kept. Otherwise a
        sixteenth of the least interval between samples, and the hop as it was: up to that
        rate, every frame is kept.

    >>> common_grid([.75, .5, .25, 0], hop=.5), common_grid([.75, .5, .25, 0], hop=.625)
    ((0.25, 0.5), (0.125, 0.625))
    """
    interval = _interval(offsets) or hop or 1.0
    if hop is not None:
        for parts in range(1, _FINEST + 1):
            step = interval / parts
            counts = np.append(offsets, hop) / step
            if np.abs(counts - np.round(counts)).max() * step < _SAME:
                return step, float(np.round(counts[-1])) * step
    return interval / _FINEST, hop


# ---- From predictions to actions ---------------------------------------------------------


def calibrate(scores_K: np.ndarray, temperature: float | None) -> np.ndarray:
    """Softens (above 1) or sharpens (below 1) scores, as dividing the logits does.

    Args:
        scores_K (np.ndarray): Class probabilities, (K, ).
        temperature (float, optional): None and 1 change nothing.

    Returns:
        np.ndarray: Class probabilities, (K, ) float64, that sum to 1.

    >>> calibrate(np.array([.2, .8]), 0.5).round(4).tolist()
    [0.0588, 0.9412]
    """
    logs_K = np.log(np.maximum(scores_K, np.finfo(np.float32).tiny, dtype=np.float64))
    scaled_K = np.exp((logs_K - logs_K.max()) / (temperature or 1))
    return scaled_K / scaled_K.sum()


class Smoother:
    """Averages scores over time.

    Args:
        kind (str): ``exponential``: weights that fall to 1/e in ``seconds``; ``mean``: of
            the predictions of the last ``seconds``; ``none``.
        seconds (float): 0 is no smoothing.
    """

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = (kind if seconds else 'none'), seconds
        self.clear()

    def clear(self) -> None:
        """Forgets all predictions."""
        self._recent: deque[tuple[float, np.ndarray]] = deque()

    def update(self, time: float, scores_K: np.ndarray) -> np.ndarray:
        """Takes the scores of a prediction, (K, ), and returns the smoothed ones."""
        if self.kind == 'none':
            return scores_K
        if self.kind == 'mean':
            self._recent.append((time, scores_K))
            while self._recent[0][0] <= time - self.seconds + _SAME:
                if len(self._recent) == 1:
                    break
                self._recent.popleft()
            return np.mean([scores for _, scores in self._recent], axis=0)
        if self._recent:
            before, smoothed_K = self._recent.pop()
            share = math.exp((before - time) / self.seconds)
            scores_K = share * smoothed_K + (1 - share) * scores_K
        self._recent.append((time, scores_K))
        return scores_K


class Change(NamedTuple):
    """An action that begins or ends: ``start`` or ``end``, label, its begin, and why."""

    kind: str
    label: int
    start: float
    reason: str | None = None


class Hysteresis:
    """Decides which action goes on, so that scores near a threshold do not flicker.

    A class begins once it was the best, at ``enter`` or above, for ``min_seconds``. It goes
    on until its score is below ``leave``, or another class begins.

    Args:
        enter (float): Upper threshold.
        leave (float): Lower threshold.
        min_seconds (float): How long a class must be the best, from one prediction to
            another.
    """

    def __init__(self, enter: float, leave: float, min_seconds: float) -> None:
        self.enter, self.leave, self.min_seconds = enter, leave, min_seconds
        #: Label of the action that goes on, and when it began; None: unsure.
        self.active: tuple[int, float] | None = None
        self._candidate: tuple[int, float] | None = None

    def update(self, time: float, scores_K: np.ndarray) -> list[Change]:
        """Takes smoothed scores, (K, ).

        Returns:
            list[Change]: None, an end, a start, or both in this order.
        """
        changes = []
        if self.active and scores_K[self.active[0]] < self.leave:
            changes += self.stop('below')
        best = int(np.argmax(scores_K))
        if scores_K[best] < self.enter or (self.active and best == self.active[0]):
            self._candidate = None
            return changes
        if not self._candidate or self._candidate[0] != best:
            self._candidate = (best, time)
        if time - self._candidate[1] >= self.min_seconds - _SAME:
            changes += self.stop('replaced')
            self.active, self._candidate = self._candidate, None
            changes.append(Change('start', *self.active))
        return changes

    def stop(self, reason: str) -> list[Change]:
        """Ends the action that goes on, if one does."""
        if not self.active:
            return []
        (label, start), self.active = self.active, None
        return [Change('end', label, start, reason)]

    def clear(self, reason: str) -> list[Change]:
        """Ends the action that goes on, and forgets what may have begun."""
        self._candidate = None
        return self.stop(reason)


# ---- The stream --------------------------------------------------------------------------


class Stream:
    """Takes frames one by one and tells what begins and ends.

    For one thread at a time.

    Args:
        info: Of the model, see :class:`~hri30_ext.deploy.runtime.exported.ModelInfo`.
        backend (Callable): Of the model, a
            :class:`~hri30_ext.deploy.runtime.backends.Backend`.
        settings (StreamSettings): How to look at the stream.

    Attributes:
        settings (StreamSettings): As they were given.
        frames (int): That were taken.
        predictions (int): That were made.
        dropped (int): Frames that were lost before they came here; who drops frames counts
            them here, for the events.
        latest (Event | None): The last prediction, as an event.
        scores_K (np.ndarray | None): Its scores, smoothed, (K, ).
        hop (float | None): Seconds from prediction to prediction; None: by frames.
        window_seconds (float): What is looked at at once.
        latencies_ms (deque[float]): Of the last predictions.

    Raises:
        HRI30Error: no window is known.
    """

    def __init__(self, info, backend: Callable, settings: StreamSettings | None = None
                 ) -> None:
        settings = settings or StreamSettings()
        window = settings.window_seconds or info.window_seconds
        if not window:
            raise HRI30Error('stream: the length of the training clips is not kept with '
                             'this model.\nSet window_seconds to the seconds that a clip '
                             'takes.')
        self.info, self.settings = info, settings
        self.window_seconds = max(window, info.preprocessing.span_seconds)
        times_T = info.preprocessing.sample_times(self.window_seconds)
        # Counted back from the newest sample, which is the newest frame: the sooner seen.
        self._offsets = (times_T.max() - times_T).tolist()
        span = max(self._offsets)
        self.hop = settings.hop
        if self.hop is None and settings.every is None:
            interval = _interval(self._offsets) or HOP
            self.hop = max(1, round(HOP / interval)) * interval
        step, self.hop = common_grid(self._offsets, self.hop)
        self._buffer = FrameBuffer(span, step, self._prepare)
        self._backend = backend
        self._reuse = settings.reuse and bool(getattr(backend, 'splittable', False))
        self._smoother = Smoother(settings.smoothing, settings.smooth_seconds)
        self._hysteresis = Hysteresis(settings.enter, settings.leave, settings.min_seconds)
        self._closed = False
        self.frames = self.predictions = self.dropped = 0
        self.latest: Event | None = None
        self.scores_K: np.ndarray | None = None
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._buffer.clear()
        self._smoother.clear()
        self._features: dict[int, np.ndarray] = {}  # of frames, by their number
        self._time: float | None = None  # of the last frame
        self._first: float | None = None  # the newest sample of the first window
        self._next = 0  # which window is next: that many hops later
        self._since = 0  # frames since the last prediction
        self._captured = None  # when the frame came that a prediction is due since
        self.latest = None

    def warm_up(self) -> None:
        """Runs the model once: graphs are compiled at their first use."""
        width, height = self.info.preprocessing.size
        frames_THWC = np.zeros((len(self._offsets), height, width, 3), np.uint8)
        if self._reuse:
            self._backend.clip_scores(self._backend.frame_features(frames_THWC)[None])
            self._backend.frame_features(frames_THWC[:1])
        else:
            self._backend(frames_THWC[None])

    def push(self, frame_HWC: np.ndarray, timestamp: float, captured: float | None = None,
             more: bool = False) -> list[Event]:
        """Takes the next frame.

        Args:
            frame_HWC (np.ndarray): uint8 RGB, (H, W, 3), of any size. It is copied.
            timestamp (float): When it was taken, in seconds on any steady clock. A frame
                of the same time as the one before is left out. Where time goes back, or
                leaves out more than a window, all starts anew.
            captured (float, optional): When it came from the camera, ``time.monotonic()``,
                for the latency; by default, now.
            more (bool): Whether another frame is there already: a prediction that is due
                then waits for it, and is of what is newest.

        Returns:
            list[Event]: What is to be told.

        Raises:
            HRI30Error: no such frame, a time that is no number, or a closed stream.
        """
        if self._closed:
            raise HRI30Error('stream: a frame after close(); expected a new stream().')
        if not _is_number(timestamp):
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
        self._buffer.add(time, frame_HWC.copy(), self._newest_sample())
        if self._time is None:
            self._first = time + self._buffer.span
        self._time = time
        anchor = self._find_due(time)
        if anchor is None:
            return events
        if self._captured is None:
            self._captured = captured
        if more:
            return events
        return events + self._predict(anchor, time)

    def _prepare(self, frame_HWC: np.ndarray) -> np.ndarray:
        return self.info.preprocessing.frames([frame_HWC])[0]

    def _newest_sample(self) -> float:
        """When the newest sample of the next window is, as far as it is known."""
        if self.hop is None or self._first is None:
            return math.inf
        return self._first + self._next * self.hop

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
        if passed:  # what is overdue is not made up for
            self._next += passed
            self._captured = None
        return self._newest_sample()

    def _predict(self, anchor: float, time: float) -> list[Event]:
        """Predicts the window whose newest sample is at ``anchor``."""
        chosen = self._buffer.select([anchor - offset for offset in self._offsets])
        scores_K = calibrate(self._scores(chosen), self.info.temperature)
        latency_ms = 1000 * (clock.monotonic() - self._captured)
        self._captured, self._since = None, 0
        self._next += 1
        self.predictions += 1
        self.latencies_ms.append(latency_ms)
        self.scores_K = smoothed_K = self._smoother.update(time, scores_K)
        told = dict(latency_ms=latency_ms, dropped=self.dropped)
        events = [self._tell(change, time, **told)
                  for change in self._hysteresis.update(time, smoothed_K)]
        best = np.argsort(-smoothed_K, kind='stable')[:5]
        top = tuple((self.info.classes[i], float(smoothed_K[i])) for i in best)
        active = self._hysteresis.active
        self.latest = Event(
            'prediction', time, class_name=top[0][0], score=top[0][1], top=top,
            state=self.info.classes[active[0]] if active else UNSURE, **told)
        if self.settings.predictions:
            events.append(self.latest)
        return events

    def _scores(self, chosen: Sequence[Kept]) -> np.ndarray:
        """Returns class probabilities of a window, (K, )."""
        if not self._reuse:
            return self._backend(np.stack([kept.frame for kept in chosen])[None])[0]
        new = list({kept.number: kept.frame for kept in chosen
                    if kept.number not in self._features}.items())
        if new:
            features = self._backend.frame_features(np.stack([frame for _, frame in new]))
            # Copies: a slice would keep the features of its neighbours alive.
            self._features.update((number, np.array(found))
                                  for (number, _), found in zip(new, features))
        scores_K = self._backend.clip_scores(
            np.stack([self._features[kept.number] for kept in chosen])[None])[0]
        oldest = self._buffer.oldest_number
        for number in [number for number in self._features if number < oldest]:
            del self._features[number]
        return scores_K

    def _tell(self, change: Change, time: float, **told) -> Event:
        ended = dict(end=time, reason=change.reason) if change.kind == 'end' else {}
        return Event(change.kind, time, class_name=self.info.classes[change.label],
                     score=float(self.scores_K[change.label]), start=change.start,
                     **ended, **told)

    def _finish(self, reason: str) -> list[Event]:
        return [self._tell(change, self._time, dropped=self.dropped)
                for change in self._hysteresis.clear(reason)]

    def _reset(self, time: float, reason: str) -> list[Event]:
        events = self._finish('reset')
        self._begin_anew()
        return [*events, Event('reset', time, reason=reason, dropped=self.dropped)]

    def close(self) -> list[Event]:
        """Ends the stream, and with it the action that goes on."""
        events = [] if self._closed else self._finish('closed')
        self._closed = True
        return events


# ---- Frames that come faster than they are used ------------------------------------------


class FrameQueue:
    """Hands frames from the thread that captures them to the one that uses them.

    Args:
        size (int): Frames that may wait.
        lossless (bool): Whether a full queue holds up who puts in, as for a file that is
            read as fast as possible; or loses its oldest frame, as for a camera.

    Attributes:
        dropped (int): Frames that were lost.
    """

    def __init__(self, size: int, lossless: bool = False) -> None:
        self.size, self.lossless, self.dropped = size, lossless, 0
        self._frames: deque = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame) -> bool:
        """Puts a frame in; False says that the queue is closed."""
        with self._changed:
            while self.lossless and len(self._frames) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            if len(self._frames) >= self.size:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def get(self):
        """Takes the oldest frame out, and waits for it.

        Returns:
            The frame; None once the queue is closed and empty.

        Raises:
            BaseException: what ended the capture, once the frames before are out.
        """
        with self._changed:
            while not self._frames and not self._closed:
                self._changed.wait()
            if self._frames:
                self._changed.notify_all()
                return self._frames.popleft()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return None

    def close(self, error: BaseException | None = None, discard: bool = False) -> None:
        """Says that nothing more comes.

        Args:
            error (BaseException, optional): What :meth:`get` raises at the end.
            discard (bool): Whether what waits is discarded.
        """
        with self._changed:
            self._closed, self._error = True, self._error or error
            if discard:
                self._frames.clear()
            self._changed.notify_all()


class StreamRunner:
    """Captures frames in a thread of its own, and recognizes them in the caller's.

    >>> with StreamRunner(source, stream) as runner:  # doctest: +SKIP
    ...     for frame, events in runner:
    ...         ...

    The stream is closed at the end; its last events come with a frame of None.

    Args:
        source: Frames, see :class:`~hri30_ext.deploy.runtime.video_io.Source`.
        stream (Stream): What recognizes them.
        queue_size (int): Frames that may wait for the recognition.
    """

    def __init__(self, source, stream: Stream, queue_size: int = 16) -> None:
        self.source, self.stream = source, stream
        self.queue = FrameQueue(queue_size, lossless=not source.live)
        self._thread = threading.Thread(target=self._capture, name='capture', daemon=True)

    def __enter__(self) -> 'StreamRunner':
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.stop()
        # A camera that hangs in its driver must not hold up the end of the program.
        self._thread.join(timeout=2)

    def _capture(self) -> None:
        error = None
        try:
            while (frame := self.source.read()) is not None:
                if not self.queue.put(frame):
                    break
        except BaseException as caught:  # raised where frames are used
            error = caught
        finally:
            self.queue.close(error)
            self.source.close()

    def stop(self) -> None:
        """Ends the iteration; from any thread, and from a signal handler's."""
        self.source.stop()
        self.queue.close(discard=True)

    def __iter__(self) -> Iterator[tuple]:
        """Yields each frame that was not dropped, with its events.

        Raises:
            HRI30Error: what ended the source, after the last events.
        """
        error, held = None, 0
        while True:
            try:
                frame = self.queue.get()
            except HRI30Error as caught:
                frame, error = None, caught
            self.stream.dropped = self.queue.dropped
            if frame is None:
                break
            # Where frames come faster than they are even taken, it must not wait for ever.
            more = self.source.live and len(self.queue) > 0 and held < self.queue.size
            held = held + 1 if more else 0
            # What a file is read ahead of its use is no latency.
            captured = frame.captured if self.source.live else None
            yield frame, self.stream.push(frame.image, frame.time, captured, more)
        last = self.stream.close()
        if last:
            yield None, last
        if error is not None:
            raise error
