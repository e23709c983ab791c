"""Frames in and out, with OpenCV alone: clips, cameras, and annotated video.

Shapes: V views of a clip, T frames of a view, H height, W width.
"""

import math
import re
import threading
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from ... import names as naming
from ...errors import HRI30Error
from ...video.preprocessing import FRAME_RATE, Preprocessing
from .streaming import UNSURE

#: Endings of what counts as a video, in lower case: of clips, and of what browsers record.
VIDEO_SUFFIXES = (*naming.VIDEO_SUFFIXES, '.webm')


# ---- Whole clips -------------------------------------------------------------------------


def check_file(path: str | Path) -> Path:
    """Returns the path of a file.

    Raises:
        HRI30Error: there is none.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'no such file'
        raise HRI30Error(f'{path}: {what}.\nExpected a video.')
    return path


def open_video(path: str | Path) -> cv2.VideoCapture:
    """Opens a video file.

    Raises:
        HRI30Error: no such file, or no video.
    """
    path = check_file(path)
    # FFmpeg by name: other readers of OpenCV take names as patterns of image files.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise HRI30Error(f'{path}: cannot be read as a video.\nExpected one that FFmpeg '
                         'decodes; replace it or move it aside.')
    return capture


def read_clip(path: str | Path, preprocessing: Preprocessing) -> np.ndarray:
    """Decodes a clip and prepares its frames as in testing.

    Only frames that are asked for are converted and kept.

    Args:
        path (str | Path): Of a video.
        preprocessing (Preprocessing): Of the model.

    Returns:
        np.ndarray: uint8 RGB, (V, T, H, W, 3).

    Raises:
        HRI30Error: no such file, no video, or no frames.
    """
    capture = open_video(path)
    claimed = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    frames, total = _decode(capture, preprocessing, claimed)
    if total != claimed:  # a header may be wrong or say nothing: then once more
        if not total:
            raise HRI30Error(f'{path}: no frame of it can be decoded.\nExpected a whole '
                             'video; replace it or move it aside.')
        frames, _ = _decode(open_video(path), preprocessing, total)
    chosen_THWC = np.stack([frames[i] for i in preprocessing.indices(total)])
    return chosen_THWC.reshape(preprocessing.num_views, preprocessing.num_frames,
                               *chosen_THWC.shape[1:])


def _decode(capture: cv2.VideoCapture, preprocessing: Preprocessing, total: int
            ) -> tuple[dict[int, np.ndarray], int]:
    """Returns the prepared frames that a clip of ``total`` frames needs, and its frames."""
    wanted, frames, position = set(preprocessing.indices(total).tolist()), {}, 0
    while capture.grab():
        if position in wanted:
            found, frame_BGR = capture.retrieve()
            if not found:
                break
            frame = cv2.cvtColor(frame_BGR, cv2.COLOR_BGR2RGB)
            frames[position] = preprocessing.frames([frame])[0]
        position += 1
    capture.release()
    return frames, position


# ---- Sources of frames -------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame of a stream.

    Args:
        image (np.ndarray): uint8 RGB, (H, W, 3).
        time (float): When it was taken, in seconds from the begin of the stream.
        captured (float): When it came, ``time.monotonic()``.
        clip (str): Name of the file that it is from; empty for a camera.
    """

    image: np.ndarray
    time: float
    captured: float
    clip: str = ''


class Source(Protocol):
    """Frames one after the other.

    Attributes:
        name (str): For messages.
        live (bool): Whether frames come at their own pace, and are lost if not used.
    """

    name: str
    live: bool

    def read(self) -> Frame | None:
        """Returns the next frame, and waits for it; None at the end."""

    def stop(self) -> None:
        """Lets :meth:`read` return None soon; from any thread."""

    def close(self) -> None:
        """Releases what is open; from the thread that reads."""


