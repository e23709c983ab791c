"""Bad clips are listed, not moved."""

import os
import pkgutil
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES

from hri30_ext.datasets.hri30 import HRI30Dataset, load_labelled_clips, load_test_clips
from hri30_ext.datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from hri30_ext.doctor import examine, leave_out
from hri30_ext.errors import HRI30Error

BAD = 'train_set/CID01_SID01_VID01.avi'
MISSING = 'train_set/CID02_SID01_VID01.avi'
EVIL = os.fsdecode(b'train_set/=cid4 \n\xff.avi')
BAD_TEST, MISSING_TEST = 'test_set/testvideo002.avi', 'test_set/testvideo003.avi'


@pytest.fixture
def root(clips_root, tmp_path):
    """A copy of the clips with bad and missing ones, and a bad test clip."""
    root = Path(shutil.copytree(clips_root, tmp_path / 'data'))
    (root / BAD).write_bytes(b'')
    (root / EVIL).write_bytes(b'no clip')
    (root / MISSING).unlink()
    (root / BAD_TEST).write_bytes(b'no clip either')
    return root


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Reads clips without the time that isolated processes take to start."""
    class Process:
        def call(self, function, *arguments, seconds):
            return pkgutil.resolve_name(function)(*arguments)

        def close(self):
            """There is nothing to close."""
    monkeypatch.setattr('hri30_ext.doctor.reading.IsolatedProcess', Process)


def look(root):
    return examine(root, CLASSES, workers=1, near=False, progress=False)


def errors(examination):
    return {(finding.kind, finding.path) for finding in examination.findings
            if finding.severity == 'error'}


def snapshot(root):
    """All files and links below a folder, and what is in them."""
    return {str(path.relative_to(root)): os.readlink(path) if path.is_symlink()
            else path.read_bytes() for path in sorted(root.rglob('*'))
            if path.is_symlink() or path.is_file()}


def fix(root):
    return leave_out(look(root))


def test_there_and_back(root):
    (root / MISSING_TEST).unlink()
    before = snapshot(root)
    text = fix(root)
    assert 'cid4 \\n\\xff.avi' in text
    clips = read_leave_out(root)
    assert list(clips) == sorted([BAD, MISSING, EVIL, MISSING_TEST])
    assert clips[BAD].startswith('undecodable: ')
    after = snapshot(root)
    assert after.pop(LEAVE_OUT) and after == before
    # Training and testing read the rest, and every test clip that there is.
    assert len(load_labelled_clips(root, CLASSES)) == 7
    assert len(load_test_clips(root, CLASSES)) == 2
    with pytest.warns(UserWarning, match=r'leave_out\.csv'):
        HRI30Dataset(str(root), [], 'train', metainfo=dict(classes=CLASSES))
    examination = look(root)
    assert errors(examination) == {('undecodable', BAD_TEST)}
    assert [(finding.path, finding.severity) for finding in examination.findings
            if finding.kind == 'left_out'] == [(path, 'info') for path in clips]
    assert fix(root) == text and read_leave_out(root) == clips  # again

    (root / LEAVE_OUT).unlink()
    assert snapshot(root) == before


def test_list_follows_the_data_and_keeps_what_others_wrote(root):
    fix(root)
    mine, good = 'train_set/CID02_SID02_VID01.avi', 'train_set/CID01_SID02_VID01.avi'
    write_leave_out(root, {**read_leave_out(root), mine: 'wrong action', BAD_TEST: ''})
    shutil.copy(root / good, root / BAD)
    assert not {mine, BAD} & {os.path.relpath(clip['filename'], root)
                              for clip in load_labelled_clips(root, CLASSES)}
    fix(root)
    assert read_leave_out(root).keys() == {MISSING, EVIL, mine, BAD_TEST}


@pytest.mark.parametrize('content', [b'', b'train_set/a.avi\n', b'clip,reason\na,b,c\n',
                                     b'clip,reason\n,\n', b'clip,reason\n"a\n'])
def test_file_that_is_not_a_list(root, content):
    (root / LEAVE_OUT).write_bytes(content)
    with pytest.raises(HRI30Error, match=r'leave_out\.csv'):
        read_leave_out(root)


@pytest.mark.parametrize('clips', [
    'train_set/CID0*_SID0[23]*',
    # As of a folder that is not mounted. All test clips are less than half of the data.
    'train_set/*', 'test_set/*'])
def test_more_than_half_of_a_split_is_another_fault(root, clips):
    for path in root.glob(clips):
        path.unlink()
    before = snapshot(root)
    with pytest.raises(HRI30Error, match=clips.partition('_')[0]):
        fix(root)
    assert snapshot(root) == before


def test_row_stays_with_the_clip_that_stays(root):
    """Two files of one clip, one of them broken."""
    other = 'train_set/cid02_sid02_vid01.mp4'
    (root / other).write_bytes(b'no clip')
    fix(root)
    clips = read_leave_out(root)
    assert other in clips and 'train_set/CID02_SID02_VID01.avi' not in clips
    assert len(load_labelled_clips(root, CLASSES)) == 7


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('change', [
    lambda row: row.replace(b',', b';'), lambda row: b'"' + row,
    lambda row: row.rstrip() + b'l\n',  # the first row: it looks like a header
    lambda row: row + b'x' * 140_000 + b',Walking,1\n'],
    ids=['semicolons', 'open quote', 'header', 'long field'])
def test_rows_that_cannot_be_read_leave_no_good_clip_out(root, split, change):
    csv = root / f'annotations/{split}_set_labels.csv'
    first, *rest = csv.read_bytes().splitlines(keepends=True)
    csv.write_bytes(b''.join([change(first), *rest]))
    fix(root)
    assert {BAD, EVIL} <= read_leave_out(root).keys() <= {BAD, EVIL, MISSING}
    assert ('annotation_row', f'annotations/{split}_set_labels.csv') in errors(look(root))


@pytest.mark.parametrize('layout', ['train', 'train/01', '.'])
def test_every_layout(root, layout):
    (root / 'annotations/train_set_labels.csv').unlink()
    (root / 'train_set').rename(root / 'clips')
    (root / 'test_set').rename(root / 'test')
    for file in list((root / 'clips').iterdir()):
        folder = root / layout.replace('01', file.name[3:5])
        folder.mkdir(parents=True, exist_ok=True)
        file.rename(folder / file.name)
    fix(root)
    clips = read_leave_out(root)
    assert {Path(path).name for path in clips} == {Path(BAD).name, Path(EVIL).name}
    assert not {os.path.relpath(clip['filename'], root)
                for clip in load_labelled_clips(root, CLASSES)} & clips.keys()
    examination = look(root)
    assert list(examination.splits.values()).count('test') == 3
    assert {Path(path).name for _, path in errors(examination)} == {Path(BAD_TEST).name}
