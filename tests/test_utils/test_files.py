"""Files are replaced with their permissions, and read within bounds."""

import os
import zipfile

import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.utils.fileio import atomic_write_text
from hri30_ext.utils.reading import read_arrays, read_classes, read_json


def test_replaced_file_keeps_its_permissions_and_a_new_one_follows_the_umask(tmp_path):
    (tmp_path / 'private').write_text('old')
    os.chmod(tmp_path / 'private', 0o600)
    before = os.umask(0o027)
    try:
        for name in ('private', 'new'):
            atomic_write_text(tmp_path / name, 'text')
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ('private', 'new')] == [
        0o600, 0o640]
    assert (tmp_path / 'private').read_text() == 'text'


def test_file_that_cannot_be_waited_for_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda handle: os.close(-1))
    with pytest.raises(OSError):
        atomic_write_text(tmp_path / 'a', 'text', durable=True)
    assert os.listdir(tmp_path) == []


def test_arrays_are_read_from_an_archive_alone(tmp_path):
    path = tmp_path / 'scores.npz'
    np.savez(path, scores=np.eye(2), videos=np.array(['a', 'b']))
    assert read_arrays(path, 'scores').keys() == {'scores', 'videos'}
    path.write_bytes(b'PK')
    with pytest.raises(HRI30Error, match=r'scores\.npz'):
        read_arrays(path, 'scores')


def test_names_in_messages_are_printable(tmp_path):
    path = tmp_path / 'scores.npz'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a\x1b\udcff.npy'.encode('utf-8', 'surrogatepass').decode(
            'latin-1'), b'\x93NUMPY')
    with pytest.raises(HRI30Error) as error:
        read_arrays(path, 'scores')
    assert all(line.isprintable() for line in str(error.value).splitlines())


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / 'folder').mkdir()
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'folder', tmp_path / 'pipe', '/dev/stdout'):
        with pytest.raises(HRI30Error, match='cannot be written: not a file'):
            atomic_write_text(path, 'text')


@pytest.mark.parametrize(('name', 'content', 'classes'), [
    ('a.txt', 'Wave\n\n Stop here \n', ['Wave', 'Stop here']),
    ('a.txt', '10, Turn left\n2 Wave\n1\tStop\n', ['Stop', 'Wave', 'Turn left']),
    ('a.txt', '\n', 'empty')])
def test_classes_are_read_in_the_order_of_their_ids(tmp_path, name, content, classes):
    (tmp_path / name).write_text(content)
    if isinstance(classes, list):
        assert read_classes(tmp_path / name) == classes
    else:
        with pytest.raises(HRI30Error, match=f'{name}: {classes}'):
            read_classes(tmp_path / name)


def test_json_is_converted_to_a_schema(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('\ufeff{"a": [1, 2]}', encoding='utf-8')
    assert read_json(path, 'x', schema=dict[str, list[int]]) == {'a': [1, 2]}
    for schema, content in ((dict[str, str], '{"a": 1}'), (dict, '[]'), (dict, 'no')):
        path.write_text(content)
        with pytest.raises(HRI30Error, match=r'a\.json: not readable'):
            read_json(path, 'x', schema=schema)
    with pytest.raises(HRI30Error, match='more than 1'):
        read_json(path, 'x', most=1)
