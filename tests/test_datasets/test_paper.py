"""The paper's splits, on both layouts, and lists in UCF-101's form."""

import hashlib

import pytest
from conftest import call_hri30

from hri30_ext.datasets import HRI30_CLASSES, HRI30Dataset
from hri30_ext.datasets.annotation import Annotation, format_annotations
from hri30_ext.datasets.leave_out import write_leave_out
from hri30_ext.datasets.paper import UnavailableSplit, hold_out_test, paper_names
from hri30_ext.errors import HRI30Error
from hri30_ext.names import ClipName, parse_clip_name

#: Distinct clips that test and train.
SIZES = {1: (839, 2099), 2: (629, 2309), 3: (1049, 1889)}
#: SHA-256 of the released annotations/train_set_labels.csv.
RELEASED = '3afdede1b2f899c282ff1fd511f2843a84c4ee3e2292cc8146f82ff85b928762'
WALK = 'Walking/v_Walking_g{:02}_c{:02}.avi'


def hri30(released=False):
    """Samples of all labelled clips of HRI30, by their names."""
    names = paper_names(1)
    names = names['train'] if released else names['train'] + names['test']
    return [dict(label=name.class_id - 1, clip=name.clip, paper_group=name.group,
                 filename='a', group=name.group - 4 if released else name.group,
                 video_id=f'{name}') for name in names]


def groups_of(clips):
    return {clip['group'] for clip in clips}


@pytest.mark.parametrize('number', SIZES)
def test_counts_and_groups(number):
    train, test = hold_out_test(hri30(), type='paper', number=number)
    assert (len(test), len(train)) == SIZES[number]
    last = {1: 4, 2: 3, 3: 5}[number]
    assert groups_of(test) == set(range(1, last + 1))
    assert groups_of(train) == set(range(last + 1, 15))


def test_the_released_layout_has_two_of_the_splits():
    clips = hri30(released=True)
    train, test = hold_out_test(clips, type='paper', number=1)
    assert len(train) == 2099 and test is None  # the test folder
    with pytest.raises(UnavailableSplit, match='split.number=2'):
        hold_out_test(clips, type='paper', number=2)
    train, test = hold_out_test(clips, type='paper', number=3)
    assert groups_of(test) == {1} and len(test) == 210
    assert groups_of(train) == set(range(2, 11)) and len(train) == 1889


@pytest.fixture
def build(name_clips, monkeypatch):

    def build(names, subset='train', **split):
        return [clip['video_id'] for clip in HRI30Dataset(
            str(name_clips(*names)), [], subset=subset, split=split, serialize_data=False
        ).data_list]
    return build


UCF = [WALK.format(group, 1) for group in range(1, 15)]
CID = [f'train_set/CID27_SID{group:02}_VID01.avi' for group in range(1, 11)]


def test_both_layouts_validate_with_the_same_recordings(build, name_clips, tmp_path):
    rule = dict(type='paper', val_groups=2, seed=42)
    val = build(UCF, 'val', **rule)
    # SHA-256 of '42:<group>' puts these of 5 to 14 first.
    chosen = sorted(range(5, 15), key=lambda group: hashlib.sha256(
        f'42:{group}'.encode()).digest())[:2]
    assert val == [f'v_Walking_g{group:02}_c01' for group in sorted(chosen)]
    assert build(UCF, 'test', **rule) == [f'v_Walking_g0{g}_c01' for g in (1, 2, 3, 4)]
    (tmp_path / 'named' / 'Walking').rename(tmp_path / 'ucf')
    names = build([*CID, 'test_set/x.avi'], 'val', **rule)
    assert names == [f'CID27_SID{group - 4:02}_VID01' for group in sorted(chosen)]
    assert build([], 'test', **rule) == ['x']
    assert build([], 'test', **rule, number=3) == ['CID27_SID01_VID01']


def test_nothing_held_out_trains_on_the_whole_side(build):
    rule = dict(type='paper', val_groups=0)
    assert len(build(UCF, **rule)) == 10
    with pytest.raises(HRI30Error, match='val_groups=0: there are no validation clips'):
        build(UCF, 'val', **rule)


def test_listed_test_clips_are_still_tested(build, tmp_path):
    assert len(build(UCF, 'test', type='paper')) == 4
    write_leave_out(tmp_path / 'named', {UCF[0]: 'cut', UCF[9]: 'cut'})
    assert len(build(UCF, 'test', type='paper')) == 4
    with pytest.warns(UserWarning, match='2 clips are left out'):
        assert len(build(UCF, type='paper', val_groups=0)) == 9


