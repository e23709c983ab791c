"""A flip that knows its labels."""

import numpy as np
import pytest

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.errors import HRI30Error
from hri30_ext.transforms import LabelAwareFlip
from hri30_ext.transforms.flip import mirrored_labels, mirrored_name


def clip(label):
    """Two frames of 2 x 3 pixels; the red value is the column."""
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[..., 0] = [0, 1, 2]
    return dict(imgs=[frame.copy(), frame.copy()], img_shape=(2, 3), modality='RGB',
                label=label)


def test_mirror_pairs_of_hri30():
    pairs, alone = mirrored_labels(HRI30_CLASSES)
    # As class ids, by hand: see the dataset's table.
    by_id = {(a + 1, b + 1) for a, b in pairs.items() if a < b}
    assert by_id == {(4, 6), (5, 7), (8, 10), (9, 11), (14, 16), (15, 17)}
    assert len(pairs) == 12 and not alone
    assert all(pairs[pairs[label]] == label for label in pairs)


@pytest.mark.parametrize('name, mirrored', [
    ('MoveLeftWhileDrilling', 'MoveRightWhileDrilling'),
    ('turn_left', 'turn_right'), ('Turn right', 'Turn left'), ('LEFT_ARM', 'RIGHT_ARM'),
    ('LeftHandToRightEar', 'RightHandToLeftEar'), ('Walking', 'Walking'),
    ('Leftovers', 'Leftovers'), ('Bright', 'Bright'), ('upright', 'upright'),
    ('cleft stick', 'cleft stick'), ('Copyright', 'Copyright'),
])
def test_sides_are_words_of_the_name(name, mirrored):
    assert mirrored_name(name) == mirrored
    assert mirrored_name(mirrored) == name


def test_any_class_list():
    assert mirrored_labels(['Stop', 'PassRight', 'Wave', 'PassLeft']) == (
        {1: 3, 3: 1}, set())
    assert mirrored_labels(['Wave', 'PointLeft']) == ({}, {1})
    assert mirrored_labels([]) == ({}, set())
    assert mirrored_labels(['TurnClockwise', 'Turn', 'TurnCounterClockwise']) == (
        {0: 2, 2: 0}, set())
    assert mirrored_labels(['turn anti-clockwise', 'stop']) == ({}, {0})


def test_named_pairs_come_before_the_words():
    classes = ['gauche', 'droite', 'LeftHanded', 'TurnLeft', 'TurnRight']
    pairs = [['gauche', 'droite'], ['LeftHanded', 'LeftHanded']]
    assert mirrored_labels(classes, pairs) == ({0: 1, 1: 0, 3: 4, 4: 3}, set())
    assert mirrored_labels(classes, [['TurnLeft', 'gauche']]) == ({0: 3, 3: 0}, {2, 4})
    assert LabelAwareFlip(classes, 1, pairs).transform(clip(0))['label'] == 1


@pytest.mark.parametrize('pair', [['gauche'], ['gauche', 'x'], ['gauche', 'droite', 'a']])
def test_wrong_pair_is_named(pair):
    with pytest.raises(HRI30Error, match='mirror_pairs.*gauche'):
        mirrored_labels(['gauche', 'droite', 'a'], [pair])
    with pytest.raises(HRI30Error):
        mirrored_labels(['gauche', 'droite', 'a'], [['a', 'a'], ['a', 'droite']])


def test_pixels_and_label_are_mirrored():
    left, right = 13, 15  # MoveLeftWhileDrilling, MoveRightWhileDrilling
    flip = LabelAwareFlip(HRI30_CLASSES, flip_ratio=1)
    results = flip.transform(clip(left))
    assert results['label'] == right and results['flip']
    assert [image[0, :, 0].tolist() for image in results['imgs']] == [[2, 1, 0]] * 2
    results = flip.transform(results)
    assert results['label'] == left
    np.testing.assert_array_equal(results['imgs'], clip(left)['imgs'])
    assert flip.transform(clip(26))['label'] == 26  # Walking
    assert flip.flip_label_map[left] == right


def test_clip_without_a_mirrored_class_is_never_flipped():
    flip = LabelAwareFlip(['Wave', 'PointLeft'], flip_ratio=1)
    results = flip.transform(clip(1))
    assert results['label'] == 1 and not results['flip']
    np.testing.assert_array_equal(results['imgs'], clip(1)['imgs'])
    assert flip.transform(clip(0))['flip']


def test_ratio_and_seed():
    flip = LabelAwareFlip(HRI30_CLASSES, flip_ratio=0.5)
    drawn = []
    for _ in range(2):
        np.random.seed(1)
        drawn.append([bool(flip.transform(clip(13))['flip']) for _ in range(400)])
    assert drawn[0] == drawn[1]
    assert 160 < sum(drawn[0]) < 240
    assert not LabelAwareFlip(HRI30_CLASSES, 0).transform(clip(13))['flip']