class FileSource:
    """Plays video files one after the other, as one stream.

    The first frame of a file follows the last one of the file before at that one's rate.

    Args:
        paths (Sequence[str | Path]): The files.
        realtime (bool): Whether frames come at the pace that they were taken at; otherwise
            as fast as they are used, and none is lost.
        loop (bool): Whether the files are played again and again, until :meth:`stop`.

    Raises:
        HRI30Error: one is no video.
    """

    def __init__(self, paths: Sequence[str | Path], realtime: bool = False,
                 loop: bool = False) -> None:
        self._paths = [check_file(path) for path in paths]
        if not self._paths:
            raise HRI30Error('source: no files.\nExpected one video or more.')
        self.name = str(self._paths[0] if len(self._paths) == 1 else self._paths[0].parent)
        self.live, self._loop = realtime, loop
        self._stopped = threading.Event()
        self._capture = open_video(self._paths[0])
        self._next_file = 0
        self._begin_file()
        self._started: float | None = None
        self._last = -1.0

    def _begin_file(self) -> None:
        self._clip = self._paths[self._next_file].name
        self._next_file += 1
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        #: Frames a second of the file that is played.
        self.fps = rate if 1 <= rate <= 480 else float(FRAME_RATE)
        self._in_file = 0
        self._offset = 0.0

    def read(self) -> Frame | None:
        """See :meth:`Source.read`."""
        while not self._stopped.is_set():
            found, image_BGR = self._capture.read()
            if found:
                return self._deliver(image_BGR)
            self._capture.release()
            if not self._in_file:
                raise HRI30Error(f'{self._paths[self._next_file - 1]}: no frame of it can '
                                 'be decoded.\nExpected a whole video.')
            if self._next_file == len(self._paths):
                if not self._loop:
                    return None
                self._next_file = 0
            begin = self._last + 1 / self.fps
            self._capture = open_video(self._paths[self._next_file])
            self._begin_file()
            self._offset = begin
        return None

    def _deliver(self, image_BGR: np.ndarray) -> Frame | None:
        time = self._offset + self._in_file / self.fps
        # Phones and browsers write frames at uneven times, which the container keeps.
        told = self._offset + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._in_file and math.isfinite(told) and told > self._last:
            time = told
        elif time <= self._last:
            time = self._last + 1 / self.fps
        self._in_file += 1
        self._last = time
        image = cv2.cvtColor(image_BGR, cv2.COLOR_BGR2RGB)
        if self.live:
            if self._started is None:
                self._started = clock.monotonic() - time
            if self._stopped.wait(max(0.0, self._started + time - clock.monotonic())):
                return None
        return Frame(image, time, clock.monotonic(), self._clip)

    def stop(self) -> None:
        """See :meth:`Source.stop`."""
        self._stopped.set()

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._capture.release()


class CameraLost(HRI30Error):
    """A camera went away and did not come back."""


class CameraSource:
    """Frames of a camera or a network stream; opens it again where it goes away.

    Args:
        target (int | str): Number of the camera, or a URL such as ``rtsp://...``.
        retries (int): How often to try again before giving up.
        delay (float): Seconds before the first try; each waits twice as long as the one
            before, 30 s at most.
        notify (Callable): Called with ``lost``, ``retry``, ``back`` and a message.
        open_capture (Callable): Opens the target, as ``cv2.VideoCapture``.

    Raises:
        HRI30Error: it cannot be opened at all.
    """

    live = True

    def __init__(self, target: int | str, retries: int = 8, delay: float = 0.5,
                 notify: Callable[[str, str], None] = lambda kind, message: None,
                 open_capture: Callable | None = None) -> None:
        self.name = (f'camera {target}' if isinstance(target, int)
                     else _without_login(target))
        self._target, self._retries, self._delay = target, retries, delay
        self._notify, self._open = notify, open_capture or _open_camera
        self._stopped = threading.Event()
        self._started: float | None = None
        self._capture = self._open(target)
        if not self._capture.isOpened():
            self._capture.release()
            raise HRI30Error(
                f'{self.name}: cannot be opened.\nExpected a camera that is connected and '
                'not in use by another program (Linux: ls /dev/video*), or a URL that '
                'answers.')
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 1 <= rate <= 480 else float(FRAME_RATE)

    def read(self) -> Frame | None:
        """See :meth:`Source.read`.

        Raises:
            CameraLost: it went away, and no try brought it back.
        """
        if self._stopped.is_set():
            return None
        found, image_BGR = self._capture.read()
        if not found:
            image_BGR = self._reconnect()
            if image_BGR is None:
                return None
        captured = clock.monotonic()
        if self._started is None:
            self._started = captured
        image = cv2.cvtColor(image_BGR, cv2.COLOR_BGR2RGB)
        return Frame(image, captured - self._started, captured)

    def _reconnect(self) -> np.ndarray | None:
        """Returns the first frame after a loss; None where it is stopped meanwhile."""
        self._capture.release()
        if self._stopped.is_set():
            return None
        self._notify('lost', f'{self.name}: no more frames; trying again')
        for attempt in range(self._retries):
            if self._stopped.wait(min(30.0, self._delay * 2 ** attempt)):
                return None
            self._notify('retry', f'{self.name}: try {attempt + 1} of {self._retries}')
            self._capture = self._open(self._target)
            # Some open and never give a frame.
            found, image_BGR = (self._capture.read() if self._capture.isOpened()
                                else (False, None))
            if found:
                self._notify('back', f'{self.name}: back after {attempt + 1} tries')
                return image_BGR
            self._capture.release()
        raise CameraLost(f'{self.name}: went away and did not come back in '
                         f'{self._retries} tries.\nConnect it and start again.')

    def stop(self) -> None:
        """See :meth:`Source.stop`."""
        self._stopped.set()

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._capture.release()


