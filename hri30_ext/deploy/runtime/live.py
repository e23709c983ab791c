"""A stream from its source to events, an annotated video, a window, and a summary.

The summary is the last line:

========================== ==============================================================
``event``                  ``summary``
``ended``                  ``end`` of the source, ``interrupted``, ``time``, ``window
                           closed``, ``output closed``, ``camera lost`` or ``error``
``frames``, ``dropped``    that were used, and that were lost because they came faster
``predictions``            that were made
``seconds``                of this machine's clock, without loading the model
``predictions_per_second`` over these seconds
``latency_ms``             ``median`` and ``p95`` of the last 10,000 predictions: from the
                           capture of a frame to the end of the prediction it caused; of
                           files that are not played in real time, from its use
``rss_mb``                 resident memory in MB (10^6 bytes) at ``start``, with the model
                           loaded and run once, and at the ``end``
``peak_rss_mb``            its peak until then
========================== ==============================================================
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from ...utils.fileio import atomic_write_text
from ...utils.text import format_csv
from .streaming import UNSURE, Stream, StreamRunner
from .video_io import CameraLost, Frame, Source, VideoWriter, annotate

#: Seconds between two messages on how it goes.
_STATUS_SECONDS = 10.0

_WINDOW = 'actions (q ends)'


# ---- What is written ---------------------------------------------------------------------


class JsonLines:
    """Writes one JSON object a line, each at once, from any thread.

    Args:
        out (TextIO): Where to.

    Attributes:
        closed (bool): Whether who reads has gone, as ``head`` does.
    """

    def __init__(self, out: TextIO) -> None:
        self._out, self.closed = out, False
        self._lock = threading.Lock()

    def write(self, content: dict) -> None:
        """Writes a line; without a reader, nothing."""
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
    """What was told while each file was played, beside what its name says.

    Args:
        classes (Sequence[str]): Class names; ``CID`` in a file's name counts from 1.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._rows: list[dict] = []
        self._state = UNSURE

    def add(self, frame: Frame, state: str) -> None:
        """Takes a frame, and what is told from then on."""
        if self._rows:
            row = self._rows[-1]
            row['told'][self._state] += frame.time - row['end']
            row['end'] = frame.time
        if not self._rows or self._rows[-1]['clip'] != frame.clip:
            self._rows.append(dict(
                clip=frame.clip, begin=frame.time, end=frame.time,
                truth=self._truth(frame.clip), told=Counter(), after=None))
        row, self._state = self._rows[-1], state
        if row['after'] is None and state == row['truth']:
            row['after'] = frame.time - row['begin']

    def _truth(self, name: str) -> str:
        found = re.match(r'CID(\d{1,4})_', name, re.IGNORECASE)
        label = int(found[1]) if found else 0
        return self._classes[label - 1] if 0 < label <= len(self._classes) else ''

    def write(self, path: str | Path) -> None:
        """Writes a CSV file: a line for each file that was played.

        ``told`` are seconds by class, most first; ``correct_after`` the seconds from its
        begin until its own class was told, empty where it was not.
        """
        rows = []
        for row in self._rows:
            told = '; '.join(f'{name} {seconds:.2f}'
                             for name, seconds in row['told'].most_common() if seconds)
            after = '' if row['after'] is None else f'{row["after"]:.2f}'
            rows.append([row['clip'], f'{row["begin"]:.2f}', f'{row["end"]:.2f}',
                         row['truth'], told, after])
        atomic_write_text(path, format_csv(
            ('clip', 'begin', 'end', 'truth', 'told', 'correct_after'), rows))


# ---- Memory ------------------------------------------------------------------------------


def resident_megabytes() -> tuple[float | None, float | None]:
    """Returns the resident memory of this process now, and its peak, in MB (10^6 bytes).

    None where the system does not say.
    """
    try:
        status = Path('/proc/self/status').read_text(encoding='ascii')
    except OSError:
        return None, None
    found = dict(re.findall(r'^(VmRSS|VmHWM):\s+(\d+) kB', status, re.MULTILINE))
    now, peak = (round(int(found[name]) * 1024 / 1e6, 1) if name in found else None
                 for name in ('VmRSS', 'VmHWM'))
    return now, peak


# ---- A window ----------------------------------------------------------------------------


