"""JPEG frames: of the clip cache, of streams and for pages."""

import numpy as np

from .decode import MAX_PIXELS, ClipError


def encode_jpeg(frame_HWC: np.ndarray, quality: int) -> bytes:
    """Encodes an RGB frame, (H, W, 3) uint8, at a quality of 1 to 100; colours at half the
    width.
    """
    import simplejpeg  # not needed to run an exported model
    return simplejpeg.encode_jpeg(np.ascontiguousarray(frame_HWC), quality, 'RGB', '422')


def decode_jpeg(data: bytes | np.ndarray, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a JPEG, bytes or (N, ) uint8, to (H, W, 3) uint8 RGB; a note on how to turn
    it is ignored.

    Raises:
        ClipError: ``not_a_jpeg``, where it is not a JPEG or not whole, or
            ``frame_too_large``.
    """
    import simplejpeg
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if width * height <= max_pixels:
            return simplejpeg.decode_jpeg(data, 'RGB')
    except ValueError as error:
        raise ClipError('frame', f'not a whole JPEG: {error}', 'not_a_jpeg') from error
    raise ClipError('frame', f'{width} x {height} pixels, at most {max_pixels:,} are '
                    'allowed', 'frame_too_large')