def _without_login(url: str) -> str:
    """Returns a URL without user name and password: messages are kept in logs."""
    return re.sub(r'(?<=://)[^/@]*@', '', url)


def _open_camera(target: int | str) -> cv2.VideoCapture:
    if isinstance(target, int):
        return cv2.VideoCapture(target)
    # A server that says nothing is given up after these milliseconds.
    return cv2.VideoCapture(target, cv2.CAP_FFMPEG, [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000])


def find_videos(folder: str | Path) -> list[Path]:
    """Lists the videos that lie in a folder, by name.

    Raises:
        HRI30Error: there are none.
    """
    found = sorted(path for path in Path(folder).expanduser().iterdir()
                   if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
                   and not path.name.startswith('.'))
    if not found:
        raise HRI30Error(f'{folder}: no videos.\nExpected files that end with '
                         f'{", ".join(VIDEO_SUFFIXES)}.')
    return found


def open_source(target: str, realtime: bool = False, loop: bool = False,
                **camera) -> Source:
    """Opens what a user names.

    Args:
        target (str): The number of a camera, a URL, a video file, or a folder of videos,
            which are played by name, one after the other.
        realtime (bool): Whether files are played at their own pace.
        loop (bool): Whether they are played again and again.
        **camera: Of :class:`CameraSource`.

    Raises:
        HRI30Error: it is not there, or cannot be read.
    """
    if target.isdecimal() and not Path(target).exists():
        return CameraSource(int(target), **camera)
    if '://' in target:
        return CameraSource(target, **camera)
    if Path(target).expanduser().is_dir():
        return FileSource(find_videos(target), realtime, loop)
    return FileSource([target], realtime, loop)


# ---- Annotated video ---------------------------------------------------------------------

# RGB
_WHITE, _GREY = (255, 255, 255), (170, 178, 189)
_SURE, _OPEN, _TRACK = (86, 211, 120), (242, 182, 65), (84, 90, 99)
_FONT = cv2.FONT_HERSHEY_DUPLEX


