"""Checking submissions."""

import pytest
from conftest import call_hri30

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.submission import check_submission, read_class_ids
from hri30_ext.names import released_name

NAMES = [released_name(name) for name in HRI30_CLASSES]
ROWS = [f'testvideo{i:03},{name},{i}' for i, name in enumerate(NAMES, 1)]


@pytest.fixture
def root(name_clips):
    """30 test clips and the training file."""
    root = name_clips(*(f'test_set/testvideo{i:03}.avi' for i in range(1, 31)))
    (root / 'annotations').mkdir()
    (root / 'annotations' / 'train_set_labels.csv').write_text(''.join(
        f'CID{i:02}_SID01_VID01,{name},{i}\n' for i, name in enumerate(NAMES, 1)))
    return root


def check(root, rows):
    path = root / 'submission.csv'
    path.write_text(''.join(f'{row}\n' for row in rows))
    return check_submission(path, root)


def test_a_clean_one(root):
    assert check(root, ROWS) == 30


@pytest.mark.parametrize('line, row', [
    (3, 'testvideo003;PickUpDrill;3'), (3, ROWS[0]), (3, 'other,Walking,27'),
    (3, 'testvideo003.avi,Walking,27'), (18, 'testvideo018,NoCollaborativeWithDrill,18'),
    (19, 'testvideo019,Juggling,19'), (28, 'testvideo028,WalkingWithObject,29'),
    (1, 'testvideo001,DeliverObject,0'), (2, ''), (2, 'testvideo002,Walking'),
])
def test_a_wrong_row(root, line, row):
    with pytest.raises(HRI30Error) as error:
        check(root, [*ROWS[:line - 1], row, *ROWS[line:]])
    assert f'row {line}: {row}\n' in str(error.value)
    has_its_clip = row.startswith(f'testvideo{line:03},')
    assert ('1 of 30' in str(error.value)) == has_its_clip
    assert (f'no row of testvideo{line:03}\n' in str(error.value)) != has_its_clip


def test_missing_rows_by_the_tool(root, capsys):
    with pytest.raises(HRI30Error, match='30 of 0 rows'):
        check(root, [])
    check(root, ROWS)
    assert call_hri30('submission', root / 'submission.csv', '--root', root) == 0
    (root / 'submission.csv').write_text('\n'.join(ROWS[:28]))
    assert call_hri30('submission', root / 'submission.csv', '--root', root) == 2
    assert 'testvideo029\n  no row of testvideo030\n' in capsys.readouterr().err


def test_classes_are_those_of_the_training_file(root):
    path = root / 'annotations' / 'train_set_labels.csv'
    path.write_text('a,NoCollaborativeWithDrill,18\n')  # a part of HRI30, two l
    expected = NAMES[:17] + ['NoCollaborativeWithDrill'] + NAMES[18:]
    assert list(read_class_ids(root)) == expected
    path.write_text('b,Point,2\na,Wave,1\nvideo_id,class_name,class_id\n')
    assert list(read_class_ids(root).items()) == [('Wave', '1'), ('Point', '2')]
    path.unlink()
    assert list(read_class_ids(root)) == NAMES
