"""Frames in and out of streams: files, cameras, and annotated video.

Shapes: H height, W width.
"""

import contextlib
import re
import threading
import time as clock
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ...errors import HRI30Error
from ...names import VIDEO_SUFFIXES
from ...utils.parallel import available_cores
from ...utils.text import font
from ...video.decode import check_file
from ...video.decoding import CameraDecoder, Decoder
from ...video.preprocessing import FRAME_RATE
from ...video.resize import resize
from .streaming import UNSURE

# ---- Sources of frames -------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame of a stream."""
    image: np.ndarray  # uint8 RGB, (H, W, 3)
    time: float  # when it was taken, in seconds from the start of the stream
    captured: float  # when it arrived, time.monotonic()
    clip: str = ''  # name of its file; empty for a camera
    file: int = 0  # counts the files that are played, from 1; 0 for a camera


class Source:
    """Frames one after the other; subclasses yield them in ``_play()``.

    Attributes:
        name (str): For messages.
        live (bool): Whether frames arrive at their own pace, and are lost if not used.
        fps (float): Frames a second.
    """

    def __init__(self, name: str, live: bool) -> None:
        self.name, self.live = name, live
        self._stopped = threading.Event()
        self._frames = self._play()

    def read(self) -> Frame | None:
        """Waits for the next frame and returns it; None at the end."""
        return None if self._stopped.is_set() else next(self._frames, None)

    def stop(self) -> None:
        """Makes :meth:`read` return None soon; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Releases the file or camera; from the thread that reads."""
        self._frames.close()

    def _set_rate(self, fps: float) -> None:
        self.fps = fps if 1 <= fps <= 480 else float(FRAME_RATE)


class FileSource(Source):
    """Plays video files one after the other.

    The first frame of a file follows the last one of the file before at that one's rate.
    With ``realtime``, frames come at the pace at which they were taken; otherwise as fast
    as they are used, and none is lost. With ``loop``, files play until :meth:`stop`.

    Raises:
        HRI30Error: there is no such file, or the first one is not a video.
    """

    def __init__(self, paths: Sequence[str | Path], realtime: bool = False,
                 loop: bool = False) -> None:
        paths = [check_file(path) for path in paths]
        super().__init__(str(paths[0] if len(paths) == 1 else paths[0].parent), realtime)
        others = islice(cycle(paths), 1, None if loop else len(paths))
        self._decoders = chain([self._open(paths[0])], map(self._open, others))

    def _open(self, path: Path) -> Decoder:
        decoder = Decoder(path, threads=available_cores())
        self._set_rate(decoder.fps)
        return decoder

    def _play(self) -> Iterator[Frame]:
        begin, started = 0., None
        for file, decoder in enumerate(self._decoders, 1):
            clip, last = Path(decoder.filename).name, None
            for image, time in decoder.frames():
                if last is None:
                    offset, last = None if time is None else begin - time, begin
                elif None not in (time, offset) and time + offset > last:
                    # Phones and browsers write frames at uneven times, which the container
                    # keeps.
                    last = time + offset
                else:
                    last += 1 / self.fps
                if self.live:
                    started = clock.monotonic() - last if started is None else started
                    if self._stopped.wait(max(0., started + last - clock.monotonic())):
                        return
                yield Frame(image, last, clock.monotonic(), clip, file)
            begin = last + 1 / self.fps


class CameraLost(HRI30Error):
    """A camera went away and did not come back."""

    exit_code = 3


