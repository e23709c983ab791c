"""Clips in class folders, tables and lists, and every message about wrong ones."""

import numpy as np
import pytest

from hri30_ext.datasets import HRI30Dataset
from hri30_ext.datasets.hri30 import load_labelled_clips
from hri30_ext.datasets.layouts import find_annotation, find_classes, read_layout
from hri30_ext.datasets.splits import split_clips
from hri30_ext.doctor.copies import propose_groups
from hri30_ext.doctor.leaks import find_leaks
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video.cache import ClipCache
from hri30_ext.video.decode import ClipError, Video


@pytest.fixture
def make(tmp_path):
    """Returns a function that makes files: text by name, empty clips by name alone."""
    def write(*clips, **texts):
        for name in clips:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, text in texts.items():
            path = tmp_path / name.replace('__', '/').replace('_DOT_', '.')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path
    return write


CLIPS = ('clips/a1.mp4', 'clips/a2.mp4', 'clips/b1.mp4', 'clips/b2.mp4')


def summary(layout):
    """Returns name, class, group and subset of each clip."""
    return [(clip['video_id'], layout.classes[clip['label']] if clip['label'] >= 0 else '',
             clip['group'], clip['subset']) for clip in layout.clips]


# ---- Layouts ----------------------------------------------------------------------------


def test_class_folders_are_found_with_the_folder_above_as_the_group(make):
    root = make('Wave/anna/1.mp4', 'Wave/ben/1.mp4', 'Point/anna/2.mp4', 'Point/ben/3.mp4')
    assert find_annotation(root) == 'folders'
    layout = read_layout(root)
    assert layout.groups == {'anna': 1, 'ben': 2}
    assert summary(layout) == [
        ('2', 'Point', 1, ''), ('3', 'Point', 2, ''), ('Wave/anna/1', 'Wave', 1, ''),
        ('Wave/ben/1', 'Wave', 2, '')]


def test_folders_of_splits_are_the_given_split(make):
    root = make('train/A/a.mp4', 'train/B/2.mp4', 'val/A/A.mp4', 'val/B/4.mp4',
                'test/A/5.mp4', 'test/B/6.webm')
    subsets = {}
    for subset in ('train', 'val', 'test'):
        dataset = HRI30Dataset(str(root), [], subset, dict(type='given'),
                               dict(classes=['A', 'B']), lazy_init=True)
        subsets[subset] = [clip['video_id'] for clip in dataset.load_data_list()]
    # Names are compared without case.
    assert subsets == dict(train=['train/A/a', '2'], val=['val/A/A', '4'],
                           test=['5', '6'])


def test_group_pattern_and_none(make):
    root = make('A/s01_x.mp4', 'A/s02_x.mp4', 'B/s01_y.mp4', 'B/s02_y.mp4')
    clips = load_labelled_clips(root, ['A', 'B'], group_pattern=r'(?P<group>s\d+)_')
    train, val = split_clips(clips, val_groups=[2])
    assert [clip['video_id'] for clip in train] == ['s01_x', 's01_y']
    assert [clip['video_id'] for clip in val] == ['s02_x', 's02_y']
    layout = read_layout(root)
    assert {clip['group'] for clip in layout.clips} == {-1}
    assert 'reads too high' in layout.notes[-1]
    with pytest.raises(HRI30Error, match='no groups'):
        split_clips(layout.clips)
    with pytest.raises(HRI30Error, match='named as HRI30'):
        HRI30Dataset(str(root), [], split=dict(type='paper'),
                     metainfo=dict(classes=['A', 'B']))


@pytest.mark.parametrize('name, text', [
    ('t_DOT_csv', 'path,class,id,subject,split\nclips/a1.mp4,A,1,7,train\n'
                  'clips/a2.mp4,A,2,8,val\nclips/b1.mp4,B,3,7,train\n'
                  'clips/b2.mp4,B,4,8,validation\n'),
    ('t_DOT_tsv', 'File_Name\tCLASS\tgroup\tsubset\na1\tA\t7\ttrain\na2\tA\t8\tdev\n'
                  'b1\tB\t7\ttraining\nb2\tB\t8\tval\n'),
    ('clips__metadata_DOT_csv', 'file_name,label,group,split\na1.mp4,A,07,train\n'
                                'a2.mp4,A,08,val\nb1.mp4,B,07,train\nb2.mp4,B,08,val\n')])
def test_tables(make, name, text):
    root = make(*CLIPS, **{name: text})
    layout = read_layout(root, name.replace('__', '/').replace('_DOT_', '.'))
    assert summary(layout) == [('a1', 'A', 7, 'train'), ('a2', 'A', 8, 'val'),
                               ('b1', 'B', 7, 'train'), ('b2', 'B', 8, 'val')]


