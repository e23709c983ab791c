"""Clips are decoded as by other decoders, de-interlaced, and their damage is told."""

import os
import shutil
import signal
import struct

import av
import cv2
import decord
import numpy as np
import pytest
from clip_files import draw, write

from hri30_ext.errors import HRI30Error
from hri30_ext.names import name_part
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video import decode as video
from hri30_ext.video.decode import ClipError, Video, read_clip
from hri30_ext.video.decoding import Decoder, Limits
from hri30_ext.video.inspection import inspect_clip
from hri30_ext.video.preprocessing import Preprocessing, Resize, Shrink
from hri30_ext.video.resize import resize, shrunk_size, to_rgb


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Twenty frames of a drawn worker at 96 x 64 as mpeg4.avi and mjpeg.avi."""
    folder = tmp_path_factory.mktemp('videos')
    frames = render_clip('PickUpDrill', group=1, clip=1, size=(96, 64))[:20]
    for codec in ('mpeg4', 'mjpeg'):
        write_video(frames, folder / f'{codec}.avi', codec)
    return folder


@pytest.fixture(scope='module')
def interlaced(tmp_path_factory):
    """A DV clip, and what its camera saw at full height when each frame began."""
    path = tmp_path_factory.mktemp('videos') / 'dv.avi'
    fields, whole = (render_clip('Walking', 1, 1, fields=fields)[:10]
                     for fields in (True, False))
    write_video(fields, path, 'dv')
    return path, whole


def decode_plainly(path):
    with av.open(str(path)) as container:
        return np.stack([to_rgb(frame, frame.width, frame.height)
                         for frame in container.decode(video=0)])


def damage_packets(path, target, first):
    """Copies a clip whose packets, from one on, are zeros."""
    with av.open(str(path)) as source, av.open(str(target), 'w') as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            damaged = av.Packet(bytes(packet.size) if number >= first else bytes(packet))
            damaged.stream, damaged.time_base = stream, packet.time_base
            damaged.pts, damaged.dts = packet.pts, packet.dts
            damaged.is_keyframe = packet.is_keyframe
            copy.mux(damaged)


@pytest.mark.parametrize('codec', ['mpeg4', 'mjpeg'])
def test_pixels_are_those_of_opencv_and_decord(tmp_path, codec):
    """Except where colours, stored at half the size, have an edge: theirs have steps. Not
    at 96 x 64, where decord2 3.4.0 returns four channels.
    """
    path = str(tmp_path / 'clip.avi')
    write_video(render_clip('PickUpDrill', 1, 1, size=(112, 72))[:20], path, codec)
    video = Video(path)
    frames = video.read_all()
    assert len(video) == video.total_frames == 20 and video.fps == 30
    assert video.size == (112, 72) and frames.shape == (20, 72, 112, 3)
    assert frames.dtype == np.uint8
    capture = cv2.VideoCapture(path)
    bgr = np.stack([capture.read()[1] for _ in range(20)])
    for others in (bgr[..., ::-1], decord.VideoReader(path)[:].asnumpy()):
        difference = np.abs(frames - others.astype(int)).mean((1, 2, 3))
        assert len(others) == 20 and difference.max() < 3


@pytest.mark.parametrize('indices', [[0], [19], [7, 7, 7], [12, 3, 3, 19, 0],
                                     np.array([5, 4]), range(2, 6)])
def test_frames_come_in_the_order_asked_for(folder, indices):
    video = Video(folder / 'mpeg4.avi')
    np.testing.assert_array_equal(video.read(indices), video.read_all()[list(indices)])
    for absent in ([], [-1], [3, 20]):
        with pytest.raises(IndexError, match=r'mpeg4\.avi: frames .* of 20'):
            video.read(absent)


def test_frames_are_scaled_to_the_short_side_and_never_up(folder):
    assert shrunk_size(720, 480, 256) == (384, 256)
    assert shrunk_size(480, 720, 256) == (256, 384)
    assert shrunk_size(720, 480, None) == (720, 480)
    assert Video(folder / 'mpeg4.avi', 256).size == (96, 64)
    small = Video(folder / 'mpeg4.avi', 32)
    frames = small.read_all()
    assert small.size == (48, 32) and frames.shape == (20, 32, 48, 3)
    # Means over 2 x 2 pixels are another scaling, near the same where there are no edges.
    means = decode_plainly(folder / 'mpeg4.avi').reshape(20, 32, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(frames - means).mean() < 5
    assert np.corrcoef(frames.ravel(), means.ravel())[0, 1] > .95


def test_resizing():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90, 3), np.uint8)
    assert resize(image, 90, 60) is image
    # Half the size: weights 1 3 3 1 of the four pixels around.
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.einsum('i,j,ijc', weights, weights, image[9:13, 19:23])
    np.testing.assert_allclose(resize(image, 45, 30)[5, 10], expected, atol=1.5)
    # Twice the size: of two pixels a quarter and three quarters.
    expected = np.einsum('i,j,ijc', [.75, .25], [.25, .75], image[10:12, 20:22])
    np.testing.assert_allclose(resize(image, 180, 120)[21, 42], expected, atol=1.5)
    # Channels stay apart, and views are read as they are.
    for view in (image[5:40, 3:70], image[::-1, ::-1], image.swapaxes(0, 1)):
        np.testing.assert_array_equal(resize(view, 17, 13),
                                      resize(np.ascontiguousarray(view), 17, 13))
    assert (resize(image[:1, :1], 50, 3) == image[0, 0]).all()
    assert resize(np.full((9, 8192, 3), 77, np.uint8), 1, 1).tolist() == [[[77] * 3]]


# ---- Clips of phones --------------------------------------------------------------------


@pytest.mark.parametrize('degrees', [0, 90, 180, 270])
@pytest.mark.parametrize('mirrored', [False, True])
def test_frames_are_turned_upright(tmp_path, degrees, mirrored):
    """Phones store frames as the sensor sees them, and beside them how to turn them."""
    path = tmp_path / 'phone.mp4'
    write(path, render_clip('PickUpDrill', 1, 1, size=(96, 64))[:5], 'libx264',
          turned=degrees, mirrored=mirrored)
    stored = decode_plainly(path)
    expected = np.rot90(stored, degrees // 90, (1, 2))  # counter-clockwise
    expected = expected[:, :, ::-1] if mirrored else expected
    clip = Video(path)
    assert clip.size == ((64, 96) if degrees % 180 else (96, 64))
    np.testing.assert_array_equal(clip.read_all(), expected)
    if not mirrored:  # OpenCV turns, and does not mirror
        image = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
        assert np.abs(image.astype(int) - expected[0]).mean() < 3
    assert Video(path, 32).size == ((32, 48) if degrees % 180 else (48, 32))


@pytest.mark.parametrize(('name', 'codec'), [
    ('b.mpg', 'mpeg2video'), ('b.avi', 'mpeg4'), ('b.mp4', 'mpeg4'), ('h.avi', 'libx264'),
    ('open.avi', 'libx264')])
def test_parts_where_frames_are_stored_out_of_order(tmp_path, name, codec):
    options = ({'x264-params': 'keyint=12:min-keyint=12:scenecut=0:b-adapt=0:bframes=2:'
                'open-gop=1'} if name == 'open.avi' else {'bf': '2', 'g': '12'})
    write(tmp_path / name, draw(60, (96, 64), 0), codec, options=options)
    whole = Decoder(tmp_path / name).read_all()
    # Keyframes are shown as 12 and 24, and stored before 10 and 22.
    for first, end in ((0, 12), (10, 22), (11, 12), (15, 27), (24, 30), (50, 60)):
        part = Decoder(name_part(str(tmp_path / name), first / 30, end / 30))
        np.testing.assert_array_equal(part.read_all(), whole[first:end])


def test_parts_of_a_recording_of_unknown_length(tmp_path):
    """As browsers write it, which do not go back to its beginning."""
    write(tmp_path / 'whole.webm', draw(60, (96, 64), 0), 'libvpx')
    content = (tmp_path / 'whole.webm').read_bytes()
    place = content.index(b'\x44\x89\x88')  # an element of 8 bytes, which becomes empty
    (tmp_path / 'a.webm').write_bytes(
        content[:place] + b'\xec\x89' + bytes(9) + content[place + 11:])
    part = Decoder(tmp_path / 'a[0.5-1].webm')
    np.testing.assert_array_equal(
        part.read_all(), Decoder(tmp_path / 'whole.webm').read_all()[15:30])
    with pytest.raises(ClipError, match='no frame of it'):
        Decoder(tmp_path / 'a[3-4].webm')


def test_names_with_a_colon_are_no_addresses(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / 'mpeg4.avi', 'at-12:30.avi')
    assert len(Decoder('at-12:30.avi')) == 20


# ---- Interlaced clips -------------------------------------------------------------------


def test_interlaced_frames_are_rebuilt_from_one_field(interlaced):
    path, whole = interlaced
    video = Video(path)
    rebuilt, woven = video.read_all(), decode_plainly(path)
    assert rebuilt.shape == woven.shape == (10, 480, 720, 3)
    # In DV the lower field is first: its lines stay, those between are made anew.
    np.testing.assert_array_equal(rebuilt[:, 1::2], woven[:, 1::2])
    assert (rebuilt[:, ::2] != woven[:, ::2]).any()

    def squared_error(frames):
        return np.square(frames.astype(float) - whole).mean()
    assert squared_error(rebuilt) < .7 * squared_error(woven)


def test_interlaced_frames_are_the_same_in_any_order_and_with_threads(
        interlaced, tmp_path):
    path, _ = interlaced
    every = Video(path, 256).read_all()
    assert every.shape == (10, 256, 384, 3)
    np.testing.assert_array_equal(Video(path, 256).read([9, 0, 4]), every[[9, 0, 4]])
    np.testing.assert_array_equal(Video(path, 256, threads=2).read_all(), every)
    write_video(decode_plainly(path)[:1], tmp_path / 'one.avi', 'dv')
    assert Video(tmp_path / 'one.avi', 32).read_all().shape == (1, 32, 48, 3)


# ---- Damaged clips ----------------------------------------------------------------------


@pytest.mark.parametrize('announced', [5, 500])
def test_number_of_frames_in_the_header_is_not_believed(folder, tmp_path, announced):
    content = bytearray((folder / 'mpeg4.avi').read_bytes())
    struct.pack_into('<I', content, content.index(b'avih') + 8 + 16, announced)
    struct.pack_into('<I', content, content.index(b'strh') + 8 + 32, announced)
    path = tmp_path / 'wrong.avi'
    path.write_bytes(content)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == announced
    assert len(Video(path)) == 20
    np.testing.assert_array_equal(Video(path).read_all(),
                                  Video(folder / 'mpeg4.avi').read_all())


@pytest.mark.parametrize('codec', ['mpeg4', 'mjpeg'])
def test_truncated_clip_has_the_frames_that_are_left(folder, tmp_path, codec):
    content = (folder / f'{codec}.avi').read_bytes()
    path = tmp_path / 'half.avi'
    content = content[:content.index(b'idx1') * 4 // 5]
    path.write_bytes(content)
    video = Video(path)
    assert len(video) == content.count(b'00dc') - 1 < 19  # one is in the stream's header
    # The last one may be cut in two.
    np.testing.assert_array_equal(
        video.read_all()[:-1], Video(folder / f'{codec}.avi').read(range(len(video) - 1)))


def test_last_frame_stands_for_one_that_is_missing_after_it(folder, tmp_path):
    damage_packets(folder / 'mjpeg.avi', tmp_path / 'end.avi', first=19)
    video, whole = Video(tmp_path / 'end.avi'), Video(folder / 'mjpeg.avi').read_all()
    assert len(video) == 20
    np.testing.assert_array_equal(video.read_all(), whole[[*range(19), 18]])
    # Whichever others are asked for with it.
    np.testing.assert_array_equal(video.read([0, 19]), whole[[0, 18]])
    np.testing.assert_array_equal(video.read([19]), whole[[18]])


def test_interlaced_clip_that_was_cut_in_its_last_frame(interlaced, tmp_path):
    content = interlaced[0].read_bytes()
    # An index of 16 bytes a frame stands behind the last of frames of 120,000 bytes.
    path = tmp_path / 'cut.avi'
    path.write_bytes(content[:content.rindex(b'idx1') - 60_000])
    video = Video(path, 128)
    assert len(video) == 10
    frames, whole = video.read_all(), Video(interlaced[0], 128).read_all()
    np.testing.assert_array_equal(frames[:8], whole[:8])
    np.testing.assert_array_equal(frames[9], frames[8])


@pytest.mark.parametrize('first', [0, 10])
def test_clip_with_more_damage_is_refused(folder, tmp_path, first):
    path = tmp_path / 'damaged.avi'
    damage_packets(folder / 'mjpeg.avi', path, first=first)
    with pytest.raises(HRI30Error, match=r'damaged\.avi: cannot be decoded') as error:
        Video(path).read_all()
    assert not first or f'{first} of its 20 frames' in str(error.value)
    assert 'replace the clip' in str(error.value)


@pytest.mark.parametrize('content', [
    b'', b'no video\n' * 50, b'RIFF' + bytes(200),
    b"ffconcat version 1.0\nfile 'mpeg4.avi'\n",  # does not open other files
    b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nmpeg4.avi\n#EXT-X-ENDLIST\n'])
def test_files_that_are_no_video(folder, tmp_path, content):
    shutil.copy(folder / 'mpeg4.avi', tmp_path)
    (tmp_path / 'text.avi').write_bytes(content)
    with pytest.raises(HRI30Error, match=r'text\.avi: cannot be decoded'):
        Video(tmp_path / 'text.avi')


def test_absent_file_folder_sound_and_codec(folder, tmp_path):
    with av.open(str(tmp_path / 'sound.mkv'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout='mono')
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    data = (folder / 'mpeg4.avi').read_bytes().replace(b'FMP4', b'QQQQ')
    (tmp_path / 'codec.avi').write_bytes(data)
    for name, message in (('none.avi', r'none\.avi: cannot be decoded \(No such file'),
                          ('.', 'cannot be decoded'), ('sound.mkv', 'it has no pictures'),
                          ('codec.avi', 'its codec is not known')):
        with pytest.raises(HRI30Error, match=message):
            Video(tmp_path / name)
    assert inspect_clip(str(tmp_path / 'codec.avi'))[0]['problem'] == message


# ---- In a process of its own -------------------------------------------------------------


def test_views_of_a_clip(folder):
    preprocessing = Preprocessing(4, 2, 'uniform', (Shrink(48), Resize(20, 30)))
    frames = Video(folder / 'mpeg4.avi', 48).read_all()
    np.testing.assert_array_equal(read_clip(folder / 'mpeg4.avi', preprocessing),
                                  preprocessing.clip(frames))
    with pytest.raises(HRI30Error, match='none.avi: no such file'):
        read_clip(folder / 'none.avi', preprocessing)
    with pytest.raises(HRI30Error, match='is a folder'):
        read_clip(folder, preprocessing)


def test_a_decoder_that_hangs_costs_the_clip(folder, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / 'clip.avi')  # opening it waits for ever
    monkeypatch.setenv('HRI30_DECODE_SECONDS', '0.3')
    with pytest.raises(HRI30Error, match=r'clip\.avi: cannot be decoded \(the decoder took '
                       r'more than 0\.3 seconds; HRI30_DECODE_SECONDS sets the limit\)'):
        Video(tmp_path / 'clip.avi')
    monkeypatch.delenv('HRI30_DECODE_SECONDS')
    assert len(Video(folder / 'mpeg4.avi')) == 20


def test_a_decoder_that_crashes_costs_the_clip(folder):
    clip = Video(folder / 'mpeg4.avi')
    os.kill(video._process()._process.pid, signal.SIGSEGV)
    with pytest.raises(HRI30Error, match=r'mpeg4\.avi: cannot be decoded \(the decoder '
                       r'crashed \(SIGSEGV\)\)'):
        clip.read([0])
    assert clip.read([0]).shape == (1, 64, 96, 3)


@pytest.mark.parametrize('seconds', ['0', '-1', 'soon', 'nan', 'inf'])
def test_a_time_limit_that_is_none(folder, monkeypatch, seconds):
    monkeypatch.setenv('HRI30_DECODE_SECONDS', seconds)
    with pytest.raises(HRI30Error, match='expected a number of seconds'):
        Video(folder / 'mpeg4.avi')


def test_a_clip_that_changes_between_opening_and_reading(folder, tmp_path):
    path = tmp_path / 'clip.avi'
    shutil.copy(folder / 'mpeg4.avi', path)
    clip = Video(path)
    write_video(np.zeros((20, 32, 48, 3), np.uint8), path, 'mpeg4')
    with pytest.raises(HRI30Error, match='changed while it was read'):
        clip.read([0])


@pytest.mark.parametrize(('limits', 'message', 'code'), [
    (dict(max_pixels=96 * 64 - 1), 'frames of 96 x 64 pixels: expected at most 6,143',
     'frame_too_large'),
    (dict(max_frames=19), 'it has more than 19 frames', 'too_long'),
    (dict(max_seconds=.6), 'it is longer than 0.6 seconds', 'too_long'),
    (dict(max_bytes=20 * 96 * 64 * 3 - 1), '20 frames of 96 x 64 pixels take more than',
     'too_long')])
def test_size_is_bounded(folder, limits, message, code):
    with pytest.raises(ClipError, match=f'cannot be decoded .{message}') as caught:
        Decoder(folder / 'mpeg4.avi', Limits(**limits)).read(range(20))
    assert caught.value.code == code
    assert Limits().max_pixels == 2**25  # of 8K
    exact = Limits(max_pixels=96 * 64, max_frames=20, max_seconds=.64,
                   max_bytes=20 * 96 * 64 * 3)
    Decoder(folder / 'mpeg4.avi', exact).read(range(20))


def test_whatever_fails_the_clip_is_named_as_it_was_asked_for(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(HRI30Error, match=r'^none\.avi: cannot be decoded'):
        Video('none.avi')
    clip = Video('mpeg4.avi')
    clip._arguments = ('high', 1)  # which no decoder understands
    with pytest.raises(HRI30Error, match=r'^mpeg4\.avi: cannot be decoded \(the decoder '
                       r'failed: TypeError: '):
        clip.read([0])