def can_show() -> bool:
    """Whether a window can be opened here.

    It is tried in a process of its own: without a display, some builds of OpenCV end the
    process that asks.
    """
    code = 'import cv2; cv2.namedWindow("test"); cv2.waitKey(1); cv2.destroyAllWindows()'
    try:
        return subprocess.run([sys.executable, '-c', code], capture_output=True,
                              timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def show(image_HWC: np.ndarray) -> bool:
    """Shows a frame, uint8 RGB; False says that who looks at it has had enough."""
    cv2.imshow(_WINDOW, cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(1) & 0xff
    return key not in (ord('q'), 27) and cv2.getWindowProperty(
        _WINDOW, cv2.WND_PROP_VISIBLE) >= 1


# ---- All of it ---------------------------------------------------------------------------


@dataclass
class Live:
    """Runs a stream to its end.

    Args:
        stream (Stream): What recognizes.
        source (Source): Where frames are from.
        lines (JsonLines): Gets the events, and the summary last.
        queue_size (int): Frames that may wait for the recognition.
        seconds (float, optional): Of the stream, after which it ends.
        writer (VideoWriter, optional): Gets annotated frames.
        window (bool): Whether they are shown.
        timeline (Timeline, optional): Gets what was told, by file.
        report (Callable): Called with messages for people.
    """

    stream: Stream
    source: Source
    lines: JsonLines
    queue_size: int = 16
    seconds: float | None = None
    writer: VideoWriter | None = None
    window: bool = False
    timeline: Timeline | None = None
    report: Callable[[str], None] = lambda message: print(message, file=sys.stderr)
    _ended: str = field(default='end', init=False)

    def run(self) -> dict:
        """Runs until the source ends, or SIGINT or SIGTERM ask for it.

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
        except CameraLost:
            self._ended = 'camera lost'
            raise
        except BaseException:
            self._ended = 'error'
            raise
        finally:
            if self.writer:
                self.writer.close()
            if self.window:
                cv2.destroyAllWindows()
            summary = self._summary()
            self.lines.write(summary)
        return summary

    def _stop(self, runner: StreamRunner, why: str) -> None:
        self._ended = why
        runner.stop()

    def _use(self, runner: StreamRunner) -> None:
        told = clock.monotonic()
        for frame, events in runner:
            for event in events:
                self.lines.write(event.to_json())
            if self.lines.closed:
                self._stop(runner, 'output closed')
            if frame is None:
                continue
            self._present(frame, runner)
            if self.seconds is not None and frame.time >= self.seconds:
                self._stop(runner, 'time')
            if clock.monotonic() - told >= _STATUS_SECONDS:
                told = clock.monotonic()
                self._tell_status(frame)

    def _present(self, frame: Frame, runner: StreamRunner) -> None:
        latest = self.stream.latest
        if self.timeline:
            self.timeline.add(frame, latest.state if latest else UNSURE)
        if not (self.writer or self.window):
            return
        image = annotate(frame.image, latest, self.stream.dropped,
                         f'{self._rate():.1f} a second')
        if self.writer:
            self.writer.write(image, frame.time)
        if self.window and not show(image):
            self._stop(runner, 'window closed')

    def _rate(self) -> float:
        passed = clock.monotonic() - self._began
        return self.stream.predictions / passed if passed > 0 else 0.0

    def _tell_status(self, frame: Frame) -> None:
        latest = self.stream.latest
        self.report(f'{frame.time:.0f} s: {self.stream.frames} frames, '
                    f'{self.stream.predictions} predictions, {self.stream.dropped} '
                    f'dropped; {latest.state if latest else UNSURE}')

    def _summary(self) -> dict:
        latencies = self.stream.latencies_ms
        median, p95 = (round(float(value), 1) for value in
                       np.percentile(latencies, [50, 95])) if latencies else (None, None)
        now, peak = resident_megabytes()
        return dict(
            event='summary', ended=self._ended, frames=self.stream.frames,
            dropped=self.stream.dropped, predictions=self.stream.predictions,
            seconds=round(clock.monotonic() - self._began, 3),
            predictions_per_second=round(self._rate(), 2),
            latency_ms=dict(median=median, p95=p95),
            rss_mb=dict(start=self._memory[0], end=now),
            peak_rss_mb=dict(start=self._memory[1], end=peak))


@contextlib.contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` at the first SIGINT or SIGTERM; a second one ends the process."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, frame) -> None:
        restore()
        stop()

    for number in signals:
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def source_lines(lines: JsonLines, report: Callable[[str], None]
                 ) -> Callable[[str, str], None]:
    """Returns what a camera calls when it goes away or comes back.

    It writes ``{"event": "camera", "state": "lost" | "retry" | "back", "message": ...}``.
    """
    def notify(state: str, message: str) -> None:
        report(message)
        lines.write(dict(event='camera', state=state, message=message))
    return notify
