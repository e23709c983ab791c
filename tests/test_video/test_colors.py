"""Colours: as the file means them, and the same on every processor."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hri30_ext.video.decoding import Decoder
from hri30_ext.video.inspection import inspect_clip

#: Takes SIMD from FFmpeg, then reads a clip.
WITHOUT_SIMD = """
import ctypes, sys
ctypes.CDLL(sys.argv[1]).av_force_cpu_flags(0)
import numpy as np
from test_colors import read
np.savez(sys.argv[3], **read(sys.argv[2]))
"""


def read(path):
    """Returns what is read of a clip: frames at full size and smaller, hashes of frames."""
    decoder, small = Decoder(path), Decoder(path)
    small.size = 384, 256
    return dict(full=decoder.read_all(), small=small.read_all(),
                hashes=inspect_clip(path)[1][0])


def write(path, planes, codec='ffv1', pix_fmt='yuv420p', matrix=None, options=None):
    """Writes frames of given Y, U and V, each a number or an array of a plane."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, Fraction(30), options or {})
        stream.width, stream.height, stream.pix_fmt = 720, 480, pix_fmt
        if matrix:
            stream.codec_context.colorspace = matrix
        for yuv in planes:
            frame = av.VideoFrame(720, 480, pix_fmt)
            for plane, values in zip(frame.planes, yuv, strict=True):
                plane.update(np.broadcast_to(np.asarray(values, np.uint8), (
                    plane.height, plane.line_size)).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize('pix_fmt', ['yuv420p', 'yuv411p'])
def test_pixels_are_the_same_without_simd(tmp_path, pix_fmt):
    libraries = [*(Path(av.__file__).parents[1] / 'av.libs').glob('libavutil*')]
    if not libraries:
        pytest.skip('PyAV uses the libraries of the system')
    path, rng = str(tmp_path / 'noise.mkv'), np.random.default_rng(0)
    shapes = [(plane.height, plane.line_size)
              for plane in av.VideoFrame(720, 480, pix_fmt).planes]
    write(path, [[rng.integers(0, 256, shape) for shape in shapes] for _ in range(3)],
          pix_fmt=pix_fmt)
    subprocess.run([sys.executable, '-c', WITHOUT_SIMD, libraries[0], path,
                    tmp_path / 'c.npz'], cwd=Path(__file__).parent, check=True)
    expected = np.load(tmp_path / 'c.npz')
    for name, values in read(path).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('full_range', [False, True])
@pytest.mark.parametrize(('matrix', 'red', 'blue'), [
    (5, .299, .114), (1, .2126, .0722)], ids=['bt601', 'bt709'])
def test_matrix_and_range_are_those_of_the_file(tmp_path, matrix, red, blue, full_range,
                                                interlaced):
    yuv = np.array([100, 90, 170])
    y, u, v = ((yuv - [0, 128, 128]) / 255 if full_range
               else (yuv - [16, 128, 128]) / [219, 224, 224])
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    expected = 255 * np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])
    write(tmp_path / 'flat.mp4', [yuv] * 4, 'libx264',
          'yuvj420p' if full_range else 'yuv420p', matrix,
          {'crf': '0', 'x264-params': f'tff={int(interlaced)}'})
    with av.open(str(tmp_path / 'flat.mp4')) as container:
        assert next(container.decode(video=0)).interlaced_frame == interlaced
    for values in list(read(str(tmp_path / 'flat.mp4')).values())[:2]:
        assert np.abs(values - expected).max() < 1.5
