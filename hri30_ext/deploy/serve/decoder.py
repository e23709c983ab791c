"""Decodes what was uploaded, in a process that may hang or crash without harm.

``python -m hri30_ext.deploy.serve.decoder MODE LIMITS [PATH]``, started by
:mod:`hri30_ext.deploy.serve.decoding` alone. Only numpy and OpenCV are imported, so that a
process for each clip is affordable. What it writes to standard output are messages: the
length of a JSON text (uint32, little-endian), the text, and as many bytes of data as its
``bytes`` says. An error is ``{"error": CODE, "message": TEXT}``.

Modes:

- ``clip PATH``: one message, what the model takes, (V, T, H, W, 3) uint8 RGB: V views of
  T frames, see :class:`~hri30_ext.video.preprocessing.Preprocessing`
- ``preview PATH``: one message a frame, a JPEG for the page, and one more
- ``frames``: one empty message; then JPEGs from standard input, each after its length
  (uint32), until it ends; for each one message, a frame, (H, W, 3) uint8 RGB
"""

import json
import math
import os
import resource
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

import cv2
import numpy as np

from ...errors import HRI30Error
from ...video.preprocessing import Preprocessing
from ..runtime.video_io import read_clip

#: Longest side in pixels, and quality in percent, of the frames for the page.
PREVIEW_SIDE, PREVIEW_QUALITY = 640, 80