class CameraSource(Source):
    """Frames of a camera or a network stream, which is reopened if it goes away.

    Args:
        target (int | str): Number of the camera, or a URL such as ``rtsp://...``.
        retries (int): How often to try again before giving up.
        delay (float): Seconds before the first try; each waits twice as long as the one
            before, 30 s at most.
        notify (Callable): Called with ``lost``, ``retry`` or ``back``, and a message.

    Raises:
        HRI30Error: it cannot be opened.
        CameraLost: when it is read: it went away, and no try brought it back.
    """

    def __init__(self, target: int | str, retries: int = 8, delay: float = 0.5,
                 notify: Callable[[str, str], None] = lambda kind, message: None) -> None:
        # Without user name and password: messages are kept in logs.
        super().__init__(f'camera {target}' if isinstance(target, int)
                         else re.sub(r'(?<=://)[^/?#]*@', '', target), live=True)
        self._target = f'/dev/video{target}' if isinstance(target, int) else target
        self._retries, self._delay, self._notify = retries, delay, notify
        try:
            decoder = CameraDecoder(self._target)
        except HRI30Error as error:
            raise HRI30Error(f'{self.name}: cannot be opened.\nExpected a camera that no '
                             'other program uses, or a URL that answers.') from error
        self._set_rate(decoder.fps)
        self._images = decoder.frames()

    def close(self) -> None:
        super().close()
        self._images.close()

    def _play(self) -> Iterator[Frame]:
        started = None
        while frame := next(self._images, None) or self._reconnect():
            captured = clock.monotonic()
            started = captured if started is None else started
            yield Frame(frame[0], captured - started, captured)

    def _reconnect(self) -> tuple | None:
        """Returns the first frame after a loss; None where it is stopped meanwhile."""
        if self._stopped.is_set():
            return None
        self._notify('lost', f'{self.name}: no more frames; trying again')
        for attempt in range(self._retries):
            if self._stopped.wait(min(30.0, self._delay * 2 ** attempt)):
                return None
            self._notify('retry', f'{self.name}: try {attempt + 1} of {self._retries}')
            # Some open and never give a frame.
            with contextlib.suppress(HRI30Error):
                self._images = CameraDecoder(self._target).frames()
                if frame := next(self._images, None):
                    self._notify('back', f'{self.name}: back after {attempt + 1} tries')
                    return frame
        raise CameraLost(f'{self.name}: went away and did not come back in '
                         f'{self._retries} tries.\nConnect it and start again.')


def find_videos(folder: str | Path) -> list[Path]:
    """Lists the videos that lie in a folder, by name; an HRI30Error if there are none."""
    videos = sorted(path for path in Path(folder).expanduser().iterdir()
                    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
                    and not path.name.startswith('.'))
    if not videos:
        raise HRI30Error(f'{folder}: no videos.\nExpected files in it, not in folders, '
                         f'that end with {", ".join(VIDEO_SUFFIXES)}.')
    return videos


def open_source(target: str, realtime: bool = False, loop: bool = False,
                **camera) -> Source:
    """Opens the number or device of a camera, a URL, a video file, or a folder of videos,
    which are played by name; an HRI30Error: it is not there, or cannot be read. The other
    arguments are of :class:`FileSource` and :class:`CameraSource`.
    """
    path = Path(target).expanduser()
    if '://' in target or path.is_char_device():  # /dev/video0, /dev/v4l/by-id/...
        return CameraSource(target, **camera)
    if target.isdecimal() and not path.exists():
        return CameraSource(int(target), **camera)
    return FileSource(find_videos(path) if path.is_dir() else [path], realtime, loop)


# ---- Annotated video ---------------------------------------------------------------------

# RGB
_WHITE, _GREY = (255, 255, 255), (170, 178, 189)
_SURE, _OPEN, _TRACK = (86, 211, 120), (242, 182, 65), (84, 90, 99)
_SHADE = (0, 0, 0, 204)  # with opacity: bright text is readable on any picture

_LONGEST_PAUSE = 2.0  # seconds to which longer ones of a video are cut


