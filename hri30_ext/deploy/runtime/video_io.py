"""Frames in and out of streams: files, cameras, and annotated video.

Shapes: H height, W width.
"""

import itertools
import re
import threading
import time as clock
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import numpy as np

from ... import names as naming
from ...errors import HRI30Error
from ...utils.parallel import available_cores
from ...video.decode import check_file, read_clip
from ...video.decoding import Decoder
from ...video.preprocessing import FRAME_RATE
from ...video.resize import resize
from .streaming import UNSURE

__all__ = ['CameraLost', 'CameraSource', 'FileSource', 'Frame', 'Source', 'VideoWriter',
           'annotate', 'check_file', 'find_videos', 'open_source', 'read_clip']

#: Endings of what counts as a video, in lower case: of clips, and of what browsers record.
VIDEO_SUFFIXES = naming.VIDEO_SUFFIXES


# ---- Sources of frames -------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame of a stream.

    Args:
        image (np.ndarray): uint8 RGB, (H, W, 3).
        time (float): When it was taken, in seconds from the start of the stream.
        captured (float): When it arrived, ``time.monotonic()``.
        clip (str): Name of its file; empty for a camera.
    """

    image: np.ndarray
    time: float
    captured: float
    clip: str = ''


class Source(Protocol):
    """Frames one after the other.

    Attributes:
        name (str): For messages.
        live (bool): Whether frames arrive at their own pace, and are lost if not used.
    """

    name: str
    live: bool

    def read(self) -> Frame | None:
        """Waits for the next frame and returns it; None at the end."""

    def stop(self) -> None:
        """Makes :meth:`read` return None soon; from any thread."""

    def close(self) -> None:
        """Releases the file or camera; from the thread that reads."""


class FileSource:
    """Plays video files one after the other, as one stream.

    The first frame of a file follows the last one of the file before at that one's rate.

    Args:
        paths (Sequence[str | Path]): The files.
        realtime (bool): Whether frames come at the pace at which they were taken; otherwise
            as fast as they are used, and none is lost.
        loop (bool): Whether the files are played again and again, until :meth:`stop`.

    Attributes:
        fps (float): Frames a second of the file that is played.

    Raises:
        HRI30Error: there is no file, or the first one is not a video.
    """

    def __init__(self, paths: Sequence[str | Path], realtime: bool = False,
                 loop: bool = False) -> None:
        paths = [check_file(path) for path in paths]
        if not paths:
            raise HRI30Error('source: no files.\nExpected one video or more.')
        self.name = str(paths[0] if len(paths) == 1 else paths[0].parent)
        self.live = realtime
        self._paths = itertools.cycle(paths) if loop else iter(paths)
        self._stopped = threading.Event()
        self._started: float | None = None  # when the first frame was due
        self._last: float | None = None  # time of the last frame
        self._open(next(self._paths))

    def _open(self, path: Path) -> None:
        decoder = Decoder(path, threads=available_cores())
        begin = 0. if self._last is None else self._last + 1 / self.fps
        self.fps = _valid_rate(decoder.fps)
        self._clip, self._frames = path.name, decoder.frames()
        # In the file, of its first frame; and in the stream.
        self._first, self._begin = None, begin

    def read(self) -> Frame | None:
        """See :meth:`Source.read`."""
        while not self._stopped.is_set():
            frame = next(self._frames, None)
            if frame is not None:
                return self._deliver(*frame)
            path = next(self._paths, None)
            if path is None:
                return None
            self._open(path)
        return None

    def _deliver(self, image: np.ndarray, time: float | None) -> Frame | None:
        if self._first is None:
            self._first, stream_time = time, self._begin
        else:
            stream_time = self._last + 1 / self.fps
            # Phones and browsers write frames at uneven times, which the container keeps.
            if None not in (time, self._first) and (
                    self._begin + time - self._first > self._last):
                stream_time = self._begin + time - self._first
        self._last = stream_time
        if self.live:
            if self._started is None:
                self._started = clock.monotonic() - stream_time
            if self._stopped.wait(max(0., self._started + stream_time - clock.monotonic())):
                return None
        return Frame(image, stream_time, clock.monotonic(), self._clip)

    def stop(self) -> None:
        """See :meth:`Source.stop`."""
        self._stopped.set()

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._frames.close()


def _valid_rate(fps: float) -> float:
    return fps if 1 <= fps <= 480 else float(FRAME_RATE)


_CAP_PROP_FPS = 5  # of OpenCV


class CameraLost(HRI30Error):
    """A camera went away and did not come back."""


class CameraSource:
    """Frames of a camera or a network stream, reopened where it goes away. Needs OpenCV.

    Args:
        target (int | str): Number of the camera, or a URL such as ``rtsp://...``.
        retries (int): How often to try again before giving up.
        delay (float): Seconds before the first try; each waits twice as long as the one
            before, 30 s at most.
        notify (Callable): Called with ``lost``, ``retry`` or ``back``, and a message.
        open_capture (Callable, optional): Opens the target, as ``cv2.VideoCapture``.

    Raises:
        HRI30Error: it cannot be opened, or OpenCV is not installed.
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
        self.fps = _valid_rate(self._capture.get(_CAP_PROP_FPS))

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
        image = np.ascontiguousarray(image_BGR[..., ::-1])
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


