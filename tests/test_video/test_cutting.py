"""Cutting parts out of recordings: the same frames as in the recording, at their times."""

from fractions import Fraction

import av
import numpy as np
import pytest
from clip_files import write

from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video.cutting import cut_part

FRAMES = 36


def read(path):
    """Returns frames as they are stored, their times from the first, rate and rotation."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [*container.decode(video=0)]
    times = [float(frame.time - frames[0].time) for frame in frames]
    return np.stack([frame.to_ndarray(format='rgb24') for frame in frames]).astype(int), (
        times), rate, frames[0].rotation


def cut(path, start, end, out):
    """Cuts frames from ``start`` to before ``end``; returns what read() does."""
    times = f'{start / 30:.4f}-{end / 30:.4f}'
    _, (content,) = cut_part(f'{path.with_suffix("")}[{times}]{path.suffix}')
    (out / 'clip.mp4').write_bytes(content)
    return read(out / 'clip.mp4')


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """Keyframes at 0, 12 and 24; in the mp4, frames are stored as 0 4 2 1 3 8 6 5 7."""
    folder = tmp_path_factory.mktemp('recordings')
    frames = render_clip(2, 1, 1, size=(96, 64))[:FRAMES]
    for name, bframes, turned in (('plain.mp4', 0, 90), ('b.mp4', 3, 0), ('b.mkv', 3, 0),
                                  ('b.avi', 3, 0)):
        write(folder / name, frames, 'libx264', turned=turned, bt709=True, options={
            'x264-params': 'keyint=12:min-keyint=12:scenecut=0:b-adapt=0:'
                           f'bframes={bframes}'})
    return folder


# b.mp4: frame 13 needs the later frame 16, 16 no other one.
@pytest.mark.parametrize('name, start, end', [
    ('plain.mp4', 12, 14), ('plain.mp4', 11, 14), ('plain.mp4', 0, 33),
    ('b.mp4', 12, 15), ('b.mp4', 24, 36), ('b.mp4', 5, 30), ('b.mkv', 13, 16),
    ('b.avi', 12, 17)])
def test_clips_have_the_frames_of_their_part(recordings, tmp_path, name, start, end):
    whole, _, rate, rotation = read(recordings / name)
    assert len(whole) == FRAMES
    frames, times, clip_rate, clip_rotation = cut(
        recordings / name, start, end, tmp_path)
    differences = np.array([np.abs(whole - frame).mean((1, 2, 3)) for frame in frames])
    assert differences.argmin(axis=1).tolist() == [*range(start, end)]
    assert differences.min(axis=1).max() < 2
    np.testing.assert_allclose(times, np.arange(end - start) / 30, atol=1.1e-3)
    assert clip_rotation == rotation
    assert clip_rate == pytest.approx(rate, rel=.02)


def test_the_rate_of_the_recording_is_kept(tmp_path):
    path = tmp_path / 'long.avi'
    write_video(render_clip(2, 1, 1, size=(96, 64))[:FRAMES], path, fps=Fraction(25))
    _, (content,) = cut_part(str(tmp_path / 'long[0.2-0.6].avi'))
    (tmp_path / 'clip.mp4').write_bytes(content)
    frames, times, rate, _ = read(tmp_path / 'clip.mp4')
    assert rate == 25
    assert np.abs(frames - read(path)[0][5:15]).mean() < 2
    np.testing.assert_allclose(times, np.arange(10) / 25, atol=1e-4)
    with pytest.raises(HRI30Error, match='not within'):
        cut_part(str(tmp_path / 'long[1-9].avi'))
