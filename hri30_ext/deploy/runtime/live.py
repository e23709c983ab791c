"""A stream from its source to events, an annotated video, a window, and a summary.

The summary is the last line:

========================== ==============================================================
``event``                  ``summary``
``ended``                  ``end`` of the source, ``interrupted``, ``time``, ``window
                           closed``, ``camera lost`` or ``error``
``frames``, ``dropped``    that were used, and that were dropped because they came faster
``predictions``            that were made
``seconds``                of this machine's clock, without loading the model
``predictions_per_second`` over these seconds
``latency_ms``             ``median`` and ``p95`` of the last 10,000 predictions: from the
                           capture of a frame to the end of the prediction it caused; for
                           files that are not played in real time, from its use
``reason``                 why there was no prediction, if there was none
========================== ==============================================================
"""

import contextlib
import signal
import sys
import time as clock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...utils.fileio import atomic_write_text
from ...utils.text import format_csv
from .streaming import UNSURE, Event, FrameQueue, Stream, recognize
from .video_io import CameraLost, Frame, Source, VideoWriter, annotate

_QUEUE_SIZE = 16  # frames that wait before the oldest is dropped


class Timeline:
    """The actions in each file.

    A smoothed score describes the middle of the frames that it averages, not the newest
    one. Actions therefore last from the ``start`` to the ``end`` of their events, both
    earlier by half the window and by the mean age of what is smoothed. One that the first
    prediction of a file has begins with the file; one that goes on ends with it.
    """

    def __init__(self, stream: Stream) -> None:
        #: By the name of a file, when its last frame came, in seconds of the file.
        self.lengths: dict[str, float] = {}
        self._delay = stream.span / 2 + stream.settings.smooth_seconds
        self._rows: list[dict] = []
        self._frame: Frame | None = None  # the first one of the file
        self._first: float | None = None  # time of its first prediction
        self._scores: dict[float, float] = {}  # of the action in progress, by time

    def add(self, frame: Frame | None, events: Sequence[Event], latest: Event | None
            ) -> None:
        """Adds a frame, or the end of a file, and what it caused."""
        if frame and (self._frame is None or frame.file != self._frame.file):
            self._frame, self._first = frame, None
        if frame:
            self.lengths[frame.clip] = frame.time - self._frame.time
        is_new = frame is not None and latest is not None and latest.time == frame.time
        if is_new and self._first is None:
            self._first = latest.time
        for event in events:
            if event.event == 'start':
                self._scores = {event.time: event.score}
                before = self._rows[-1] if self._rows else {}
                if before.get('file') == self._frame.file:
                    # It ended when this one was sure for long enough.
                    before['end'] = min(before['end'], self._start_of(event))
            elif event.event == 'end':
                goes_on = event.reason in ('reset', 'closed')
                end = event.end - (0 if goes_on else self._delay) - self._frame.time
                self._rows.append(dict(
                    file=self._frame.file, path=self._frame.clip, label=event.class_name,
                    start=self._start_of(event), end=end,
                    confidence=float(np.mean([*self._scores.values()]))))
        if is_new and latest.state != UNSURE:
            self._scores[latest.time] = dict(latest.top).get(latest.state, 0.)

    def _start_of(self, event: Event) -> float:
        """Returns when the action of an event starts, in seconds of the file."""
        if self._first is None or event.start <= self._first:
            return 0.
        return max(0., event.start - self._delay - self._frame.time)

    @property
    def rows(self) -> list[dict]:
        """Actions: ``path``, the name of the file; ``label``; ``start`` and ``end`` in it,
        in seconds; ``confidence``, the mean smoothed score in [0, 1]."""
        return [row for row in self._rows if row['start'] < row['end']]

    def write(self, path: str | Path) -> None:
        """Writes the actions as a CSV file, which is a table of clips as well."""
        columns = ('path', 'label', 'start', 'end', 'confidence')
        atomic_write_text(path, format_csv(columns, [
            [f'{row[name]:.3f}' if isinstance(row[name], float) else row[name]
             for name in columns] for row in self.rows]))


@dataclass
class Live:
    """Runs a stream to its end."""
    stream: Stream
    source: Source
    emit: Callable[[dict], None]  # gets the events, and the summary last
    seconds: float | None = None  # time of the stream after which it ends
    writer: VideoWriter | None = None  # gets annotated frames
    # Gets each frame, uint8 RGB (H, W, 3), and its events; False ends the stream.
    show: Callable[[np.ndarray, list[dict]], bool] | None = None
    timeline: Timeline | None = None  # gets the actions
    _ended: str = field(default='end', init=False)

    def run(self) -> dict:
        """Runs until the source ends, or SIGINT or SIGTERM stops it.

        Returns:
            dict: The summary, as it is written.

        Raises:
            CameraLost: a camera went away; the summary is written all the same.
            HRI30Error: likewise, a file that cannot be read.
        """
        self.stream.warm_up()
        self._began = clock.monotonic()
        self._queue = FrameQueue(_QUEUE_SIZE, self.source.live)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(_interrupts(lambda: self._stop('interrupted')))
                if self.writer:
                    stack.callback(self.writer.close)
                self._use(stack.enter_context(contextlib.closing(recognize(
                    self.source, self.stream, self._queue))))
        except BaseException as error:
            self._ended = 'camera lost' if isinstance(error, CameraLost) else 'error'
            raise
        finally:
            summary = self._summary()
            self.emit(summary)
        if 'reason' in summary:
            print(summary['reason'], file=sys.stderr)
        return summary

    def _stop(self, why: str) -> None:
        self._ended = why
        self._queue.stop()

    def _use(self, frames: Iterator[tuple[Frame | None, list[Event]]]) -> None:
        image, stream = None, self.stream
        for frame, events in frames:
            shown, latest = [event.to_json() for event in events], stream.latest
            for event in shown:
                self.emit(event)
            if self.timeline:
                self.timeline.add(frame, events, latest)
            if frame is not None:
                image = frame.image
                if latest and latest.time == frame.time and latest not in events:
                    shown.append(latest.to_json())
            if self.show and not self.show(image, shown):
                self._stop('window closed')
            if frame is None:  # the end of a file
                continue
            if self.writer:
                self.writer.write(annotate(image, latest, stream.dropped,
                                           f'{self._rate():.1f} per second'), frame.time)
            if self.seconds is not None and frame.time >= self.seconds:
                self._stop('time')

    def _rate(self) -> float:
        return self.stream.predictions / max(clock.monotonic() - self._began, 1e-9)

    def _summary(self) -> dict:
        stream = self.stream
        median, p95 = (round(float(value), 1) for value in np.percentile(
            stream.latencies_ms, [50, 95])) if stream.latencies_ms else (None, None)
        reason = stream.why_no_prediction()
        return dict(
            event='summary', ended=self._ended, frames=stream.frames,
            dropped=stream.dropped, predictions=stream.predictions,
            seconds=round(clock.monotonic() - self._began, 3),
            predictions_per_second=round(self._rate(), 2),
            latency_ms=dict(median=median, p95=p95),
            **({'reason': reason} if reason else {}))


@contextlib.contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` at the first SIGINT or SIGTERM; a second one ends the process."""
    with contextlib.ExitStack() as before:
        def handle(number, frame) -> None:
            before.close()
            stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            before.callback(signal.signal, number, signal.signal(number, handle))
        yield
