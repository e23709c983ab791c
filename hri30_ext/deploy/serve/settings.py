"""Limits of the service."""

from dataclasses import dataclass, field

MIB = 2**20


def _limit(default: float, text: str):
    return field(default=default, metadata={'help': text})


@dataclass(frozen=True)
class Settings:
    """Limits of the service, all above zero.

    The texts are the help of ``hri30 serve``. Sizes are in bytes, times in
    seconds.
    """

    max_upload_bytes: int = _limit(
        64 * MIB, 'largest upload, and video of one clip for the page, bytes')
    max_clip_seconds: float = _limit(60., 'longest clip, seconds')
    max_clip_frames: int = _limit(1800, 'most frames of a clip')
    max_frame_pixels: int = _limit(3840 * 2160, 'largest frame, width x height, pixels')
    max_requests: int = _limit(
        4, 'uploads processed at a time; more are answered with 429')
    max_streams: int = _limit(4, 'WebSockets open at a time')
    max_frame_bytes: int = _limit(4 * MIB, 'largest JPEG of a stream, bytes')
    max_frames_waiting: int = _limit(
        8, 'frames of a stream that wait; the oldest is dropped and counted')
    max_window_seconds: float = _limit(
        10., 'longest window that a stream may request, seconds')
    upload_seconds: float = _limit(30., 'time to receive an upload, and to send that video')
    decode_seconds: float = _limit(20., 'time to decode a clip, or a frame')
    predict_seconds: float = _limit(30., 'time to wait for the model and its answer')
    idle_seconds: float = _limit(30., 'a WebSocket that is silent for so long is closed')
    decoder_memory_bytes: int = _limit(
        2048 * MIB, 'address space of a decoding process, bytes')
