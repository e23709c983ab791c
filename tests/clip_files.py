"""Clips as cameras, phones and programs write them."""

from fractions import Fraction

import av
import numpy as np

UNEVEN = np.cumsum([40, 33, 33, 70, 10, 50] * 5).tolist()  # milliseconds

# Name of the file, frames, (width, height), and how it is written.
CLIPS = {
    'mpeg4-30.avi': (30, (180, 120), dict()),
    'mpeg4-b.avi': (25, (160, 96), dict(options={'bf': '2'})),
    'mpeg4.mp4': (30, (96, 64), dict(rate=Fraction(30000, 1001))),
    'h264-30.mkv': (33, (96, 64), dict(codec='libx264', options={'bf': '3'})),
    'h264-60.mov': (45, (240, 160), dict(codec='libx264', rate=60)),
    'h264-10-bit.mkv': (24, (180, 120), dict(codec='libx264', pix_fmt='yuv420p10le')),
    'h264-hd-bt709.mp4': (10, (1280, 720), dict(codec='libx264', bt709=True)),
    'mpeg2-b.mpg': (26, (160, 96), dict(codec='mpeg2video', options={'bf': '2'})),
    'mjpeg-full-range.avi': (21, (96, 64), dict(codec='mjpeg', pix_fmt='yuvj420p')),
    'interlaced-dv.avi': (10, (720, 480), dict(codec='dvvideo', pix_fmt='yuv411p',
                                               rate=Fraction(30000, 1001))),
    'interlaced-mpeg2.avi': (15, (180, 128), dict(
        codec='mpeg2video', options={'flags': '+ildct+ilme', 'top': '1'})),
    'uneven.mkv': (30, (96, 64), dict(times=UNEVEN)),
    'uneven.mp4': (30, (96, 64), dict(codec='libx264', times=UNEVEN)),
    'odd.avi': (17, (97, 65), dict(codec='ffv1', pix_fmt='bgr0')),
    'odd-portrait.mkv': (19, (75, 131), dict(codec='libx264', pix_fmt='yuv444p')),
    'phone-90.mp4': (20, (180, 120), dict(codec='libx264', turned=90)),
    'phone-180.mov': (20, (180, 120), dict(codec='libx264', turned=180)),
    'one-frame.avi': (1, (96, 64), dict()),
}


def draw(count, size, seed):
    """A square that moves over a coloured pattern, (count, H, W, 3) uint8."""
    width, height = size
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 9, 3), np.uint8)
    ground = small[np.arange(height) * 6 // height][:, np.arange(width) * 9 // width]
    frames = np.repeat(ground[None], count, axis=0)
    side = min(size) // 4
    for i, frame in enumerate(frames):
        left = (width - side) * i // max(count - 1, 1)
        frame[side:2 * side, left:left + side] = rng.integers(0, 256, 3)
    return frames


def write(path, frames, codec='mpeg4', rate=30, pix_fmt='yuv420p', options=None, times=None,
          turned=0, mirrored=False, bt709=False):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate, options or {})
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if turned or mirrored:
            stream.set_display_rotation(turned, hflip=mirrored)
        if bt709:
            stream.codec_context.colorspace = 1
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24').reformat(format=pix_fmt)
            frame.pts = times[i] if times else i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
