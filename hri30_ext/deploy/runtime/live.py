"""A stream from its source to events, an annotated video, a window, and a summary.

The summary is the last line:

========================== ==============================================================
``event``                  ``summary``
``ended``                  ``end`` of the source, ``interrupted``, ``time``, ``window
                           closed``, ``output closed``, ``camera lost`` or ``error``
``frames``, ``dropped``    that were used, and that were dropped because they came faster
``predictions``            that were made
``seconds``                of this machine's clock, without loading the model
``predictions_per_second`` over these seconds
``latency_ms``             ``median`` and ``p95`` of the last 10,000 predictions: from the
                           capture of a frame to the end of the prediction it caused; for
                           files that are not played in real time, from its use
``rss_mb``                 resident memory in MB (10^6 bytes) at ``start``, after the model
                           was loaded and run once, and at the ``end``
``peak_rss_mb``            its peak until then
``reason``                 why there was no prediction, if there was none
========================== ==============================================================
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from ...utils.fileio import atomic_write_text
from ...utils.text import format_csv
from .streaming import UNSURE, Event, Stream, StreamRunner
from .video_io import CameraLost, Frame, Source, VideoWriter, annotate

#: Seconds between two progress messages.
_STATUS_SECONDS = 10.0


class JsonLines:
    """Writes one JSON object a line, each at once, from any thread.

    ``closed`` becomes true where the reader has gone, as ``head`` does.
    """

    def __init__(self, out: TextIO) -> None:
        self._out, self.closed = out, False
        self._lock = threading.Lock()

    def write(self, content: dict) -> None:
        """Writes a line; nothing, if the reader has gone."""
        with self._lock:
            if self.closed:
                return
            try:
                self._out.write(json.dumps(content, ensure_ascii=False) + '\n')
                self._out.flush()
            except BrokenPipeError:
                self.closed = True
                # Python flushes once more at its end, and would complain.
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class Timeline:
    """The states during each file, beside the class in its name, whose number is from 1."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._rows: list[dict] = []
        self._state = UNSURE

    def add(self, frame: Frame, state: str) -> None:
        """Adds a frame, and the state from then on."""
        if self._rows:
            row = self._rows[-1]
            row['told'][self._state] += frame.time - row['end']
            row['end'] = frame.time
        if not self._rows or row['file'] != frame.file:
            found = re.match(r'CID(\d{1,4})_', frame.clip, re.IGNORECASE)
            label = int(found[1]) if found else 0
            truth = self._classes[label - 1] if 0 < label <= len(self._classes) else ''
            row = dict(file=frame.file, clip=frame.clip, begin=frame.time, end=frame.time,
                       truth=truth, told=Counter(), after=None)
            self._rows.append(row)
        self._state = state
        if row['after'] is None and state == row['truth']:
            row['after'] = frame.time - row['begin']

    def conclude(self, event: Event) -> None:
        """Adds an action of the whole last file, which was too short for a window."""
        row, self._state = self._rows[-1], event.class_name
        row['told'] = Counter({self._state: row['end'] - row['begin']})
        row['after'] = row['end'] - row['begin'] if self._state == row['truth'] else None

    def write(self, path: str | Path) -> None:
        """Writes a CSV file: a line for each file that was played.

        ``told`` are seconds by class, most first; ``correct_after`` the seconds from its
        begin until its own class was the state, empty if it never was.
        """
        atomic_write_text(path, format_csv(
            ('clip', 'begin', 'end', 'truth', 'told', 'correct_after'),
            [[row['clip'], f'{row["begin"]:.2f}', f'{row["end"]:.2f}', row['truth'],
              '; '.join(f'{name} {seconds:.2f}'
                        for name, seconds in row['told'].most_common() if seconds),
              '' if row['after'] is None else f'{row["after"]:.2f}']
             for row in self._rows]))


def resident_megabytes() -> tuple[float, float]:
    """Returns the resident memory of this process and its peak, in MB (10^6 bytes)."""
    # Not resource.getrusage, whose peak may be that of the program that started this one.
    status = Path('/proc/self/status').read_text(encoding='ascii')
    now, peak = (int(re.search(rf'{name}:\s+(\d+) kB', status)[1]) * 1024 / 1e6
                 for name in ('VmRSS', 'VmHWM'))
    return round(now, 1), round(peak, 1)


