"""Bad clips are moved aside and come back byte for byte, whatever happens in between."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES

from hri30_ext.datasets.hri30 import load_labelled_clips, load_test_clips
from hri30_ext.doctor import aside, examine, format_moved, set_aside, undo
from hri30_ext.errors import HRI30Error

BAD = 'train_set/CID01_SID01_VID01.avi'


@pytest.fixture
def root(clips_root, tmp_path):
    """A copy of clips with one of each kind of fault that is moved."""
    root = tmp_path / 'data'
    shutil.copytree(clips_root, root)
    (root / BAD).write_bytes(b'')
    (root / 'train_set/CID02_SID01_VID01.avi').unlink()
    (root / 'train_set/CID03_SID01_VID01.avi').unlink()
    (root / 'train_set/CID03_SID01_VID01.avi').symlink_to('nowhere.avi')
    (root / 'train_set/cid4 \n.avi').write_bytes(b'no clip')
    (root / 'test_set/testvideo002.avi').write_bytes(b'no clip either')
    csv = root / 'annotations/train_set_labels.csv'
    csv.write_bytes(b'\xef\xbb\xbf' + csv.read_bytes().replace(b'\n', b'\r\n'))
    return root


def look(root):
    return examine(root, CLASSES, workers=1, near=False, progress=False)


def snapshot(root):
    """All files and links below a folder, and what is in them."""
    return {str(path.relative_to(root)): os.readlink(path) if path.is_symlink()
            else path.read_bytes() for path in sorted(root.rglob('*'))
            if path.is_symlink() or path.is_file()}


def fix(root):
    moved = set_aside(look(root))
    assert moved.folder.parent == root / 'set_aside'
    return moved


def test_there_and_back(root):
    before = snapshot(root)
    moved = fix(root)
    assert moved.files == [
        'test_set/testvideo002.avi', BAD, 'train_set/CID03_SID01_VID01.avi',
        'train_set/cid4 \n.avi']
    # The rows of the three that are moved and have one, and of the one that was missing.
    assert moved.rows == {'annotations/train_set_labels.csv': 3,
                          'annotations/test_set_labels.csv': 1}
    # What is left can be trained on and tested, and is clean.
    assert len(load_labelled_clips(root, CLASSES)) == 6
    assert len(load_test_clips(root, CLASSES)) == 2
    assert not [f for f in look(root).findings if f.severity == 'error']
    text = format_moved(moved)
    assert 'cid4 \\n.avi' in text and 'Took 3 rows out of' in text
    assert 'no row in a submission' in text

    manifest = json.loads((moved.folder / 'manifest.json').read_text())
    assert [entry['path'] for entry in manifest['files']] == moved.files
    assert manifest['files'][1]['kind'] == 'empty' and manifest['files'][1]['bytes'] == 0
    assert manifest['files'][2]['link'] == 'nowhere.avi'

    back = undo(root)
    assert back.files == moved.files and back.rows == moved.rows
    assert snapshot(root) == before and not (root / 'set_aside').exists()
    assert 'Put 3 rows back in' in format_moved(back, back=True)


def test_again_is_harmless_and_several_are_undone_the_newest_first(root):
    before = snapshot(root)
    first = fix(root)
    after = snapshot(root)
    assert set_aside(look(root)).folder is None
    assert snapshot(root) == after
    (root / 'train_set/CID02_SID02_VID01.avi').write_bytes(b'')
    second = fix(root)
    assert second.files == ['train_set/CID02_SID02_VID01.avi']
    with pytest.raises(HRI30Error, match='undo what was set aside later first'):
        undo(root, first.folder / 'manifest.json')
    undo(root)
    undo(root, first.folder)
    assert snapshot(root).pop('train_set/CID02_SID02_VID01.avi') == b''
    assert snapshot(root).keys() == before.keys()


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize('steps', range(9))
def test_killed_at_any_step_it_can_be_undone(root, monkeypatch, steps):
    """Each step is one that changes what a folder holds: writing or moving a file."""
    before, done = snapshot(root), []

    def count(function):
        def counted(*arguments):
            if len(done) == steps:
                raise Killed
            done.append(function.__name__)
            return function(*arguments)
        return counted
    found = look(root)
    with monkeypatch.context() as patch:
        for name in ('_write', '_move', '_write_manifest'):
            patch.setattr(aside, name, count(getattr(aside, name)))
        with pytest.raises(Killed):
            set_aside(found)
    assert 'set_aside' in {path.name for path in root.iterdir()}
    if '_write_manifest' in done:
        undo(root)
    else:  # nothing has moved yet
        assert '_move' not in done
        shutil.rmtree(root / 'set_aside')
    assert snapshot(root) == before


@pytest.mark.parametrize('steps', range(6))
def test_undoing_can_be_killed_and_taken_up(root, monkeypatch, steps):
    before, done = snapshot(root), []
    fix(root)

    def count(function):
        def counted(*arguments):
            if len(done) == steps:
                raise Killed
            done.append(1)
            return function(*arguments)
        return counted
    with monkeypatch.context() as patch:
        for name in ('_write', '_move'):
            patch.setattr(aside, name, count(getattr(aside, name)))
        with pytest.raises(Killed):
            undo(root)
    undo(root)
    assert snapshot(root) == before


def test_place_that_is_taken_and_file_that_changed(root):
    moved = fix(root)
    (root / BAD).write_bytes(b'the clip, downloaded again')
    (moved.folder / 'train_set/cid4 \n.avi').write_bytes(b'changed')
    (moved.folder / 'test_set/testvideo002.avi').unlink()
    csv = root / 'annotations/train_set_labels.csv'
    csv.write_bytes(csv.read_bytes() + b'\n')
    before = snapshot(root)
    with pytest.raises(HRI30Error, match='4 files cannot be moved back') as error:
        undo(root)
    for text in ('VID01.avi: another file stands', 'n.avi: has changed since',
                 'testvideo002.avi: is no longer', 'train_set_labels.csv: has changed'):
        assert text in str(error.value)
    assert snapshot(root) == before


def test_more_than_half_is_another_fault(root):
    for path in (root / 'train_set').glob('CID0*_SID0[23]*'):
        path.write_bytes(b'')
    before = snapshot(root)
    with pytest.raises(HRI30Error, match='at most half'):
        set_aside(look(root))
    assert snapshot(root) == before


@pytest.mark.parametrize('folder', ['train_set', 'test_set'])
def test_folder_that_is_not_mounted_empties_no_annotation(root, folder):
    """Of a split: all test clips together are less than half of the folder."""
    for path in (root / folder).iterdir():
        path.unlink()
    before = snapshot(root)
    with pytest.raises(HRI30Error, match='at most half') as error:
        set_aside(look(root))
    assert ('9 are missing' if folder == 'train_set' else '3 are missing') in str(
        error.value)
    assert snapshot(root) == before


def test_clip_that_came_since_keeps_its_row(root):
    found = look(root)
    shutil.copy(root / 'train_set/CID02_SID02_VID01.avi',
                root / 'train_set/CID02_SID01_VID01.avi')
    assert set_aside(found).rows['annotations/train_set_labels.csv'] == 2
    assert b'CID02_SID01_VID01,' in (root / 'annotations/train_set_labels.csv').read_bytes()


@pytest.mark.parametrize(('clip', 'other', 'split'), [
    ('train_set/CID02_SID02_VID01.avi', 'train_set/cid02_sid02_vid01.mp4', 'train'),
    ('test_set/testvideo001.avi', 'test_set/testvideo001.MP4', 'test')])
def test_row_stays_with_the_clip_that_stays(root, clip, other, split):
    """Two files of one clip, one of them broken."""
    (root / other).write_bytes(b'no clip')
    csv = root / f'annotations/{split}_set_labels.csv'
    before, row = snapshot(root), Path(clip).stem.encode() + b','
    assert row in csv.read_bytes()
    moved = fix(root)
    assert other in moved.files and clip not in moved.files
    assert row in csv.read_bytes()
    assert not [f for f in look(root).findings if f.severity == 'error']
    undo(root)
    assert snapshot(root) == before


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('change', [
    lambda row: row.replace(b',', b';'), lambda row: b',' + row,
    lambda row: b'"' + row, lambda row: row.replace(b',', b',"', 1),
    lambda row: row.rstrip() + b'l\n',  # the first row: it looks like a header
    lambda row: row + b'x' * 140_000 + b',Walking,1\n'],
    ids=['semicolons', 'shifted', 'open quote', 'open name', 'header', 'long field'])
def test_rows_that_cannot_be_read_move_no_good_clip(clips_root, tmp_path, split, change):
    root = tmp_path / 'data'
    shutil.copytree(clips_root, root)
    csv = root / f'annotations/{split}_set_labels.csv'
    first, *rest = csv.read_bytes().splitlines(keepends=True)
    csv.write_bytes(b''.join([change(first), *rest]))
    before = snapshot(root)
    errors = {(f.kind, f.path) for f in look(root).findings if f.severity == 'error'}
    assert errors == {('annotation_row', f'annotations/{split}_set_labels.csv')}
    assert set_aside(look(root)).folder is None and snapshot(root) == before
    # A clip that is bad in itself is moved, with its own row alone.
    bad = BAD if split == 'train' else 'test_set/testvideo002.avi'
    (root / bad).write_bytes(b'no clip')
    before = snapshot(root)
    assert fix(root).files == [bad]
    kept = csv.read_bytes()
    assert all(row in kept for row in rest if not row.startswith(Path(bad).stem.encode()))
    undo(root)
    assert snapshot(root) == before


def test_clips_that_are_others_than_those_examined_stay(root):
    found = look(root)
    good = (root / 'train_set/CID01_SID02_VID01.avi').read_bytes()
    (root / BAD).write_bytes(good)  # of another size
    (root / 'test_set/testvideo002.avi').write_bytes(b'another, bytes')  # of the same
    link = 'train_set/CID03_SID01_VID01.avi'
    (root / 'train_set/nowhere.avi').write_bytes(good)
    before = snapshot(root)
    moved = set_aside(found)
    assert moved.files == ['train_set/cid4 \n.avi']
    assert moved.left == ['test_set/testvideo002.avi', BAD, link]
    assert moved.rows == {'annotations/train_set_labels.csv': 1}  # of the missing clip
    text = format_moved(moved)
    assert text.index('Left 3 clips where they are') < text.index(BAD)
    # Clips that are new or of another size now are read, whatever is known of them.
    again = examine(root, CLASSES, workers=1, near=False, progress=False,
                    known=found.clips)
    assert again.clips[BAD].facts.num_bytes == len(good) and again.num_read == 3
    undo(root)
    assert snapshot(root) == before


def test_all_clips_are_others_now(root):
    found = look(root)
    for finding in found.findings:
        if finding.severity == 'error':
            (root / finding.path).unlink(missing_ok=True)
    (root / 'train_set/CID02_SID01_VID01.avi').write_bytes(b'')  # which was missing
    os.mkfifo(root / BAD)  # as empty as the clip was
    before = snapshot(root)
    moved = set_aside(found)
    assert moved.folder is None and len(moved.left) == 4
    assert format_moved(moved).startswith('Left 4 clips where they are')
    assert snapshot(root) == before


def test_annotation_that_cannot_be_read_moves_nothing(root, monkeypatch):
    found, before = look(root), snapshot(root)
    with monkeypatch.context() as patch:
        patch.setattr(aside.Path, 'read_bytes', refuse)
        with pytest.raises(HRI30Error, match=r'labels\.csv: cannot be read \(Permission'):
            set_aside(found)
    assert snapshot(root) == before


def refuse(path):
    raise PermissionError(13, 'Permission denied', str(path))


def test_clips_behind_a_link_stay(root, tmp_path):
    (root / 'train_set').rename(tmp_path / 'elsewhere')
    (root / 'train_set').symlink_to(tmp_path / 'elsewhere')
    before = snapshot(tmp_path / 'elsewhere')
    moved = fix(root)
    assert moved.files == ['test_set/testvideo002.avi']
    assert snapshot(tmp_path / 'elsewhere') == before


@pytest.mark.parametrize('path', [
    '/etc/clip.avi', '../clip.avi', 'train_set/../../clip.avi', '..', '', '.', 'a\0.avi', 7,
    None, ['x.avi'], 'set_aside/x.avi', './clip.avi', 'train_set//clip.avi', 'notes.txt',
    'link/clip.avi'])
def test_forged_manifest_leads_nowhere(root, tmp_path, path):
    outside = tmp_path / 'outside'
    outside.mkdir()
    (root / 'link').symlink_to(outside)
    folder = root / 'set_aside' / '20300131-120000'
    (folder / 'link').mkdir(parents=True)
    (folder / 'link' / 'clip.avi').write_bytes(b'')
    (folder / 'manifest.json').write_text(json.dumps(dict(
        version=1, annotations=[], files=[dict(
            path=path, kind='empty', bytes=0,
            sha256='e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')])))
    before = snapshot(tmp_path)
    with pytest.raises(HRI30Error, match=r'manifest'):
        undo(root)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize('manifest', [
    'no JSON', '[]', '{}', '{"version": 2}', '{"version": 1, "files": 3}',
    '{"version": 1, "files": [], "annotations": [{"path": "../x", "rows": 1, '
    '"sha256_before": "", "sha256_after": ""}]}', '[' * 100_000,
    '{"version": 1, "files": [], "annotations": [{"path": '
    '"annotations/train_set_labels.csv", "rows": Infinity, "sha256_before": "", '
    '"sha256_after": ""}]}',
    '{"version": 1, "annotations": [], "files": [{"path": "a.avi", "bytes": -Infinity}]}',
    '{"version": 1, "annotations": [], "files": [{"path": "%s/a.avi"}]}' % ('x' * 300)])
def test_manifest_that_is_none(root, manifest):
    folder = root / 'set_aside' / 'x'
    folder.mkdir(parents=True)
    (folder / 'manifest.json').write_text(manifest)
    with pytest.raises(HRI30Error, match=r'manifest\.json'):
        undo(root)


def test_manifest_elsewhere_and_folders_that_are_links(root, tmp_path):
    with pytest.raises(HRI30Error, match='nothing was set aside'):
        undo(root)
    fix(root)
    shutil.copytree(root / 'set_aside', tmp_path / 'copy', symlinks=True)
    with pytest.raises(HRI30Error, match='expected'):
        undo(root, next((tmp_path / 'copy').iterdir()) / 'manifest.json')
    shutil.rmtree(root / 'set_aside')
    (root / 'set_aside').symlink_to(tmp_path / 'copy')
    with pytest.raises(HRI30Error, match='is a link'):
        undo(root)
    (root / 'train_set/CID02_SID02_VID01.avi').write_bytes(b'')
    with pytest.raises(HRI30Error, match='is a link'):
        set_aside(look(root))


@pytest.mark.parametrize('layout', ['train_set', 'train/01', 'root'])
def test_what_is_aside_is_not_read_as_data(root, layout):
    target = {'train_set': root / 'train_set', 'train/01': root / 'train' / '01',
              'root': root}[layout]
    (root / 'annotations/train_set_labels.csv').unlink()
    for file in list((root / 'train_set').iterdir()):
        if layout == 'train/01' and not file.name.startswith('CID01'):
            file.unlink()
        elif layout != 'train_set':
            target.mkdir(parents=True, exist_ok=True)
            file.rename(target / file.name)
    if layout != 'train_set':
        (root / 'train_set').rmdir()
    before = snapshot(root)
    moved = fix(root)
    assert str((target / Path(BAD).name).relative_to(root)) in moved.files
    clips = load_labelled_clips(root, CLASSES)
    assert clips and not any('set_aside' in clip['filename'] for clip in clips)
    assert not any(path.startswith('set_aside') for path in look(root).clips)
    undo(root)
    assert snapshot(root) == before
