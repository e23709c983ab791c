import pytest

from hri30_ext.datasets import HRI30_CLASSES, HRI30Dataset
from hri30_ext.datasets.hri30 import has_test_clips, load_labelled_clips, load_test_clips
from hri30_ext.datasets.leave_out import write_leave_out
from hri30_ext.errors import HRI30Error
from hri30_ext.names import ClipName, parse_clip_name


def test_class_ids_are_the_released_ones():
    ids = {name: i for i, name in enumerate(HRI30_CLASSES, 1)}
    assert len(HRI30_CLASSES) == len(ids) == 30
    assert (ids['WalkingWithObject'], ids['WalkingWithDrill']) == (28, 29)
    assert (ids['DeliverObject'], ids['NoCollaborativeWithDrill']) == (1, 18)


@pytest.mark.parametrize('stem, expected', [
    ('CID01_SID02_VID03', ClipName(1, 2, 3)),
    ('cid30_sid10_vid07', ClipName(30, 10, 7)),
    ('CID5_SID120_VID1', ClipName(5, 120, 1)),
    ('v_Walking_g12_c07', ClipName(27, 12, 7, ucf=True)),
    ('v_NoCollaborativeWithDrilll_g01_c02', ClipName(18, 1, 2, ucf=True)),
    ('V_nocollaborativewithdrill_G14_C02', ClipName(18, 14, 2, ucf=True)),
])
def test_names(stem, expected):
    assert parse_clip_name(stem, HRI30_CLASSES) == expected


@pytest.mark.parametrize('stem', [
    'CID00_SID01_VID01', 'CID31_SID01_VID01', 'CID01_SID01', 'testvideo001',
    'CID01_SID01_VID01_copy', 'CID٠١_SID01_VID01', 'v_Dance_g01_c01', 'v_Walking_g1', ''])
def test_wrong_names(stem):
    with pytest.raises(HRI30Error):
        parse_clip_name(stem, HRI30_CLASSES)


