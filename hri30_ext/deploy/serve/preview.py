"""Makes a video of a clip that browsers play; runs in a decoding process."""

import io
from collections.abc import Mapping
from fractions import Fraction
from itertools import islice

import av
import numpy as np

from ...video.decode import ClipError
from ...video.decoding import Decoder, Limits

_SIDE = 640  # longest side, pixels
_TICK = Fraction(1, 1000)  # of the time stamps in a WebM, seconds
# Threads of libvpx wait for each other by spinning, which a busy machine pays for.
_OPTIONS = {'deadline': 'realtime', 'cpu-used': '16', 'threads': '1', 'crf': '8', 'b': '8M'}


def read_preview(filename: str, limits: Mapping, max_bytes: int
                 ) -> tuple[None, list[np.ndarray]]:
    """Reads every frame of a clip into a WebM, (N, ) uint8 with N <= ``max_bytes``.

    ``limits`` are those of :class:`~hri30_ext.video.decoding.Limits`, by name.

    Raises:
        ClipError: the clip cannot be used, or the WebM is too large.
    """
    decoder = Decoder(filename, Limits(**limits))
    rate = decoder.fps or 30
    scale = min(1., _SIDE / max(decoder.size))
    decoder.size = width, height = tuple(
        2 * max(1, round(length * scale / 2)) for length in decoder.size)
    file, begin, tick = io.BytesIO(), None, -1
    with av.open(file, 'w', 'webm') as container:
        stream = container.add_stream(
            'libvpx', Fraction(rate).limit_denominator(1001), _OPTIONS, width=width,
            height=height, time_base=_TICK)
        for number, (image_HWC, time) in enumerate(
                islice(decoder.frames(), decoder.total_frames)):
            time = number / rate if time is None else time
            begin = time if begin is None else begin
            tick = max(tick + 1, round((time - begin) / _TICK))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HWC), 'rgb24')
            frame.pts, frame.time_base = tick, _TICK
            container.mux(stream.encode(frame))
            if file.tell() > max_bytes:
                break
        if not number:  # a browser ends a single frame before it plays
            frame.pts += max(1, round(1 / rate / _TICK))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if file.tell() > max_bytes:
        raise ClipError(filename, 'its frames are too large; cut it', 'too_much_data')
    return None, [np.frombuffer(file.getbuffer(), np.uint8)]