def annotate(image_HWC: np.ndarray, latest, dropped: int = 0, note: str = '') -> np.ndarray:
    """Draws the last prediction on a copy of a frame.

    Args:
        image_HWC (np.ndarray): uint8 RGB, (H, W, 3).
        latest (Event | None): The last prediction, see
            :class:`~hri30_ext.deploy.runtime.streaming.Event`.
        dropped (int): Frames that were lost so far.
        note (str): Such as the rate of predictions.
    """
    from PIL import Image, ImageDraw
    picture = Image.fromarray(image_HWC).copy()
    draw, (width, height) = ImageDraw.Draw(picture, 'RGBA'), picture.size
    line = max(8, round(min(width, height) / 22))  # height of a line of text
    writing, bar = font(round(.65 * line)), round(.3 * width)  # length of a score of 1

    def write(text: str, x: int, row: int, colour: tuple, anchor: str = 'lm') -> None:
        """Writes text in a row, counted from the top, or from -1 at the bottom."""
        draw.text((x, row * line + line // 2 + height * (row < 0)), text, colour, writing,
                  anchor)

    draw.rectangle((0, 0, width, line), _SHADE)
    if latest is None:
        write('looking ...', line, 0, _GREY)
        return np.asarray(picture)
    colour = _OPEN if latest.state == UNSURE else _SURE
    facts = [f'{latest.latency_ms:.0f} ms', note, f'dropped {dropped}' if dropped else '']
    write(latest.state, line, 0, colour)
    write('   '.join(filter(None, facts)), width - line, 0, _WHITE, 'rm')
    # The best classes, at the bottom left: a bar with the name on it.
    draw.rectangle((0, height - len(latest.top) * line, bar, height), _SHADE)
    for row, (name, score) in enumerate(latest.top, -len(latest.top)):
        best = name == latest.state or (latest.state == UNSURE and row == -len(latest.top))
        top = height + row * line
        draw.rectangle((0, top, round(bar * score), top + line - 2),
                       colour if best else _TRACK)
        write(f'{name} {100 * score:.0f} %', line, row, _WHITE)
    return np.asarray(picture)


class VideoWriter:
    """Writes RGB frames as a video, MPEG-4 in .mp4 or .avi, at the pace of their times.

    Frames are repeated where some are missing, and left out where they come faster. The
    file is complete when :meth:`close` returns; without frames, there is none.

    Raises:
        HRI30Error: another ending, or the file cannot be written; as in all methods.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path, self.fps = Path(path).expanduser(), fps
        if self.path.suffix.lower() not in ('.mp4', '.avi'):
            raise HRI30Error(f'{path}: expected a name that ends with .mp4 or .avi.')
        self._temporary = self.path.with_name(f'.{self.path.stem}-part{self.path.suffix}')
        self._seconds = 0.  # of the video so far
        self._last: float | None = None  # time of the last frame
        self._count = 0  # frames written
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), 'w')
        # MPEG-4 has 16 bits for the numerator. Phones film 120000/1001 a second.
        rate = Fraction(fps).limit_denominator(min(1001, int(65000 / fps)))
        self._stream = self._container.add_stream(
            'mpeg4', rate, {'qmin': '4', 'qmax': '4'})
        self._stream.pix_fmt = 'yuv420p'

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            raise HRI30Error(f'{self.path}: cannot be written ({error.strerror or error}).'
                             '\nChoose another folder.') from error

    def write(self, image_HWC: np.ndarray, time: float) -> None:
        """Appends a frame, uint8 RGB (H, W, 3); all get the size of the first.

        It is shown until ``time``, in seconds, from that of the one before.
        """
        if self._last is None:
            self._stream.width, self._stream.height = image_HWC.shape[1::-1]
        passed = 1 / self.fps if self._last is None else time - self._last
        self._last = time
        self._seconds += min(max(passed, 0.), _LONGEST_PAUSE)
        if self._count >= round(self._seconds * self.fps):
            return
        image_HWC = resize(image_HWC, self._stream.width, self._stream.height)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HWC), 'rgb24')
        frame = frame.reformat(format='yuv420p')
        with self._explained():
            while self._count < round(self._seconds * self.fps):
                frame.pts = self._count
                self._count += 1
                self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Completes the file."""
        try:
            with self._explained():
                if self._count:
                    self._container.mux(self._stream.encode(None))
                    self._container.close()
                    self._temporary.replace(self.path)
        finally:
            with contextlib.suppress(OSError, av.FFmpegError):  # a full disk, told above
                self._container.close()
            self._temporary.unlink(missing_ok=True)