@pytest.mark.parametrize('names', [
    ['train_set/CID01_SID01_VID01.avi', 'train_set/CID02_SID01_VID01.avi'],
    ['train/CID01_SID01_VID01.AVI', 'train/cid02_sid01_vid01.mp4'],
    ['train/1/CID01_SID01_VID01.avi', 'train/02/CID02_SID01_VID01.avi'],
    ['CID01_SID01_VID01.avi', 'CID02_SID01_VID01.avi'],
    ['DeliverObject/v_DeliverObject_g01_c01.avi',
     'MoveBackwardsWhileDrilling/v_MoveBackwardsWhileDrilling_g01_c01.avi'],
    ['videos/DeliverObject/v_DeliverObject_g01_c01.avi',
     'videos/MoveBackwardsWhileDrilling/v_MoveBackwardsWhileDrilling_g01_c01.mp4'],
    # The layout of earlier scripts, where data_root is their data/.
    ['train/CID01_SID01_VID01.avi', 'train/CID02_SID01_VID01.avi', 'test/video_001.avi'],
])
def test_layouts(name_clips, names):
    root = name_clips(*names, 'train_set/.hidden.avi' if 'train_set' in names[0]
                      else 'notes.txt')
    clips = load_labelled_clips(root, HRI30_CLASSES)
    assert [(c['label'], c['group'], c['clip']) for c in clips] == [(0, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize('names, message', [
    ([], 'no such data folder'),
    (['notes.txt'], 'no training clips'),
    (['train_set/CID31_SID01_VID01.avi'], 'class id 31, expected 1 to 30'),
    (['train_set/CID00_SID01_VID01.avi'], 'class id 0, expected 1 to 30'),
    (['train_set/holiday.avi'], 'expected CIDxx_SIDxx_VIDxx'),
    (['train/1/CID02_SID01_VID01.avi'], 'is in the folder of class 1'),
    (['Walking/v_PickUpDrill_g01_c01.avi'], 'is in the folder of class Walking'),
    (['train/Walking/CID02_SID01_VID01.avi'], 'is in the folder of class Walking'),
    (['train_set/CID27_SID01_VID01.avi', 'Walking/v_Walking_g05_c01.avi'],
     'clips of both layouts, .*CID27_SID01_VID01.avi and .*v_Walking_g05_c01.avi'),
    (['videos/Walking/v_Walking_g05_c01.avi', 'Walking/v_Walking_g05_c01.avi'],
     '1 clips exist twice'),
    (['train/a/CID02_SID01_VID01.avi', 'train/b/CID02_SID01_VID01.avi'],
     '1 clips exist twice'),
    (['train/CID02_SID01_VID01.avi', 'train_set/CID02_SID01_VID02.avi'],
     'found both train_set/ and train/'),
])
def test_wrong_folders(name_clips, names, message):
    with pytest.raises(HRI30Error, match=message):
        load_labelled_clips(name_clips(*names), HRI30_CLASSES)


def test_test_clips_have_any_name_and_equal_ones_keep_their_folder(name_clips):
    root = name_clips('test_set/notes.txt')
    assert not has_test_clips(root, HRI30_CLASSES, {})
    root = name_clips('test_set/a/x.avi', 'test_set/b/x.avi', 'test_set/b/y.avi',
                      'test_set/=1+1 ü.MP4')
    clips = load_test_clips(root, HRI30_CLASSES)
    assert [clip['video_id'] for clip in clips] == ['=1+1 ü', 'a/x', 'b/x', 'y']
    assert {clip['label'] for clip in clips} == {-1}
    with pytest.raises(HRI30Error, match='1 clips exist twice'):
        load_test_clips(name_clips('test_set/b/y.mp4'), HRI30_CLASSES)


def test_listed_clips_are_left_out(name_clips):
    root = name_clips('train_set/CID01_SID01_VID01.avi', 'train_set/CID01_SID02_VID01.avi',
                      'train_set/wrong name.avi', 'test_set/a.avi')
    (root / 'annotations').mkdir()
    # Rows of listed clips, whether the files exist or not, are excused.
    (root / 'annotations/train_set_labels.csv').write_text(
        ''.join(f'CID01_SID0{i}_VID01,DeliverObject,1\n' for i in (1, 2, 3)))
    (root / 'annotations/test_set_labels.csv').write_text(
        'a,DeliverObject,1\nb,DeliverObject,1\n')
    with pytest.raises(HRI30Error, match='names are wrong'):
        load_labelled_clips(root, HRI30_CLASSES)
    write_leave_out(root, {
        'train_set/CID01_SID01_VID01.avi': 'x', 'train_set/cid01_sid03_vid01.mp4': 'x',
        'train_set/wrong name.avi': 'x', 'test_set/a.avi': 'x', 'test_set/b.avi': 'x'})
    clips = load_labelled_clips(root, HRI30_CLASSES)
    assert [clip['video_id'] for clip in clips] == ['CID01_SID02_VID01']
    assert [clip['video_id'] for clip in load_test_clips(root, HRI30_CLASSES)] == ['a']
    with (pytest.warns(UserWarning, match='leave_out.csv: 2 clips are left out of'),
          pytest.raises(HRI30Error, match='have one group')):
        HRI30Dataset(str(root), [], split=dict(val_groups=[2]))
    write_leave_out(root, {f'train_set/{name}.avi': 'x' for name in (
        'CID01_SID01_VID01', 'CID01_SID02_VID01', 'wrong name')})
    with pytest.raises(HRI30Error, match='leave_out.csv leaves all 3 out'):
        load_labelled_clips(root, HRI30_CLASSES)


@pytest.mark.parametrize('rows, named', [
    ({1: 2, 2: 2}, 'CID01_SID01_VID01: the name says class 1'),
    ({1: 1}, 'CID02_SID01_VID01'), ({1: 1, 2: 2, 3: 3}, 'CID03_SID01_VID01')])
def test_annotation_must_agree_with_the_names(name_clips, rows, named):
    root = name_clips('train_set/CID01_SID01_VID01.avi', 'train_set/CID02_SID01_VID01.avi',
                      'annotations/train_set_labels.csv')
    (root / 'annotations/train_set_labels.csv').write_text(''.join(
        f'CID{name:02}_SID01_VID01,{HRI30_CLASSES[label - 1]},{label}\n'
        for name, label in rows.items()))
    with pytest.raises(HRI30Error, match=named):
        load_labelled_clips(root, HRI30_CLASSES)


def test_test_labels_are_read_where_there_are_any(name_clips):
    root = name_clips('test/testvideo001.avi', 'annotations/test_set_labels.csv')
    labels = root / 'annotations/test_set_labels.csv'
    labels.write_text('testvideo001,WalkingWithDrill,29\n')
    assert load_test_clips(root, HRI30_CLASSES)[0]['label'] == 28
    labels.write_text('testvideo001,Walking,27\nb/gone,Walking,27\n')
    with pytest.raises(HRI30Error, match='b/gone: annotated, and no such clip'):
        load_test_clips(root, HRI30_CLASSES)
    write_leave_out(root, {'test/b/gone.avi': 'missing'})
    assert load_test_clips(root, HRI30_CLASSES)[0]['label'] == 26


def test_dataset_serves_samples_of_other_classes(clips_root):
    classes = ['A', 'B', 'C']
    (train, val) = (HRI30Dataset(
        data_root=str(clips_root.parent / 'plain'), pipeline=[], subset=subset,
        split=dict(val_groups=[2]), metainfo=dict(classes=classes), lazy_init=True)
        for subset in ('train', 'val'))
    (clips_root.parent / 'plain').mkdir()
    (clips_root.parent / 'plain' / 'train').symlink_to(clips_root / 'train_set')
    train.full_init(), val.full_init()
    assert (len(train), len(val)) == (6, 3)
    assert {val.get_data_info(i)['group'] for i in range(3)} == {2}
    assert [val.get_data_info(i)['label'] for i in range(3)] == [0, 1, 2]
    assert val.metainfo['classes'] == classes
