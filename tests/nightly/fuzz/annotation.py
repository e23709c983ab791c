"""Files of rows and lines: annotations, lists of clips, submissions, curves."""

import shutil
import tempfile
from pathlib import Path

from hri30_ext.datasets.annotation import format_annotations, read_annotations
from hri30_ext.datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from hri30_ext.datasets.splits import split_clips
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.submission import check_submission
from hri30_ext.utils.curves import read_curves

_CLASSES = ('DeliverObject', 'Walking', 'NoCollaborativeWithDrill')
_CLIPS = [dict(video_id=f'CID0{label + 1}_SID0{group}_VID01', label=label, group=group)
          for label in range(3) for group in range(2)]

_folder = tempfile.TemporaryDirectory(prefix='fuzz-')
_root = Path(_folder.name)
for _part in ('test_set/a.avi', 'test_set/b.avi'):
    (_root / _part).parent.mkdir(exist_ok=True)
    (_root / _part).touch()


def one_input(data: bytes) -> None:
    """Reads a file as each kind of table.

    Args:
        data (bytes): The file.
    """
    path = _root / 'input.csv'
    path.write_bytes(data)
    before = sorted(_root.rglob('*'))
    for read in (_annotations, _list, _leave_out, _submission, _curves):
        try:
            read(path)
        except HRI30Error as error:
            assert str(path) in str(error) and len(str(error)) < 3000
    assert sorted(_root.rglob('*')) == before


def _annotations(path: Path) -> None:
    rows = read_annotations(path, _CLASSES)
    assert len({row.video_id for row in rows}) == len(rows)
    for video_id, name, class_id in rows:
        assert _CLASSES[class_id - 1] == name and video_id.isprintable()
    try:
        text = format_annotations(rows)
    except HRI30Error:
        return  # a comma or a quote in an id
    again = path.with_name('again.csv')
    again.write_text(text, encoding='utf-8', newline='\n')
    try:
        found = read_annotations(again, _CLASSES)
        # An ending is taken off once.
        assert len(found) == len(rows)
        assert all(a == b or '.' in b.video_id for a, b in zip(found, rows, strict=True))
    except HRI30Error:
        assert any('.' in row.video_id for row in rows)
    finally:
        again.unlink()


def _list(path: Path) -> None:
    train, val = split_clips(_CLIPS, 'file', val_file=str(path))
    assert train and val and len(train) + len(val) == len(_CLIPS)


def _leave_out(path: Path) -> None:
    """Reads the file as a list of clips to leave out, which is written back unchanged."""
    target = path.parent / LEAVE_OUT
    target.parent.mkdir(exist_ok=True)
    try:
        shutil.copy(path, target)
        clips = read_leave_out(path.parent)
        write_leave_out(path.parent, clips)
        assert read_leave_out(path.parent) == clips
    except HRI30Error as error:
        raise HRI30Error(str(error).replace(str(target), str(path))) from error
    finally:
        shutil.rmtree(target.parent)


def _submission(path: Path) -> None:
    assert check_submission(path, _root) > 0


def _curves(path: Path) -> None:
    for point in read_curves(path):
        assert all(isinstance(value, int | float) for value in point.values())
