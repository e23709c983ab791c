"""Bad clips are listed, not moved; what version 0.4 moved comes back byte for byte."""

import hashlib
import json
import os
import pkgutil
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES

from hri30_ext.datasets.hri30 import HRI30Dataset, load_labelled_clips, load_test_clips
from hri30_ext.datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from hri30_ext.doctor import examine, leave_out, undo
from hri30_ext.errors import HRI30Error

BAD = 'train_set/CID01_SID01_VID01.avi'
MISSING = 'train_set/CID02_SID01_VID01.avi'
LINK = 'train_set/CID03_SID01_VID01.avi'
EVIL = os.fsdecode(b'train_set/=cid4 \n\xff.avi')
BAD_TEST, MISSING_TEST = 'test_set/testvideo002.avi', 'test_set/testvideo003.avi'


@pytest.fixture
def clean(clips_root, tmp_path):
    """A copy of the clips, to change."""
    return Path(shutil.copytree(clips_root, tmp_path / 'data'))


@pytest.fixture
def root(clean):
    """One of each kind of fault that is fixed."""
    spoil(clean)
    (clean / MISSING).unlink()
    (clean / BAD_TEST).write_bytes(b'no clip either')
    return clean


def spoil(root):
    (root / BAD).write_bytes(b'')
    (root / LINK).unlink()
    (root / LINK).symlink_to('nowhere.avi')
    (root / EVIL).write_bytes(b'no clip')


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


