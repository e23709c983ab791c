"""From image messages to predictions and events, without rclpy.

Messages are objects with the fields of ``sensor_msgs/msg/Image`` or ``CompressedImage``.
"""

import time as clock
from collections.abc import Callable
from typing import Annotated

import av
import numpy as np
from msgspec import Meta

from hri30_ext.apis import Recognizer
from hri30_ext.deploy.runtime.streaming import Event, StreamSettings
from hri30_ext.errors import HRI30Error
from hri30_ext.utils.text import printable
from hri30_ext.video.decode import MAX_PIXELS
from hri30_ext.video.jpeg import decode_jpeg
from hri30_ext.video.resize import to_rgb

#: The pixel format of FFmpeg, and bytes a pixel, of each encoding.
_FORMATS = {
    'rgb8': ('rgb24', 3), 'bgr8': ('bgr24', 3), '8UC3': ('bgr24', 3), 'rgba8': ('rgba', 4),
    'bgra8': ('bgra', 4), 'mono8': ('gray', 1), '8UC1': ('gray', 1), 'mono16': ('gray', 2),
    'yuv422': ('uyvy422', 2), 'uyvy': ('uyvy422', 2), 'yuyv': ('yuyv422', 2),
    'yuv422_yuy2': ('yuyv422', 2),
    **{f'bayer_{order}8': (f'bayer_{order}8', 1) for order in (
        'rggb', 'bggr', 'gbrg', 'grbg')}}


class Settings(StreamSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of the node: these, and those of the stream."""
    model: Annotated[str, Meta(min_length=1)] = ''  # an exported folder or a checkpoint
    topic: str = 'image_raw'
    compressed: bool = False  # whether the topic has CompressedImage
    autostart: bool = False  # whether the node configures and activates itself
    threads: Annotated[int, Meta(ge=1)] | None = None  # CPU threads; None: one a core
    provider: str | None = None  # execution provider of ONNX Runtime; None: the CPU
    queue: Annotated[int, Meta(ge=1)] = 16  # images that may wait
    stall_seconds: Annotated[float, Meta(ge=0.1)] = 2.0  # a topic without images is lost


def decode_image(message) -> np.ndarray:
    """Decodes a message to uint8 RGB, (H, W, 3); an HRI30Error says why it cannot."""
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, 'format'):
        return decode_jpeg(data)
    encoding, height, width = message.encoding, message.height, message.width
    if encoding not in _FORMATS:
        raise HRI30Error(f'the encoding {printable(encoding[:40])} is not supported, '
                         f'expected one of {", ".join(_FORMATS)}.')
    (name, size), step = _FORMATS[encoding], message.step
    if not (0 < width * height <= MAX_PIXELS and width * size <= step
            and height * step <= len(data)):
        raise HRI30Error(f'{width} x {height} {encoding} with rows of {step} bytes do not '
                         f'fit {len(data)} bytes.')
    rows = data[:height * step].reshape(height, step)[:, :width * size]
    pixels_HWC = rows if size == 1 else rows.reshape(height, width, size)
    if encoding == 'mono16':  # the high byte
        pixels_HWC = pixels_HWC[:, :, 0 if message.is_bigendian else 1]
    elif name == 'uyvy422':  # PyAV takes the other order alone
        name, pixels_HWC = 'yuyv422', pixels_HWC[:, :, ::-1]
    return to_rgb(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), name),
                  width, height)


class Bridge:
    """Recognizes actions in messages, in ``stream``. For one thread at a time.

    ``report`` gets texts for people, each once. A model that cannot run is an HRI30Error.
    """

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._report, self._reported = report, set()
        self._recognizer = Recognizer.open(settings.model, threads=settings.threads,
                                           provider=settings.provider)
        self._settings = {name: getattr(settings, name)
                          for name in StreamSettings.__struct_fields__}
        self.stream = self._recognizer.stream(**self._settings)
        self.stream.warm_up()

    def push(self, message, captured: float | None = None, more: bool = False
             ) -> tuple[Event | None, list[dict]]:
        """Adds a message; one that cannot be used is reported and skipped.

        Returns the prediction that it caused, and events as ``hri30 stream``
        writes them, at times of ``header.stamp``. For the rest, see ``Stream.push``.
        """
        before, stamp = self.stream.latest, message.header.stamp
        time = stamp.sec + stamp.nanosec / 1e9
        if not time:
            time = clock.time()
            self._once('header.stamp is 0: the time of arrival is used')
        try:
            events = self.stream.push(decode_image(message), time, captured, more)
        except Exception as error:  # those of runtimes and decoders share no class
            self._once(f'images are skipped: {error}')
            return None, []
        for event in events:
            if event.event == 'reset':
                self._once('the stream starts again: ' + (
                    'header.stamp jumped back' if event.reason == 'back' else
                    'no image for longer than a window'))
        latest = self.stream.latest
        return (None if latest is before else latest), [one.to_json() for one in events]

    def close(self) -> list[dict]:
        """Ends the action in progress and begins a new stream; returns the events."""
        events = [event.to_json() for event in self.stream.close()]
        self.stream = self._recognizer.stream(**self._settings)
        return events

    def _once(self, text: str) -> None:
        if text not in self._reported and len(self._reported) < 50:  # bounds memory
            self._reported.add(text)
            self._report(text)
