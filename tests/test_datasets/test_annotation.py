import pytest

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.datasets.annotation import (
    Annotation,
    format_annotations,
    read_annotations,
    write_annotations,
)
from hri30_ext.errors import HRI30Error


def write(tmp_path, text):
    path = tmp_path / 'train_set_labels.csv'
    path.write_bytes(text.encode())
    return path


def test_rows_as_released(tmp_path):
    text = 'CID01_SID01_VID01,DeliverObject,1\nCID18_SID10_VID07,' \
           'NoCollaborativeWithDrilll,18\n'
    rows = read_annotations(write(tmp_path, text), HRI30_CLASSES)
    assert rows[1] == Annotation('CID18_SID10_VID07', 'NoCollaborativeWithDrill', 18)
    write_annotations(tmp_path / 'out.csv', rows)
    assert (tmp_path / 'out.csv').read_bytes() == text.encode()


@pytest.mark.parametrize('text, name', [
    ('video_id,class_name,class_id\nA,Walking,27\n', 'A'),  # a header
    ('A,Walking,27\r\n', 'A'),  # CRLF
    # Byte order mark, ending, spaces, blank line.
    ('\ufeffA.avi , Walking, 27\n\n', 'A'),
    # Only the ending of a video is taken off, and its folder.
    ('a/x.AVI,Walking,27\n', 'x'), ('1.5 s,Walking,27\n', '1.5 s')])
def test_forms_that_are_accepted(tmp_path, text, name):
    assert read_annotations(write(tmp_path, text), HRI30_CLASSES) == [
        Annotation(name, 'Walking', 27)]


@pytest.mark.parametrize('text, message', [
    ('A,WalkingWithObject,29\nB,WalkingWithDrill,28\n',
     'WalkingWithObject has id 29, expected 28'),  # the swap of sorted class lists
    ('A,Dancing,3\n', "unknown class 'Dancing'"),
    ('A,Walking,31\n', 'class id 31, expected 1 to 30'),
    ('A,Walking,0\n', 'class id 0'),
    ('A,Walking\n', 'expected video_id,class_name,class_id'),
    ('A,Walking,no id\n', 'expected video_id,class_name,class_id'),  # not a header
    ('a\x1b,Walking,27\n', 'expected video_id,class_name,class_id'),
    ('A,Walking,27\nA,Walking,27\n', 'is already in row 1'),
])
def test_contradictions_are_listed(tmp_path, text, message):
    with pytest.raises(HRI30Error, match=message) as error:
        read_annotations(write(tmp_path, text), HRI30_CLASSES)
    assert 'train_set_labels.csv' in str(error.value)


@pytest.mark.parametrize('name', ['a\nb', 'a,b', 'a"b', 'a\x7f'])
def test_names_that_would_break_a_submission_are_refused(name):
    with pytest.raises(HRI30Error, match='in a submission'):
        format_annotations([Annotation(name, 'Walking', 27)])