def errors(found):
    return {(finding.kind, finding.path) for finding in found.findings
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
    assert 'cid4 \\n\\xff.avi' in text and 'leaves out 5 clips' in text
    assert '1 bad test clips are not in it' in text
    clips = read_leave_out(root)
    assert list(clips) == sorted([BAD, MISSING, LINK, EVIL, MISSING_TEST])
    assert clips[BAD] == 'empty: it has no bytes'
    after = snapshot(root)
    assert after.pop(LEAVE_OUT) and after == before
    # Training and testing read the rest, and every test clip that there is.
    assert len(load_labelled_clips(root, CLASSES)) == 6
    assert len(load_test_clips(root, CLASSES)) == 2
    with pytest.warns(UserWarning, match=': 2 clips are left out of training'):
        HRI30Dataset(str(root), [], 'train', metainfo=dict(classes=CLASSES))
    found = look(root)
    assert errors(found) == {('undecodable', BAD_TEST)}
    assert [(f.path, f.severity) for f in found.findings if f.kind == 'left_out'] == [
        (path, 'info') for path in clips]
    assert fix(root) == text and read_leave_out(root) == clips  # again

    assert 'Deleted' in undo(root) and snapshot(root) == before
    with pytest.raises(HRI30Error, match='nothing to undo'):
        undo(root)


def test_list_follows_the_data_and_keeps_what_others_wrote(root):
    fix(root)
    mine, good = 'train_set/CID02_SID02_VID01.avi', 'train_set/CID01_SID02_VID01.avi'
    write_leave_out(root, {**read_leave_out(root), mine: 'wrong action', BAD_TEST: ''})
    shutil.copy(root / good, root / BAD)
    left_out = {f.path: f for f in look(root).findings if f.kind == 'left_out'}
    assert left_out[mine].severity == 'info' and left_out[mine].detail == 'wrong action'
    assert left_out[BAD].severity == left_out[BAD_TEST].severity == 'warning'
    assert 'nothing is wrong with it now' in left_out[BAD].detail
    assert not {mine, BAD} & {os.path.relpath(clip['filename'], root)
                              for clip in load_labelled_clips(root, CLASSES)}
    fix(root)
    assert read_leave_out(root).keys() == {MISSING, LINK, EVIL, mine, BAD_TEST}


@pytest.mark.parametrize('content', [b'', b'train_set/a.avi\n', b'clip,reason\na,b,c\n',
                                     b'clip,reason\n,\n', b'clip,reason\n"a\n'])
def test_file_that_is_not_a_list(root, content):
    (root / LEAVE_OUT).write_bytes(content)
    with pytest.raises(HRI30Error, match=r'leave_out\.csv'):
        read_leave_out(root)
    undo(root)


@pytest.mark.parametrize(('clips', 'said'), [
    ('train_set/CID0*_SID0[23]*', 'train clips'),
    # As of a folder that is not mounted. All test clips are less than half of the data.
    ('train_set/*', '9 of 9 train'), ('test_set/*', '3 of 3 test')])
def test_more_than_half_of_a_split_is_another_fault(root, clips, said):
    for path in root.glob(clips):
        path.unlink()
    before = snapshot(root)
    with pytest.raises(HRI30Error, match=f'{said}(?s:.*)at most half'):
        fix(root)
    assert snapshot(root) == before


def test_row_stays_with_the_clip_that_stays(root):
    """Two files of one clip, one of them broken."""
    other = 'train_set/cid02_sid02_vid01.mp4'
    (root / other).write_bytes(b'no clip')
    fix(root)
    clips = read_leave_out(root)
    assert other in clips and 'train_set/CID02_SID02_VID01.avi' not in clips
    assert len(load_labelled_clips(root, CLASSES)) == 6


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('change', [
    lambda row: row.replace(b',', b';'), lambda row: b',' + row,
    lambda row: b'"' + row, lambda row: row.replace(b',', b',"', 1),
    lambda row: row.rstrip() + b'l\n',  # the first row: it looks like a header
    lambda row: row + b'x' * 140_000 + b',Walking,1\n'],
    ids=['semicolons', 'shifted', 'open quote', 'open name', 'header', 'long field'])
def test_rows_that_cannot_be_read_leave_no_good_clip_out(clean, split, change):
    csv = clean / f'annotations/{split}_set_labels.csv'
    first, *rest = csv.read_bytes().splitlines(keepends=True)
    csv.write_bytes(b''.join([change(first), *rest]))
    found = look(clean)
    assert errors(found) == {('annotation_row', f'annotations/{split}_set_labels.csv')}
    assert 'no clip to leave out' in leave_out(found)
    (clean / BAD).write_bytes(b'no clip')
    fix(clean)
    assert list(read_leave_out(clean)) == [BAD]


@pytest.mark.parametrize('layout', ['train_set', 'train', 'train/01', 'root', 'link'])
def test_every_layout(root, tmp_path, layout):
    (root / 'annotations/train_set_labels.csv').unlink()
    if layout == 'link':
        (root / 'train_set').rename(tmp_path / 'elsewhere')
        (root / 'train_set').symlink_to(tmp_path / 'elsewhere')
    elif layout != 'train_set':
        for file in list((root / 'train_set').iterdir()):
            folder = {'train/01': root / 'train' / file.name[3:5],
                      'train': root / 'train', 'root': root}[layout]
            folder.mkdir(parents=True, exist_ok=True)
            file.rename(folder / file.name)
        (root / 'train_set').rmdir()
        (root / 'test_set').rename(root / 'test')
    found = look(root)
    assert list(found.splits.values()).count('test') == 3
    leave_out(found)
    clips = read_leave_out(root)
    assert any(path.endswith(Path(BAD).name) for path in clips)
    read = load_labelled_clips(root, CLASSES)
    assert len(read) == 6
    assert not any(clip['filename'].endswith(tuple(clips)) for clip in read)
    assert {Path(path).name for _, path in errors(look(root))} == {Path(BAD_TEST).name}


# ---- Folders of version 0.4 -------------------------------------------------------------


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def aside(clean):
    """A data folder after version 0.4 moved clips aside, and what it was before."""
    spoil(clean)
    before = snapshot(clean)
    set_aside(clean, '20300131-120000', [BAD, LINK, EVIL])
    return clean, before


def set_aside(root, name, paths):
    """Moves clips aside as version 0.4 did."""
    folder, table = root / 'set_aside' / name, 'annotations/train_set_labels.csv'
    rows = (root / table).read_bytes()
    stems = [Path(path).stem.encode('utf-8', 'surrogateescape') for path in paths]
    kept = b''.join(row for row in rows.splitlines(keepends=True)
                    if row.split(b',')[0] not in stems)
    files = []
    for path in paths:
        file = root / path
        files.append(dict(path=path, kind='empty', link=os.readlink(file))
                     if file.is_symlink() else
                     dict(path=path, kind='empty', bytes=file.stat().st_size,
                          sha256=sha256(file.read_bytes())))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.rename(file, folder / path)
    (folder / table).parent.mkdir(exist_ok=True)
    (folder / table).write_bytes(rows)
    (root / table).write_bytes(kept)
    (folder / 'manifest.json').write_text(json.dumps(dict(
        version=1, created='2030-01-31T12:00:00+0000', files=files, annotations=[dict(
            path=table, rows=rows.count(b'\n') - kept.count(b'\n'),
            sha256_before=sha256(rows), sha256_after=sha256(kept))]), indent=1) + '\n')


def test_what_0_4_moved_comes_back(aside):
    root, before = aside
    good = 'train_set/CID02_SID02_VID01.avi'
    set_aside(root, '20300131-120000-002', [good])
    assert good not in look(root).clips  # nothing in set_aside/ is read
    write_leave_out(root, {MISSING: 'missing_clip: gone'})
    text = undo(root)
    assert 'Moved 3 clips back' in text and 'Put 2 rows back in' in text
    assert 'Deleted' in text and snapshot(root) == before
    assert not (root / 'set_aside').exists()


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize('steps', range(4))
def test_undoing_can_be_killed_and_repeated(aside, monkeypatch, steps):
    root, before = aside
    rename, done = os.rename, []

    def rename_some(*paths):
        if len(done) == steps:
            raise Killed
        done.append(rename(*paths))
    with monkeypatch.context() as patch:
        patch.setattr(os, 'rename', rename_some)
        with pytest.raises(Killed):
            undo(root)
    undo(root)
    assert snapshot(root) == before


def test_place_that_is_taken_and_file_that_changed(aside):
    root, _ = aside
    folder, = (root / 'set_aside').iterdir()
    (root / BAD).write_bytes(b'the clip, downloaded again')
    (folder / EVIL).write_bytes(b'changed')
    (folder / LINK).unlink()
    csv = root / 'annotations/train_set_labels.csv'
    csv.write_bytes(csv.read_bytes() + b'\n')
    before = snapshot(root)
    with pytest.raises(HRI30Error, match='4 files cannot be moved back') as error:
        undo(root)
    for text in ('VID01.avi: another file is in its place', 'avi: has changed since it',
                 'VID01.avi: is no longer', 'labels.csv: another file is'):
        assert text in str(error.value)
    assert snapshot(root) == before


TABLE = dict(path='annotations/train_set_labels.csv', rows=1, sha256_before='',
             sha256_after='')
FORGED = ['/etc/clip.avi', '../clip.avi', 'train_set/../../clip.avi', '..', '', '.',
          'a\0.avi', 7, None, ['x.avi'], 'set_aside/x.avi', './clip.avi',
          'train_set//clip.avi', 'notes.txt', 'link/clip.avi', f'{"x" * 300}/a.avi']


@pytest.mark.parametrize('manifest', [
    'no JSON', [], {}, {'version': 2}, {'version': 1, 'files': 3}, '[' * 100_000,
    *(dict(version=1, annotations=[], files=[dict(path=path, sha256=sha256(b''))])
      for path in FORGED),
    dict(version=1, files=[], annotations=[{**TABLE, 'path': '../x'}]),
    dict(version=1, files=[], annotations=[{**TABLE, 'rows': float('inf')}])])
def test_forged_manifest_leads_nowhere(root, tmp_path, manifest):
    outside, folder = tmp_path / 'outside', root / 'set_aside' / 'x'
    outside.mkdir()
    (root / 'link').symlink_to(outside)
    (folder / 'link').mkdir(parents=True)
    (folder / 'link' / 'clip.avi').write_bytes(b'')
    (folder / 'manifest.json').write_text(
        manifest if isinstance(manifest, str) else json.dumps(manifest))
    before = snapshot(tmp_path)
    with pytest.raises(HRI30Error, match=r'manifest\.json'):
        undo(root)
    assert snapshot(tmp_path) == before


def test_folders_that_are_links(aside, tmp_path):
    root, _ = aside
    (root / 'set_aside').rename(tmp_path / 'moved')
    (root / 'set_aside').symlink_to(tmp_path / 'moved')
    with pytest.raises(HRI30Error, match='is a link'):
        undo(root)