class Rejected(Exception):
    """What was uploaded cannot be used: a code for programs and a text for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def limit_process(memory_bytes: int, cpu_seconds: float | None) -> None:
    """Gives up memory, time, and the right to write files, before anything is read."""
    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0,
              resource.RLIMIT_CORE: 0}
    if cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(cpu_seconds) + 1
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def write_message(out: BinaryIO, header: dict, data: bytes | memoryview = b'') -> None:
    """Writes one message; the length of the data is added to its header."""
    text = json.dumps({**header, 'bytes': len(data)}).encode()
    out.write(struct.pack('<I', len(text)) + text)
    out.write(data)
    out.flush()


def write_array(out: BinaryIO, array: np.ndarray, **header) -> None:
    """Writes one message with an array of uint8."""
    write_message(out, {'shape': array.shape, **header},
                  memoryview(np.ascontiguousarray(array)).cast('B'))


# ---- Clips ------------------------------------------------------------------------------


class Clip:
    """Frames of a file, one after the other, within limits.

    Args:
        path (str): The file; what it is is seen from its content.
        limits (dict): Those of :class:`~.settings.Settings`, by name.

    Attributes:
        width (int): In pixels, as ``height``.
        fps (float): Frames a second; 0 where unknown.
        total_frames (int): As many as were passed, as ``seconds``.

    Raises:
        Rejected: it is no video, or beyond a limit.
    """

    def __init__(self, path: str, limits: dict) -> None:
        self.limits = limits
        # FFmpeg alone: other backends would take a list of images, or a pipeline.
        self.capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        if not self.capture.isOpened():
            raise Rejected('not_a_video', 'This is not a video that can be decoded.')
        self.width = int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if self.width < 1 or self.height < 1:
            raise Rejected('not_a_video', 'The video has no picture.')
        check_pixels(self.width, self.height, limits)
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 0.
        self.total_frames = 0
        self.seconds = 0.

    def __iter__(self) -> Iterator[float]:
        """Goes from frame to frame and yields the time stamp of each, in seconds.

        The number of frames and the length in a container's header may be wrong or absent:
        what counts is what can be decoded.
        """
        limits = self.limits
        while self.capture.grab():
            # Files without time stamps say 0 for every frame.
            stamp = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            self.seconds = max(self.seconds, stamp,
                               self.total_frames / self.fps if self.fps else 0)
            if self.seconds > limits['max_clip_seconds']:
                raise Rejected('too_long', 'The clip is longer than '
                               f'{limits["max_clip_seconds"]:g} seconds; cut it.')
            self.total_frames += 1
            if self.total_frames > limits['max_clip_frames']:
                raise Rejected('too_long', 'The clip has more than '
                               f'{limits["max_clip_frames"]} frames; cut it.')
            yield self.seconds
        if not self.total_frames:
            raise Rejected('not_a_video', 'No frame of the clip can be decoded.')

    def frame(self) -> np.ndarray:
        """Returns the frame that iteration stands at, (H, W, 3) uint8 BGR."""
        ok, frame_HWC = self.capture.retrieve()
        if not ok:
            raise Rejected('damaged', 'The clip is damaged.')
        check_pixels(frame_HWC.shape[1], frame_HWC.shape[0], self.limits)
        return frame_HWC

    def describe(self) -> dict:
        """Returns what is known once all frames were passed."""
        return {'frames': self.total_frames, 'width': self.width, 'height': self.height,
                'fps': round(self.fps, 3), 'seconds': round(self.seconds, 3)}


def check_pixels(width: int, height: int, limits: dict) -> None:
    """Raises :class:`Rejected` where frames are larger than allowed."""
    if width * height > limits['max_frame_pixels']:
        raise Rejected('frame_too_large', f'A frame of {width}x{height} has more than '
                       f'{limits["max_frame_pixels"]} pixels.')


def write_views(path: str, limits: dict, out: BinaryIO) -> None:
    """Writes the views that the model takes of a clip.

    The clip is passed more than once, to see that it is within limits, and then to take
    the frames of the views: all of them at full size would be a gigabyte a thousand.
    """
    clip = Clip(path, limits)
    for _ in clip:
        pass
    try:
        views_VTHWC = read_clip(path, Preprocessing.from_json(limits['preprocessing']))
    except HRI30Error as error:
        raise Rejected('damaged', 'The clip is damaged, or too small.') from error
    write_array(out, views_VTHWC, clip=clip.describe())


def write_preview(path: str, limits: dict, out: BinaryIO) -> None:
    """Writes one message a frame, with its seconds and a JPEG, and one with the clip."""
    clip = Clip(path, limits)
    scale = min(1., PREVIEW_SIDE / max(clip.width, clip.height))
    size = max(1, round(clip.width * scale)), max(1, round(clip.height * scale))
    for seconds in clip:
        frame_HWC = cv2.resize(clip.frame(), size, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode('.jpg', frame_HWC,
                            [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY])[1]
        write_message(out, {'seconds': seconds}, jpeg.tobytes())
    write_message(out, {'clip': clip.describe()})


# ---- Frames -----------------------------------------------------------------------------


def decode_jpeg(data: bytes, limits: dict) -> np.ndarray:
    """Decodes a JPEG, (H, W, 3) uint8 RGB.

    Raises:
        Rejected: it is none, or not whole, or beyond a limit.
    """
    # OpenCV fills with grey what is missing of a JPEG that was cut.
    if not data.startswith(b'\xff\xd8\xff') or b'\xff\xd9' not in data[-64:]:
        raise Rejected('not_a_jpeg', 'Expected a whole JPEG.')
    try:
        image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8),
                                 cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:  # more than OPENCV_IO_MAX_IMAGE_PIXELS
        raise Rejected('frame_too_large', 'The JPEG has too many pixels.') from error
    if image_HWC is None:
        raise Rejected('not_a_jpeg', 'The JPEG cannot be decoded.')
    check_pixels(image_HWC.shape[1], image_HWC.shape[0], limits)
    return image_HWC


def write_frames(source: BinaryIO, limits: dict, out: BinaryIO) -> None:
    """Answers each JPEG of standard input, until it ends."""
    write_message(out, {})
    while len(length := source.read(4)) == 4:
        data = source.read(struct.unpack('<I', length)[0])
        try:
            write_array(out, decode_jpeg(data, limits))
        except Rejected as error:
            write_message(out, {'error': error.code, 'message': str(error)})


def main() -> NoReturn:
    """Runs one mode."""
    out = os.fdopen(os.dup(1), 'wb')
    # What libraries print does not get among the messages.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    mode, limits = sys.argv[1], json.loads(sys.argv[2])
    cv2.setNumThreads(1)
    limit_process(limits['decoder_memory_bytes'],
                  None if mode == 'frames' else limits['decode_seconds'])
    try:
        if mode == 'frames':
            write_frames(sys.stdin.buffer, limits, out)
        elif mode == 'clip':
            write_views(sys.argv[3], limits, out)
        else:
            write_preview(sys.argv[3], limits, out)
    except Rejected as error:
        write_message(out, {'error': error.code, 'message': str(error)})
    except (MemoryError, cv2.error):
        write_message(out, {'error': 'decoder_failed',
                            'message': 'Decoding failed, or took too much memory.'})
    # Without tidying up: a damaged file may have left libraries in any state.
    os._exit(0)


if __name__ == '__main__':
    main()
