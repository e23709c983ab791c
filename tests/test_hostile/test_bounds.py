"""Files that are larger, longer or deeper than anything that is written."""

import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from hri30_ext.datasets.annotation import MAX_ROWS, read_annotations
from hri30_ext.datasets.splits import split_clips
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results
from hri30_ext.evaluation.submission import check_submission
from hri30_ext.utils import reading
from hri30_ext.utils.curves import read_curves

CLASSES = ('DeliverObject', 'Walking')


def test_wrong_rows_are_counted_and_three_are_shown(tmp_path):
    path = tmp_path / 'rows.csv'
    path.write_text(''.join(f'clip{i},Walking,1\n' for i in range(2_000)))
    with pytest.raises(HRI30Error, match='2000 of 2000 rows are wrong') as error:
        read_annotations(path, CLASSES)
    assert len(str(error.value)) < 1000


def test_more_rows_are_not_read(tmp_path, monkeypatch):
    assert MAX_ROWS >= 1_000_000
    monkeypatch.setattr('hri30_ext.datasets.annotation.MAX_ROWS', 3)
    path = tmp_path / 'rows.csv'
    path.write_text('a,Walking,2\nb,Walking,2\nc,Walking,2\nd,Walking,2\n')
    with pytest.raises(HRI30Error, match='more than 3 rows'):
        read_annotations(path, CLASSES)


def write_sparse(path):
    """Makes a file of a terabyte that takes no place."""
    with open(path, 'wb') as file:
        file.truncate(2**40)


def write_line(path):
    path.write_bytes(b'"' + b'a' * 10_000_000)


def write_utf16(path):
    path.write_bytes('a,Walking,2\n'.encode('utf-16'))


READERS = {
    'annotation': lambda path: read_annotations(path, CLASSES),
    'list': lambda path: split_clips([dict(video_id='a', group=1, label=0)], 'file',
                                     val_file=str(path)),
    'submission': lambda path: check_submission(path, path.parent),
    'curves': read_curves,
    'json': lambda path: reading.read_json(path, 'an object'),
    'scores': Results.load,
}


@pytest.mark.parametrize('name', list(READERS))
@pytest.mark.parametrize('write', [write_sparse, write_line, write_utf16])
def test_other_files_are_refused_without_being_held(name, write, tmp_path):
    (tmp_path / 'test_set').mkdir()
    (tmp_path / 'test_set' / 'a.avi').touch()
    path = tmp_path / 'input'
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(HRI30Error) as error:
            READERS[name](path)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value) and len(str(error.value)) < 3000


@pytest.mark.parametrize('name', ['annotation', 'list', 'curves', 'json'])
def test_pipes_are_not_waited_for(name, tmp_path):
    path = tmp_path / 'input'
    os.mkfifo(path)
    with pytest.raises(HRI30Error, match='not a file'):
        READERS[name](path)


def write_npz(path, header, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name in ('videos', 'scores', 'classes'):
            with archive.open(f'{name}.npy', 'w') as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(content)


@pytest.mark.parametrize('case', ['bomb', 'claim', 'objects', 'negative'])
def test_arrays_are_measured_before_they_are_unfolded(case, tmp_path, monkeypatch):
    path = tmp_path / 'scores.npz'
    header = dict(shape=(2**20, ), fortran_order=False, descr='<f4')
    if case == 'bomb':
        monkeypatch.setattr(reading.read_arrays, '__defaults__', (1 << 20, ))
        write_npz(path, header, bytes(1 << 22), zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 20_000
    elif case == 'claim':
        write_npz(path, dict(header, shape=(2**40, )), bytes(16))
    elif case == 'negative':
        write_npz(path, dict(header, shape=(-4, )), bytes(16))
    else:
        write_npz(path, dict(header, shape=(1, ), descr='|O'), b'cos\nsystem\n.')
    with pytest.raises(HRI30Error, match=r'scores\.npz: not readable'):
        Results.load(path)