def test_named_columns_of_a_table(make):
    root = make(*CLIPS, t_DOT_csv='what,clip name\nA,a1.mp4\nA,a2.mp4\nB,b1\nB,b2\n')
    layout = read_layout(root, columns=['label', 'path'])
    assert layout.annotation == 't.csv' and layout.classes == ['A', 'B']
    assert len(layout.clips) == 4


def test_paths_are_whole_or_the_end_of_one_file(make):
    table = 'path,label\n1.mp4,A\nb/1,A\nB/2.mp4,B\n3,B\n'
    root = make('1.mp4', 'b/1.mp4', 'videos/B/2.mp4', 'videos/B/3.mp4', t_DOT_csv=table)
    assert [clip['filename'].removeprefix(f'{root}/') for clip in read_layout(root).clips
            ] == ['1.mp4', 'b/1.mp4', 'videos/B/2.mp4', 'videos/B/3.mp4']
    make('videos/b/1.mp4', 'more/B/2.mp4')
    with pytest.raises(HRI30Error, match='line 4: B/2.mp4 can be 2 files'):
        read_layout(root)


def test_folders_that_are_linked_into_the_data_folder(make):
    root = make('far/A/1.mp4', 'far/A/2.mp4', 'far/B/3.mp4', 'far/B/4.mp4', 'own/x',
                'listed/x').joinpath('own')
    for name in 'AB':
        (root / name).symlink_to(root.parent / 'far' / name)
    assert [clip['video_id'] for clip in read_layout(root).clips] == ['1', '2', '3', '4']
    root = root.with_name('listed')
    (root / 'clips').symlink_to(root.parent / 'far')
    (root / 't.csv').write_text('path,label\nclips/A/1.mp4,A\n2,A\n')
    assert [clip['video_id'] for clip in read_layout(root).clips] == ['1', '2']


def test_lists_of_ucf_101(make):
    lines = [f'{k}/v_{k}_g{g}_c1.avi {i}' for k, g, i in ('A11', 'A21', 'B32', 'B42')]
    clips = [line.split()[0] for line in lines] + ['B/v_B_g5_c1.avi']
    root = make(*clips, trainlist01_DOT_txt='\n'.join(lines),
                testlist01_DOT_txt=clips[-1], classInd_DOT_txt='1 A\n2 B\n')
    assert find_annotation(root) == 'trainlist01.txt'
    classes = find_classes(root, None)
    assert classes == ['A', 'B']
    assert summary(read_layout(root, None, classes)) == [
        (f'v_{k}_g{g}_c1', k, -1, 'test' if g == '5' else 'train')
        for k, g in ('A1', 'A2', 'B3', 'B4', 'B5')]


def test_lists_of_kinetics(make):
    root = make(*CLIPS, k_train_list_DOT_txt='a1.mp4 0\na2.mp4 0\nb1.mp4 1\n',
                k_val_list_DOT_txt='b2 1\n')
    assert find_annotation(root) == 'k_train_list.txt' and find_classes(root, None) is None
    assert summary(read_layout(root)) == [
        ('a1', '0', -1, 'train'), ('a2', '0', -1, 'train'), ('b1', '1', -1, 'train'),
        ('b2', '1', -1, 'val')]


@pytest.mark.parametrize('ids, note', [('0011', 'start at 0'), ('1122', 'start at 1')])
def test_ids_from_0_and_1_are_told_apart(make, ids, note):
    lines = [f'{name} {i}' for name, i in zip(CLIPS, ids, strict=True)]
    layout = read_layout(make(*CLIPS, l_DOT_txt='\n'.join(lines)), 'l.txt', ['A', 'B'])
    assert [clip['label'] for clip in layout.clips] == [0, 0, 1, 1]
    assert note in layout.notes[0]


# ---- Wrong data -------------------------------------------------------------------------


HEAD = 'path,label\na1,A\na2,A\nb1,B\n'


