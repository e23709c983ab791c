import hashlib
import json

import numpy as np
import pytest
from conftest import call_hri30

from hri30_ext.errors import HRI30Error
from hri30_ext.names import HRI30_CLASSES
from hri30_ext.synthetic import (
    plan_clip,
    read_test_groups,
    render_clip,
    write_dataset,
    write_video,
)
from hri30_ext.synthetic.actions import Planner, direction
from hri30_ext.synthetic.drawing import Figure
from hri30_ext.synthetic.groups import DRAWING_SIZE, make_group

SMALL = (180, 120)
DIRECTIONS = [name for name in HRI30_CLASSES
              if name.startswith('Move') and 'Drill' in name]


def plan(name, seed, group=1):
    """Returns a plan whose random numbers do not depend on the class."""
    return Planner(make_group(group), np.random.default_rng(seed)).plan(name)


def hashes(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).digest()
        for path in sorted(root.rglob('*')) if path.is_file()
    }


def small_dataset(root, **options):
    options = dict(train_groups=2, test_groups=1, clips=1, size=SMALL, workers=1,
                   classes=(12, 18), progress=False) | options
    return write_dataset(root, **options)


# --- the actions


@pytest.mark.parametrize('name', HRI30_CLASSES)
def test_clip_of_each_class(name):
    frames = render_clip(name, group=3, clip=1, size=SMALL)
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (120, 180, 3)
    assert 30 <= len(frames) <= 60
    moved = np.abs(frames[0].astype(int) - frames[len(frames) // 2]) > 40
    assert moved.any()


def test_clip_is_a_function_of_its_arguments():
    clip = render_clip(14, 2, 1, size=SMALL)
    assert np.array_equal(clip, render_clip('MoveLeftWhileDrilling', 2, 1,
                                            size=SMALL))
    for other in ((14, 2, 2), (14, 3, 1), (16, 2, 1), (14, 2, 1, 9)):
        assert not np.array_equal(clip[0], render_clip(*other, size=SMALL)[0])


def test_classes_by_name_and_unknown_ones():
    for label in ('NoCollaborativeWithDrilll', '18'):  # as released, as an argument
        assert np.array_equal(render_clip(label, 1, 1, size=SMALL),
                              render_clip(18, 1, 1, size=SMALL))
    for label in (0, 31, '0', 'Running'):
        with pytest.raises(ValueError, match=f'no class {label!r}: expected an id'):
            render_clip(label, 1, 1)


def test_directions():
    assert direction('MoveForwardWhileDrilling') == (0, -1)
    assert direction('MoveDiagonallyBackwardRightWithPolisher') == (1, 1)
    assert len({direction(name) for name in DIRECTIONS}) == 8


@pytest.mark.parametrize('name', DIRECTIONS)
def test_path_follows_the_name(name):
    lateral, depth = direction(name)
    for seed in range(5):
        (x0, y0), (x1, y1) = plan(name, seed).root[[0, -1]]
        for moved, way in ((x1 / y1 - x0 / y0, lateral), (np.log(y1 / y0), depth)):
            assert np.sign(moved) == way if way else abs(moved) < 0.08


@pytest.mark.parametrize('name', DIRECTIONS)
def test_opposite_direction_is_the_movement_backwards(name):
    """The range of places is the same at any time, from either end."""
    lateral, depth = direction(name)
    opposite = next(other for other in DIRECTIONS
                    if direction(other) == (-lateral, -depth))
    there, back = (np.array([plan(way, seed).root[[0, -1]] for seed in range(200)])
                   for way in (name, opposite))
    first, last = there[:, 0], back[:, -1]
    spread = first.std(0)
    assert np.all(np.abs(first.mean(0) - last.mean(0)) < 0.1 * spread)
    assert np.all(np.abs(spread - last.std(0)) < 0.1 * spread)
    assert abs((there + back).mean((0, 1))[0] / 2) < 0.15


@pytest.mark.parametrize('thing', ('Drill', 'Polisher'))
def test_putting_down_is_picking_up_backwards(thing):
    up, down = plan(f'PickUp{thing}', 5), plan(f'PutDown{thing}', 5)
    assert np.array_equal(up.thing_at, down.thing_at[::-1])
    assert np.array_equal(up.hands, down.hands[::-1])
    assert up.thing_at[-1, 2] > up.thing_at[0, 2]


def test_worker_stays_in_the_image():
    for name in DIRECTIONS + ['Walking', 'WalkingWithObject']:
        for group in range(1, 7):
            movement, looks, _ = plan_clip(name, group, 1)
            joints = Figure(movement, looks).at
            points = np.concatenate([at.reshape(-1, 2)
                                     for at in joints.values()])
            assert points.min() >= 0
            assert np.all(points.max(0) < DRAWING_SIZE)


# --- video files


@pytest.mark.parametrize('codec', ('mpeg4', 'mjpeg', 'dv'))
def test_codecs_decode(tmp_path, codec):
    decord = pytest.importorskip('decord')
    size = DRAWING_SIZE if codec == 'dv' else SMALL
    frames = render_clip(13, 1, 1, size=size)
    for name in ('a.avi', 'b.avi'):
        write_video(frames, tmp_path / name, codec)
    assert hashes(tmp_path)['a.avi'] == hashes(tmp_path)['b.avi']
    decoded = decord.VideoReader(str(tmp_path / 'a.avi'))
    assert len(decoded) == len(frames)
    middle = decoded[len(frames) // 2].asnumpy()
    assert middle.shape == frames.shape[1:]
    error = np.abs(middle.astype(int) - frames[len(frames) // 2])
    assert error.mean() < 8


@pytest.mark.parametrize('codec, size, message', (
    ('vp9', (180, 120), 'vp9'), ('dv', (180, 120), '180x120'),
    ('mpeg4', (181, 120), '181x120')
))
def test_impossible_video(tmp_path, codec, size, message):
    frames = np.zeros((2, size[1], size[0], 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        write_video(frames, tmp_path / 'a.avi', codec)
    assert not list(tmp_path.iterdir())


# --- the data set on disk


def test_layout_and_labels(tmp_path):
    assert small_dataset(tmp_path) == 6
    assert sorted(hashes(tmp_path)) == [
        'EMBEDDED.json', 'annotations/test_set_labels.csv',
        'annotations/train_set_labels.csv', 'test_set/testvideo001.avi',
        'test_set/testvideo002.avi', 'train_set/CID12_SID01_VID01.avi',
        'train_set/CID12_SID02_VID01.avi', 'train_set/CID18_SID01_VID01.avi',
        'train_set/CID18_SID02_VID01.avi'
    ]
    annotations = tmp_path / 'annotations'
    assert (annotations / 'train_set_labels.csv').read_bytes() == (
        b'CID12_SID01_VID01,MoveForwardWhileDrilling,12\n'
        b'CID12_SID02_VID01,MoveForwardWhileDrilling,12\n'
        b'CID18_SID01_VID01,NoCollaborativeWithDrilll,18\n'
        b'CID18_SID02_VID01,NoCollaborativeWithDrilll,18\n')
    rows = (annotations / 'test_set_labels.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['testvideo001',
                                                   'testvideo002']
    assert {row.split(',')[2] for row in rows} == {'12', '18'}
    about = json.loads((tmp_path / 'EMBEDDED.json').read_text())
    assert about['num_train_clips'] == 4 and about['num_test_clips'] == 2


def test_groups_of_test_clips_are_known_for_synthetic_data_alone(tmp_path):
    small_dataset(tmp_path, test_groups=2, classes=(12, ))
    groups = read_test_groups(tmp_path)
    assert groups.keys() == {'testvideo001.avi', 'testvideo002.avi'}
    for name, group in groups.items():  # the clip is that of its group
        write_video(render_clip(12, group, 1, size=SMALL), tmp_path / 'again.avi')
        assert (tmp_path / 'again.avi').read_bytes() == (
            tmp_path / 'test_set' / name).read_bytes()
    assert read_test_groups(tmp_path / 'train_set') == {}
    for options in ('[]', '{"options": 3}',
                    '{"version": 1, "options": {"train_groups": 1e99}}'):
        (tmp_path / 'EMBEDDED.json').write_text(options)
        assert read_test_groups(tmp_path) == {}


def test_same_bytes_for_any_number_of_workers_and_of_missing_clips(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    small_dataset(one)
    small_dataset(two, workers=2)
    assert hashes(one) == hashes(two)
    (two / 'train_set/CID12_SID02_VID01.avi').unlink()
    (two / 'test_set/testvideo001.avi').unlink()
    assert (small_dataset(two), small_dataset(two)) == (2, 0)
    assert hashes(one) == hashes(two)


def test_other_options_need_overwrite(tmp_path):
    small_dataset(tmp_path)
    with pytest.raises(HRI30Error, match='--overwrite'):
        small_dataset(tmp_path, seed=1)
    (tmp_path / 'mine.txt').write_text('kept')
    assert small_dataset(tmp_path, seed=1, classes=(13, ), overwrite=True) == 3
    names = {path.name for path in (tmp_path / 'train_set').iterdir()}
    assert names == {'CID13_SID01_VID01.avi', 'CID13_SID02_VID01.avi'}
    assert (tmp_path / 'mine.txt').read_text() == 'kept'


@pytest.mark.parametrize('overwrite', (False, True))
def test_foreign_folder_is_left_alone(tmp_path, overwrite):
    (tmp_path / 'train_set').mkdir()
    (tmp_path / 'train_set/CID01_SID01_VID01.avi').write_bytes(b'recorded')
    with pytest.raises(HRI30Error, match='holds files and no EMBEDDED.json'):
        small_dataset(tmp_path, overwrite=overwrite)
    assert list(hashes(tmp_path)) == ['train_set/CID01_SID01_VID01.avi']
    (tmp_path / 'EMBEDDED.json').write_text('[]')
    with pytest.raises(HRI30Error, match='choose another folder'):
        small_dataset(tmp_path, overwrite=True)


@pytest.mark.parametrize('options, message', (
    (dict(train_groups=0), 'train_groups is 0: expected 1 to 999'),
    (dict(seed=-1), 'seed is -1'),
    (dict(classes=('Dancing', )), "no class 'Dancing'"),
))
def test_impossible_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        small_dataset(tmp_path / 'new', **options)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('arguments, message', (
    (['{folder}'], '{folder} holds files and no EMBEDDED.json'),
    (['--preview', '{folder}/sheet.txt'], 'cannot write a picture as'),
))
def test_command_line_errors_are_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / 'mine.txt').write_text('kept')
    assert call_hri30('embedded', *(argument.format(folder=tmp_path)
                                    for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ' + message.format(folder=tmp_path))
    assert len(error.splitlines()) == 1