@pytest.mark.parametrize('names, rule, message', [
    ([*UCF, WALK.format(15, 1)], {}, r'g15_c01.avi: group 15'),
    ([*CID, 'train_set/CID27_SID11_VID01.avi'], {}, 'group 11'),
    (UCF[4:], {}, 'split.number=1'),
    (UCF, dict(val_groups=[2]), 'split.val_groups'),
    (UCF, dict(type='lists'), 'split.folder=PATH'),
])
def test_wrong_rules(build, names, rule, message):
    with pytest.raises(HRI30Error, match='(?s)' + message):
        build(names, **{'type': 'paper', **rule})


# ---- Lists ------------------------------------------------------------------------------


@pytest.fixture
def lists(build, tmp_path):
    """Returns a function that writes lists and reads them over 4 groups and 2 classes."""
    names = [name for group in (1, 2, 3, 4) for name in (
        WALK.format(group, 1), f'PickUpDrill/v_PickUpDrill_g{group:02}_c01.avi')]
    train = [f'{name} {i}' for name, i in zip(names[4:], (27, 20) * 2, strict=True)]

    def read(edit=lambda train, test: None, subset='train'):
        mine, test = train[:], names[:4]
        edit(mine, test)
        folder = tmp_path / 'lists'
        folder.mkdir(exist_ok=True)
        (folder / 'trainlist01.txt').write_text('\n'.join(mine))
        (folder / 'testlist01.txt').write_text('\n'.join(test))
        return build(names, subset, type='lists', folder=str(folder), val_groups=0)
    return read


def test_lists_are_read(lists):
    assert len(lists()) == len(lists(subset='test')) == 4
    zero = [('27', '26'), ('20', '19')]

    def from_zero(train, test):
        train[:] = [line.replace(f' {a}', f' {b}') for line in train for a, b in zero
                    if line.endswith(a)]
    assert len(lists(from_zero)) == 4
    assert len(lists(lambda train, test: test.append(test[0]), 'test')) == 4


def set_line(side, number, text):
    def edit(train, test):
        (train if side == 'train' else test)[number - 1:number] = [text]
    return edit


@pytest.mark.parametrize('edit, place', [
    (set_line('train', 1, WALK.format(9, 1) + ' 27'), 'v_Walking_g09_c01'),
    (set_line('test', 4, WALK.format(3, 1)), r'testlist01\.txt, line 4'),
    (set_line('train', 1, WALK.format(3, 1) + ' 5'), 'line 1'),
    (set_line('train', 1, 'Wlking/v_Wlking_g03_c01.avi 27'), 'line 1'),
    (set_line('test', 1, 'Dance/v_Walking_g01_c01.avi'), r'testlist01\.txt, line 1'),
    (set_line('test', 2, WALK.format(15, 1)), 'line 2'),
    (set_line('test', 2, WALK.format(1, 1) + ' 27 x'), 'line 2'),
    (set_line('test', 2, WALK.format(1, 1) + ' x'), 'line 2'),
])
def test_wrong_lists(lists, edit, place):
    with pytest.raises(HRI30Error, match=place):
        lists(edit)


def test_tool_writes_lists_that_are_read(tmp_path):
    assert call_hri30('splits', '--paper', '--out', tmp_path / 'l') == 0
    lines = (tmp_path / 'l' / 'testlist01.txt').read_text().splitlines()
    assert lines[0] == 'DeliverObject/v_DeliverObject_g01_c01.avi' and len(lines) == 839
    assert 'NoCollaborativeWithDrilll/v_NoCollaborativeWithDrilll_g04_c07.avi' in lines
    # The first training list is the released annotation, clip for clip.
    rows = [line.split() for line in
            (tmp_path / 'l' / 'trainlist01.txt').read_text().splitlines()]
    names = [(parse_clip_name(path.split('/')[1][:-4], HRI30_CLASSES), int(label))
             for path, label in rows]
    assert all(name.class_id == label for name, label in names)
    text = format_annotations(
        Annotation(ClipName(label, name.group - 4, name.clip).format(HRI30_CLASSES),
                   HRI30_CLASSES[label - 1], label) for name, label in names)
    assert hashlib.sha256(text.encode()).hexdigest() == RELEASED
    for number in SIZES:
        train, test = hold_out_test(hri30(), type='lists', number=number,
                                    folder=tmp_path / 'l')
        assert (len(test), len(train)) == SIZES[number]