def _open_camera(target: int | str):
    try:
        import cv2
    except ImportError as error:
        raise HRI30Error('a camera needs OpenCV, which is not installed.\nInstall it with: '
                         'pip install opencv-python-headless') from error
    if isinstance(target, int):
        return cv2.VideoCapture(target)
    # Milliseconds until a silent server is given up.
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


def annotate(image_HWC: np.ndarray, latest, dropped: int = 0, note: str = '') -> np.ndarray:
    """Draws the last prediction on a frame.

    Args:
        image_HWC (np.ndarray): uint8 RGB, (H, W, 3).
        latest (Event | None): The last prediction, see
            :class:`~hri30_ext.deploy.runtime.streaming.Event`.
        dropped (int): Frames that were lost so far.
        note (str): Such as the rate of predictions.

    Returns:
        np.ndarray: A frame of this size.
    """
    drawing = _Drawing(image_HWC)
    drawing.shade(0, 0, drawing.width, drawing.bar)
    middle, right = drawing.bar // 2, drawing.width - drawing.margin
    if latest is None:
        drawing.text('looking ...', drawing.margin, middle, 24, _GREY)
        return np.asarray(drawing.picture)
    colour = _OPEN if latest.state == UNSURE else _SURE
    facts = [f'{latest.latency_ms:.0f} ms', note, f'dropped {dropped}' if dropped else '']
    facts = [fact for fact in facts if fact]
    # The state comes first where there is no room for all.
    while True:
        text = '   '.join(facts)
        room = right - 2 * drawing.margin - drawing.text_width(text, 15)
        if len(facts) == 1 or drawing.text_width(latest.state, 24) <= room:
            break
        facts.pop()
    drawing.text(latest.state, drawing.margin, middle, 24, colour, room)
    drawing.text(text, right, middle, 15, _WHITE, anchor='rm')
    _draw_bars(drawing, latest, colour)
    return np.asarray(drawing.picture)