@dataclass
class Live:
    """Runs a stream to its end."""
    stream: Stream
    source: Source
    lines: JsonLines  # gets the events, and the summary last
    queue_size: int = 16  # frames that may wait for the recognition
    seconds: float | None = None  # time of the stream after which it ends
    writer: VideoWriter | None = None  # gets annotated frames
    # Gets each frame, uint8 RGB (H, W, 3), and its events; False ends the stream.
    show: Callable[[np.ndarray, list[dict]], bool] | None = None
    timeline: Timeline | None = None  # gets the states
    # Called with messages for people.
    report: Callable[[str], None] = lambda message: print(message, file=sys.stderr)
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
        self._began, self._memory = clock.monotonic(), resident_megabytes()
        try:
            with StreamRunner(self.source, self.stream, self.queue_size) as runner, \
                    _interrupts(lambda: self._stop(runner, 'interrupted')):
                self._use(runner)
        except BaseException as error:
            self._ended = 'camera lost' if isinstance(error, CameraLost) else 'error'
            raise
        finally:
            if self.writer:
                self.writer.close()
            summary = self._summary()
            self.lines.write(summary)
        if 'reason' in summary:
            self.report(summary['reason'])
        return summary

    def _stop(self, runner: StreamRunner, why: str) -> None:
        self._ended = why
        runner.stop()

    def _use(self, runner: StreamRunner) -> None:
        reported, image = clock.monotonic(), None
        for frame, events in runner:
            shown = [event.to_json() for event in events]
            for event in shown:
                self.lines.write(event)
            if self.lines.closed:
                self._stop(runner, 'output closed')
            latest = self.stream.latest
            if frame is None:  # the end of a file: a short one is one action as a whole
                if self.timeline and events and events[0].event == 'start':
                    self.timeline.conclude(events[0])
                if self.show:
                    self.show(image, shown)
                continue
            image = frame.image
            state = latest.state if latest else UNSURE
            if self.timeline:
                self.timeline.add(frame, state)
            if self.writer:
                self.writer.write(annotate(image, latest, self.stream.dropped,
                                           f'{self._rate():.1f} per second'), frame.time)
            if self.show:
                if latest and latest.time == frame.time and latest not in events:
                    shown.append(latest.to_json())
                if not self.show(image, shown):
                    self._stop(runner, 'window closed')
            if self.seconds is not None and frame.time >= self.seconds:
                self._stop(runner, 'time')
            if clock.monotonic() - reported >= _STATUS_SECONDS:
                reported = clock.monotonic()
                self.report(f'{frame.time:.0f} s: {self.stream.frames} frames, '
                            f'{self.stream.predictions} predictions, '
                            f'{self.stream.dropped} dropped; {state}')

    def _rate(self) -> float:
        return self.stream.predictions / max(clock.monotonic() - self._began, 1e-9)

    def _summary(self) -> dict:
        stream, (now, peak) = self.stream, resident_megabytes()
        median, p95 = (round(float(value), 1) for value in np.percentile(
            stream.latencies_ms, [50, 95])) if stream.latencies_ms else (None, None)
        reason = stream.why_no_prediction()
        return dict(
            event='summary', ended=self._ended, frames=stream.frames,
            dropped=stream.dropped, predictions=stream.predictions,
            seconds=round(clock.monotonic() - self._began, 3),
            predictions_per_second=round(self._rate(), 2),
            latency_ms=dict(median=median, p95=p95),
            rss_mb=dict(start=self._memory[0], end=now),
            peak_rss_mb=dict(start=self._memory[1], end=peak),
            **({'reason': reason} if reason else {}))


@contextlib.contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` at the first SIGINT or SIGTERM; a second one ends the process."""
    before = {number: signal.getsignal(number)
              for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, frame) -> None:
        restore()
        stop()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def camera_lines(lines: JsonLines, report: Callable[[str], None]
                 ) -> Callable[[str, str], None]:
    """Returns the function that a camera calls when it goes away or comes back.

    It writes ``{"event": "camera", "state": "lost" | "retry" | "back", "message": ...}``.
    """
    def notify(state: str, message: str) -> None:
        report(message)
        lines.write(dict(event='camera', state=state, message=message))
    return notify
