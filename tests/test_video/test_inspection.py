"""A clip is read to its end, and what is wrong with it is counted."""

import os

import av
import numpy as np
import pytest
from clip_files import write
from faults import packets

from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video import inspection


@pytest.fixture(scope='module')
def frames():
    return render_clip('UsingTheDrill', group=1, clip=1, size=(96, 64))


def read(path):
    value, (hashes,) = inspection.inspect_clip(str(path))
    facts = inspection.Facts(**value)
    assert hashes.shape == (facts.frames, 32) and hashes.dtype == np.uint8
    return facts


@pytest.mark.parametrize('codec', ['mpeg4', 'mjpeg'])
def test_whole_clip(frames, tmp_path, codec):
    path = tmp_path / 'clip.avi'
    write_video(frames, path, codec)
    facts = read(path)
    count = len(frames)
    assert (facts.packets, facts.frames, facts.before_damage) == (count, count, count)
    assert facts.announced == count and facts.num_bytes == os.path.getsize(path)
    assert (facts.width, facts.height, facts.fps) == (96, 64, 30)
    assert facts.seconds == count / 30 and len(facts.sha256) == 64
    assert not (facts.problem or facts.damaged or facts.ends_early or facts.still
                or facts.blank or facts.cut_off)


def test_interlaced_dv(tmp_path):
    write_video(render_clip('Walking', 1, 1, fields=True)[:4], tmp_path / 'dv.avi', 'dv')
    facts = read(tmp_path / 'dv.avi')
    assert facts.frames == 4 and not (facts.blank or facts.damaged)


def test_damage_that_the_decoder_conceals_is_counted_and_does_not_end_it(frames, tmp_path):
    path = tmp_path / 'clip.avi'
    write_video(frames, path)
    content = bytearray(path.read_bytes())
    places = packets(content)
    for number in (3, 7):  # concealed: as many frames come out
        start, size = places[number]
        content[start + size // 2:start + size] = b'\xff' * (size - size // 2)
    path.write_bytes(content)
    facts = read(path)
    assert facts.damaged == 2 and facts.frames == facts.before_damage == len(frames)
    start, size = places[9]
    content[start:start + size] = bytes(size)  # no frame at all
    path.write_bytes(content)
    facts = read(path)
    assert facts.damaged == 3 and facts.frames == len(frames) - 1
    assert facts.before_damage == 9 and facts.first_damage
    assert av.logging.get_level() is None  # as it was


def test_messages_about_one_clip_are_not_counted_for_the_next(frames, tmp_path):
    write_video(frames, tmp_path / 'whole.avi')
    content = bytearray((tmp_path / 'whole.avi').read_bytes())
    for start, size in packets(content)[1:]:
        content[start + size // 2:start + size] = b'\xff' * (size - size // 2)
    (tmp_path / 'broken.avi').write_bytes(content)
    for _ in range(2):
        assert read(tmp_path / 'broken.avi').damaged > 10
        assert read(tmp_path / 'whole.avi').damaged == 0


def test_endless_clip_is_not_read_to_its_end(frames, tmp_path, monkeypatch):
    monkeypatch.setattr('hri30_ext.video.inspection.MAX_FRAMES', 10)
    write_video(frames, tmp_path / 'clip.avi')
    facts = read(tmp_path / 'clip.avi')
    assert facts.cut_off and facts.frames <= 12


def test_blank_frames(frames):
    small = frames[:8, :, 16:80].astype(np.int16)
    assert not inspection.blank_frames(small).any()
    noise = np.random.default_rng(0).integers(0, 4, small.shape)
    small[1] = noise[1]
    small[2] = 128 + noise[2] // 2
    small[3] = 0, 135, 0
    small[4, 48:] = 0, 135, 0  # the lower quarter alone
    small[5] = 30  # dark and of one colour
    assert inspection.blank_frames(small).tolist() == [
        False, True, True, True, False, True, False, False]


def test_noise_of_a_camera_is_not_still_and_copies_are():
    still = np.full((5, 64, 64, 3), 100, np.int16)
    still[2, 5, 5] += 3
    still[4] += 2
    assert inspection.still_frames(still).tolist() == [True, False, False, True]


def test_still_stretch_is_found_although_key_frames_differ(frames, tmp_path):
    frames = np.concatenate([frames[:20], np.repeat(frames[20:21], 40, axis=0)])
    write(tmp_path / 'clip.mp4', frames, options={'g': '12'})
    facts = read(tmp_path / 'clip.mp4')
    assert facts.frames == 60 and 34 <= facts.still <= 39


def test_hand_computed_hash():
    """A cosine of one period in each row has one frequency besides the mean."""
    pixel = np.arange(64)
    wave = 100 - 50 * np.cos(np.pi * 2 * (2 * pixel + 1) / 128)
    bits = np.unpackbits(inspection.hash_frames(np.stack([
        np.full((64, 64), 7), np.tile(wave, (64, 1)), np.tile(200 - wave, (64, 1))])),
        axis=1)
    assert bits.sum(axis=1).tolist() == [1, 1, 2] and bits[:, 0].all() and bits[2, 2]
    assert inspection.hash_frames(np.zeros((0, 64, 64))).shape == (0, 32)


# ---- Files that were cut short ----------------------------------------------------------


@pytest.fixture(scope='module')
def containers(frames, tmp_path_factory):
    """The same frames in several containers; in ``first.mp4``, the index stands first."""
    folder = tmp_path_factory.mktemp('containers')
    write_video(frames, folder / 'clip.avi', 'mjpeg')
    for suffix in ('mp4', 'mkv'):
        write(folder / f'clip.{suffix}', frames)
    with av.open(str(folder / 'clip.mp4')) as source, av.open(
            str(folder / 'first.mp4'), 'w', options={'movflags': 'faststart'}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    return folder


@pytest.mark.parametrize('name', ['clip.avi', 'clip.mp4', 'first.mp4', 'clip.mkv'])
@pytest.mark.parametrize('left', [1., .95, .5, .1])
def test_cut_files(containers, frames, tmp_path, name, left):
    content = (containers / name).read_bytes()
    path = tmp_path / 'cut'
    path.write_bytes(content[:int(left * len(content))])
    facts = read(path)
    # Without its index, an MP4 cannot be opened.
    assert (facts.ends_early or bool(facts.problem)) == (left < 1)
    assert facts.problem or facts.announced == len(frames)
    assert facts.frames <= left * len(frames) + 1


@pytest.mark.parametrize('content', [
    b'', b'text', bytes(5000), b'RIFF' + bytes(200), b'RIFF', b'RIFF\xff\xff\xff\x7fAVI ',
    b'\x1a\x45\xdf\xa3', bytes(100),
    b'RIFF\x40\x00\x00\x00AVI LIST\xff\xff\xff\xffhdrlLIST\xff\xff\xff\xffstrl' + bytes(20),
    b'\x00\x00\x00\x01ftyp' + b'\xff' * 8, b'\x00\x00\x00\x03ftypisom',
    b'\x1a\x45\xdf\xa3\xff'])
def test_nonsense_is_read_without_an_error(tmp_path, content):
    (tmp_path / 'file').write_bytes(content)
    facts = read(tmp_path / 'file')
    assert facts.problem and not facts.frames and facts.num_bytes == len(content)
    assert 'No such file' in read(tmp_path / 'none.avi').problem