class _Drawing:
    """A copy of a frame to draw on; sizes of text are for 480 lines."""

    def __init__(self, image_HWC: np.ndarray) -> None:
        from PIL import Image, ImageDraw
        self.picture = Image.fromarray(np.ascontiguousarray(image_HWC)).copy()
        self.draw = ImageDraw.Draw(self.picture)
        self.width, self.height = self.picture.size
        self.unit = min(self.width, self.height) / 480
        self.margin = round(12 * self.unit)
        self.bar = round(26 * self.unit) + 2 * self.margin

    def shade(self, left: int, top: int, right: int, bottom: int) -> None:
        """Darkens a part, so that bright text is readable on any picture."""
        box = left, max(0, top), min(right, self.width), bottom
        self.picture.paste(self.picture.crop(box).point(lambda value: value // 5), box[:2])

    def text_width(self, text: str, size: int) -> int:
        """Returns the width of a text in pixels."""
        return round(self._font(size).getlength(text))

    def text(self, text: str, x: int, middle: int, size: int, colour: tuple,
             room: int | None = None, anchor: str = 'lm') -> None:
        """Writes text around a height, shortened where it has no room."""
        while room is not None and len(text) > 4 and self.text_width(text, size) > room:
            text = text[:-4] + '...'
        self.draw.text((x, middle), text, colour, self._font(size), anchor)

    def _font(self, size: int):
        return _load_font(max(1, round(size * self.unit)))


@lru_cache(maxsize=16)
def _load_font(size: int):
    from PIL import ImageFont
    return ImageFont.load_default(size)


def _draw_bars(drawing: _Drawing, latest, colour: tuple) -> None:
    """Draws the best classes at the bottom left."""
    margin, line, size = drawing.margin, round(22 * drawing.unit), 14
    names = min(max(drawing.text_width(name, size) for name, _ in latest.top),
                drawing.width // 2)
    begin, length = 2 * margin + names, round(130 * drawing.unit)
    right = begin + length + margin + drawing.text_width('100 %', size)
    half = max(2, round(6 * drawing.unit))
    top = drawing.height - len(latest.top) * line - 2 * margin
    drawing.shade(0, top, right + margin, drawing.height)
    for i, (name, score) in enumerate(latest.top):
        middle = top + margin + i * line + line // 2
        drawing.text(name, margin, middle, size, _WHITE, names)
        best = name == latest.state or (latest.state == UNSURE and i == 0)
        for end, shade in ((length, _TRACK),
                           (round(length * score), colour if best else _GREY)):
            if end:
                drawing.draw.rectangle(
                    (begin, middle - half, begin + end, middle + half), shade)
        drawing.text(f'{100 * score:.0f} %', right, middle, size, _WHITE, anchor='rm')


class VideoWriter:
    """Writes RGB frames as a video, MPEG-4 in .mp4 or .avi, at the pace of their times.

    Frames are repeated where some are missing, and left out where they come faster.

    Args:
        path (str | Path): The file; it is complete when :meth:`close` returns.
        fps (float): Frames a second.

    Raises:
        HRI30Error: another ending, or the file cannot be written.
    """

    #: A longer pause, as of a camera that went away, is cut to these seconds.
    LONGEST_PAUSE = 2.0

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path, self.fps = Path(path).expanduser(), fps
        if self.path.suffix.lower() not in ('.mp4', '.avi'):
            raise HRI30Error(f'{path}: expected a name that ends with .mp4 or .avi.')
        self._temporary = self.path.with_name(f'.{self.path.stem}-part{self.path.suffix}')
        self._seconds = 0.  # of the video so far
        self._last: float | None = None  # time of the last frame
        self._count = 0  # frames written
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), 'w')
        except OSError as error:
            raise self._error(error) from error
        self._stream = self._container.add_stream(
            'mpeg4', Fraction(fps).limit_denominator(1001), {'qmin': '4', 'qmax': '4'})
        self._stream.pix_fmt = 'yuv420p'

    def write(self, image_HWC: np.ndarray, time: float) -> None:
        """Appends a frame, uint8 RGB, (H, W, 3); all get the size of the first.

        Args:
            image_HWC (np.ndarray): The frame.
            time (float): In seconds. The frame is shown until then, from the one before.

        Raises:
            HRI30Error: the file cannot be written.
        """
        if self._last is None:
            self._stream.width, self._stream.height = image_HWC.shape[1::-1]
        passed = 1 / self.fps if self._last is None else time - self._last
        self._last = time
        self._seconds += min(max(passed, 0.), self.LONGEST_PAUSE)
        if self._count >= round(self._seconds * self.fps):
            return
        image_HWC = resize(image_HWC, self._stream.width, self._stream.height)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HWC), 'rgb24')
        frame = frame.reformat(format='yuv420p')
        while self._count < round(self._seconds * self.fps):
            frame.pts = self._count
            self._count += 1
            self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Completes the file; without frames, there is none.

        Raises:
            HRI30Error: the file cannot be written.
        """
        try:
            if self._count:
                self._mux(None)
                self._container.close()
                self._temporary.replace(self.path)
        except OSError as error:
            raise self._error(error) from error
        finally:
            self._container.close()
            self._temporary.unlink(missing_ok=True)

    def _error(self, error: OSError) -> HRI30Error:
        return HRI30Error(f'{self.path}: cannot be written ({error.strerror or error}).\n'
                          'Choose another folder.')
