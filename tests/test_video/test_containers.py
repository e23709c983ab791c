"""How long a file was meant to be is read from its container, and from nothing else."""

import numpy as np
import pytest
from faults import encode, yuv_pictures

from hri30_ext.synthetic import write_video
from hri30_ext.video.containers import Promise, read_promise

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The same nine frames in three containers."""
    folder = tmp_path_factory.mktemp('containers')
    write_video(FRAMES, folder / 'clip.avi', 'mjpeg')
    for suffix in ('mp4', 'mkv'):
        encode(folder / f'clip.{suffix}', yuv_pictures(FRAMES))
    return folder


@pytest.mark.parametrize('suffix', ['avi', 'mp4', 'mkv'])
@pytest.mark.parametrize('left', [1., .95, .5, .1])
def test_promised_bytes_are_those_of_the_whole_file(folder, tmp_path, suffix, left):
    content = (folder / f'clip.{suffix}').read_bytes()
    path = tmp_path / 'cut'
    path.write_bytes(content[:int(left * len(content))])
    promise = read_promise(path)
    # Of an MP4 file, boxes that are gone as a whole are not known.
    if suffix == 'mp4' and left < 1:
        assert len(path.read_bytes()) < promise.num_bytes <= len(content)
    else:
        assert promise.num_bytes == len(content)


def test_index_of_an_avi_counts_frames_of_the_video_that_are_not_empty(folder, tmp_path):
    assert read_promise(folder / 'clip.avi').index_frames == 9
    content = bytearray((folder / 'clip.avi').read_bytes())
    index = content.index(b'idx1') + 8
    content[index:index + 4] = b'01wb'  # a packet of sound
    content[index + 16 + 12:index + 16 + 16] = bytes(4)  # a frame that was dropped
    (tmp_path / 'clip.avi').write_bytes(content)
    assert read_promise(tmp_path / 'clip.avi').index_frames == 7
    (tmp_path / 'cut.avi').write_bytes(content[:index - 8])
    assert read_promise(tmp_path / 'cut.avi').index_frames is None


@pytest.mark.parametrize(('header', 'frame'), [(b'\x1f\x07\x00\x3f', 120_000),
                                               (b'\x1f\x07\x00\xbf', 144_000)])
def test_raw_dv_is_whole_frames(tmp_path, header, frame):
    (tmp_path / 'clip.dv').write_bytes(header + bytes(2 * frame - 1000))
    assert read_promise(tmp_path / 'clip.dv').num_bytes == 2 * frame


def test_recording_that_was_not_finished_promises_nothing(folder, tmp_path):
    content = bytearray((folder / 'clip.avi').read_bytes())
    content[4:8] = bytes(4)
    (tmp_path / 'clip.avi').write_bytes(content)
    assert read_promise(tmp_path / 'clip.avi') == Promise(None, None)


@pytest.mark.parametrize('content', [
    b'', b'RIFF', b'RIFF\xff\xff\xff\x7fAVI ', b'text', b'\x1a\x45\xdf\xa3', bytes(100),
    b'RIFF\x40\x00\x00\x00AVI LIST\xff\xff\xff\xffhdrlLIST\xff\xff\xff\xffstrl' + bytes(20),
    b'\x00\x00\x00\x01ftyp' + b'\xff' * 8, b'\x00\x00\x00\x03ftypisom',
    b'\x1a\x45\xdf\xa3\xff'])
def test_nonsense_is_read_without_an_error(tmp_path, content):
    (tmp_path / 'file').write_bytes(content)
    assert isinstance(read_promise(tmp_path / 'file'), Promise)