@pytest.mark.parametrize('text, place', [
    ('path,lable\na1,A\n', 'line 1: .*label.*lable'), (HEAD + 'b2,2\n', 'line 5: 2'),
    (HEAD + '../b2.mp4,B\n', r'line 5: \.\./b2\.mp4'), (HEAD + 'b3,B\n', 'line 5: b3'),
    (HEAD + 'b2,B\na1,B\n', 'line 6: a1 .*line 2'), (HEAD, 'B'),
    (HEAD + 'b2,B,x\n', 'line 5'), (HEAD + 'b2,\n', 'line 5: b2'),
    ('path,label,split\na1,A,sometimes\n', 'line 2.*sometimes'),
    ('path,label,start,end\na1,A,2,1\n', 'line 2'),
    ('path,label,start,end\na1,A,,1\n', 'line 2'),
    ('path,label,group\na1,A,1\na2,A,\n', 'line 3: a2'),
    ('path,label\na1,1\na2,1\nb1,2\nb2,2\n', 'line 2.*0'),
    ('path,label\na1,1\na2,1\nb1,09\nb2,09\n', 'line 4.*09'),
    ('path,label\na1,Aa\na2,Aa\n', 'line 2: Aa .*nearest: A')])
def test_a_wrong_table_is_named(make, text, place):
    classes = ['A', 'B', 'C'] if ',1\n' in text or 'Aa' in text else None
    with pytest.raises(HRI30Error, match=f'(?s){place}'):
        read_layout(make(*CLIPS, t_DOT_csv=text), classes=classes)


@pytest.mark.parametrize('clips, settings, named', [
    (('A/1.mp4', 'A/2.mp4', 'B/readme.txt'), {}, 'B\n'),
    (('A/1.mp4', 'A/2.mp4', 'loose.mp4'), {}, 'loose.mp4'),
    (('A/1.mp4', 'A/2.mp4'), dict(group_pattern='s(1)'), 'group_pattern'),
    (('A/1.mp4', 'A/2.mp4'), dict(group_pattern='(?P<group>'), 'group_pattern'),
    (('A/1.mp4', 'A/2.mp4'), dict(group_pattern='(?P<group>s)'), '2.mp4'),
    (('A/1.mp4', 'A/2.mp4'), dict(annotation='folders', columns=['path']), 'columns'),
    (('a.csv', 'b.csv', 'c.mp4'), {}, 'b.csv')])
def test_wrong_folders_are_named(make, clips, settings, named):
    with pytest.raises(HRI30Error, match=named):
        read_layout(make(*clips), **settings)


# ---- Parts of recordings ----------------------------------------------------------------


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Three seconds at 30 frames a second, from two clips."""
    path = tmp_path_factory.mktemp('parts') / 'long.avi'
    frames = np.concatenate([render_clip(1, 1, 1, 0), render_clip(2, 1, 1, 0)] * 2)[:90]
    write_video(frames, path)
    return path


def test_a_part_has_the_frames_of_its_time(recording, tmp_path):
    whole = Video(recording).read_all()
    part = Video(str(recording.with_name('long[1-1.5].avi')))
    np.testing.assert_array_equal(part.read_all(), whole[30:45])
    np.testing.assert_array_equal(part.read([14, 0]), whole[[44, 30]])
    cache = ClipCache(tmp_path, None)
    kept = cache.add(part.filename)
    np.testing.assert_array_equal(kept.array, whole[30:45])
    assert len(cache.add(recording)) == 90
    assert cache.open(part.filename).filename == kept.filename
    with pytest.raises(ClipError, match=r'from 2\.5 to 9 s is not within the 3\.00 s'):
        Video(str(recording.with_name('long[2.5-9].avi')))


def test_parts_of_one_recording_are_its_group_and_may_not_overlap(recording):
    table = recording.with_name('t.csv')
    table.write_text('path,label,start,end\nlong.avi,A,0,1\nlong.avi,A,1,2\n')
    layout = read_layout(table.parent)
    names = [clip['video_id'] for clip in layout.clips]
    assert names == ['long[0-1]', 'long[1-2]']
    assert [clip['group'] for clip in layout.clips] == [1, 1]
    one, two = ([{**clip, 'group': -1}] for clip in layout.clips)
    assert not find_leaks(dict(train=one, val=two), table.parent).pairs
    two[0]['filename'] = str(recording.with_name('long[0.9-2].avi'))
    assert find_leaks(dict(train=one, val=two), table.parent).pairs


# ---- Proposals --------------------------------------------------------------------------


def test_near_copies_are_proposed_as_groups():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (8, 32), np.uint8) for _ in range(2))
    near, nearer = a.copy(), a.copy()
    nearer[:, 0] ^= 255  # 8 bits a frame
    near[:, :3] ^= 255  # 24 of a, 16 of nearer
    hashes = {name: value.tobytes() for name, value in
              dict(a=a, b=b, near=near, nearer=nearer).items()}
    assert propose_groups(hashes) == [['a', 'near', 'nearer']]
    assert propose_groups({}) == []