def annotate(image_HWC: np.ndarray, latest, dropped: int = 0, note: str = '') -> np.ndarray:
    """Draws what is recognized on a frame.

    Args:
        image_HWC (np.ndarray): uint8 RGB, (H, W, 3).
        latest (Event | None): The last prediction, see
            :class:`~hri30_ext.deploy.runtime.streaming.Event`.
        dropped (int): Frames that were lost so far.
        note (str): Such as the rate of predictions.

    Returns:
        np.ndarray: A frame of this size.
    """
    canvas = np.ascontiguousarray(image_HWC).copy()
    height, width = canvas.shape[:2]
    unit = min(height, width) / 480  # of lengths that look right at 720 x 480
    margin, bar = round(12 * unit), round(26 * unit) + 2 * round(12 * unit)
    _shade(canvas, 0, 0, width, bar)
    if latest is None:
        _write(canvas, 'looking ...', margin, bar // 2, 0.9 * unit, _GREY)
        return canvas
    colour = _OPEN if latest.state == UNSURE else _SURE
    small = 0.55 * unit
    facts = [f'{latest.latency_ms:.0f} ms', *([note] if note else []),
             *([f'dropped {dropped}'] if dropped else [])]
    # What is told comes first, where there is no room for all.
    while True:
        right = '   '.join(facts)
        room = width - 3 * margin - _text_width(right, small)
        if len(facts) == 1 or _text_width(latest.state, 0.9 * unit) <= room:
            break
        facts.pop()
    _write(canvas, latest.state, margin, bar // 2, 0.9 * unit, colour, room)
    _write(canvas, right, width - margin - _text_width(right, small), bar // 2, small,
           _WHITE)
    _draw_bars(canvas, latest, unit, colour)
    return canvas


def _draw_bars(canvas: np.ndarray, latest, unit: float, colour: tuple[int, int, int]
               ) -> None:
    """Draws the best classes at the bottom left."""
    height, width = canvas.shape[:2]
    line, margin, scale = round(22 * unit), round(12 * unit), 0.5 * unit
    names = min(max(_text_width(name, scale) for name, _ in latest.top), width // 2)
    percent = _text_width('100 %', scale)
    length, half = round(130 * unit), max(2, round(6 * unit))
    begin = 2 * margin + names
    top = height - len(latest.top) * line - 2 * margin
    _shade(canvas, 0, top, min(width, begin + length + percent + 2 * margin), height)
    for i, (name, score) in enumerate(latest.top):
        middle = top + margin + i * line + line // 2
        _write(canvas, name, margin, middle, scale, _WHITE, names)
        best = name == latest.state or (latest.state == UNSURE and i == 0)
        for end, shade in ((length, _TRACK),
                           (round(length * score), colour if best else _GREY)):
            if end:
                cv2.rectangle(canvas, (begin, middle - half), (begin + end, middle + half),
                              shade, -1)
        text = f'{100 * score:.0f} %'
        right = begin + length + margin + percent
        _write(canvas, text, right - _text_width(text, scale), middle, scale, _WHITE)


def _shade(canvas: np.ndarray, left: int, top: int, right: int, bottom: int) -> None:
    """Darkens a part of a frame, so that bright text is readable on any picture."""
    part = canvas[max(0, top):bottom, left:right]
    part[:] = part // 5


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, _FONT, scale, 1)[0][0]


def _write(canvas: np.ndarray, text: str, left: int, middle: int, scale: float,
           colour: tuple[int, int, int], room: int | None = None) -> None:
    """Writes text around a height, shortened where it has no room."""
    # OpenCV's fonts have no other letters.
    text = text.encode('ascii', 'replace').decode()
    while room is not None and len(text) > 4 and _text_width(text, scale) > room:
        text = text[:-4] + '...'
    ascent = cv2.getTextSize('Hg', _FONT, scale, 1)[0][1]
    cv2.putText(canvas, text, (left, middle + ascent // 2), _FONT, scale, colour, 1,
                cv2.LINE_AA)


class VideoWriter:
    """Writes RGB frames as a video, MPEG-4 in .mp4 or .avi, at the pace of their times.

    Frames are repeated where some are missing, and left out where they come faster.

    Args:
        path (str | Path): The file; it is there when :meth:`close` returns.
        fps (float): Frames a second.

    Raises:
        HRI30Error: another ending, or it cannot be written.
    """

    #: A longer pause, as of a camera that went away, is cut to these seconds.
    LONGEST_PAUSE = 2.0

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path, self.fps = Path(path).expanduser(), fps
        if self.path.suffix.lower() not in ('.mp4', '.avi'):
            raise HRI30Error(f'{path}: expected a name that ends with .mp4 or .avi.')
        self._temporary = self.path.with_name(f'.{self.path.stem}-part{self.path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._written = 0.0  # seconds that are written
        self._last: float | None = None  # time of the last frame
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()
        except OSError as error:
            raise HRI30Error(f'{path}: cannot be written ({error.strerror or error}).\n'
                             'Choose another folder.') from error

    def write(self, image_HWC: np.ndarray, time: float) -> None:
        """Appends a frame, uint8 RGB, (H, W, 3); all get the size of the first.

        Args:
            time (float): In seconds. The frame is shown until here, from the one before.

        Raises:
            HRI30Error: OpenCV has no encoder here.
        """
        if self._writer is None:
            self._open(image_HWC)
        passed = 1 / self.fps if self._last is None else time - self._last
        self._last = time
        before = round(self._written * self.fps)
        self._written += min(max(passed, 0.0), self.LONGEST_PAUSE)
        count = round(self._written * self.fps) - before
        if not count:
            return
        if image_HWC.shape[1::-1] != self._size:
            image_HWC = cv2.resize(image_HWC, self._size)
        image_BGR = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR)
        for _ in range(count):
            self._writer.write(image_BGR)

    def _open(self, image_HWC: np.ndarray) -> None:
        self._size = image_HWC.shape[1::-1]  # width, height
        self._writer = cv2.VideoWriter(
            str(self._temporary), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'),
            self.fps, self._size)
        if not self._writer.isOpened():
            raise HRI30Error(f'{self.path}: OpenCV cannot write MPEG-4 here.')

    def close(self) -> None:
        """Completes the file; without frames, there is none."""
        if self._writer is None:
            self._temporary.unlink(missing_ok=True)
            return
        self._writer.release()
        self._writer = None
        self._temporary.replace(self.path)
