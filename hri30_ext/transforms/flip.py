"""A horizontal flip that also changes the label."""

import re
from collections.abc import Sequence

from mmaction.datasets.transforms import Flip
from mmaction.registry import TRANSFORMS

from ..errors import HRI30Error

# 'Left' as a word: in MoveLeftWhileDrilling, move_left and 'Turn left', and neither in
# Leftover nor in 'bright'.
_SIDE = re.compile(r'(?:Left|Right)(?![a-z])'
                   r'|(?<![A-Za-z])(?:left|right|LEFT|RIGHT)(?![A-Za-z])')
_OTHER = dict(Left='Right', Right='Left', left='right', right='left', LEFT='RIGHT',
              RIGHT='LEFT')
_TURN = re.compile(r'(?:(counter|anti)[-_ ]?)?clockwise', re.IGNORECASE)


def mirrored_name(name: str) -> str:
    """Returns the class name of a mirrored clip.

    >>> mirrored_name('MoveLeftWhileDrilling'), mirrored_name('Walking')
    ('MoveRightWhileDrilling', 'Walking')
    """
    return _SIDE.sub(lambda match: _OTHER[match[0]], name)


def _read_turn(name: str) -> tuple[str, bool | None]:
    """Returns a name without its turn, and whether that is clockwise; None: no turn."""
    match = _TURN.search(name)
    return _TURN.sub('*', name), match and not match[1]


def mirrored_labels(classes: Sequence[str],
                    mirror_pairs: Sequence[Sequence[str]] | None = None
                    ) -> tuple[dict[int, int], set[int]]:
    """Derives from the class names how a horizontal flip changes labels.

    >>> mirrored_labels(['TurnLeft', 'TurnRight', 'Stop', 'LookLeft'])
    ({0: 1, 1: 0}, {3})
    >>> mirrored_labels(['links', 'rechts', 'LeftHanded'],
    ...                 [['links', 'rechts'], ['LeftHanded', 'LeftHanded']])
    ({0: 1, 1: 0}, set())

    Args:
        classes (Sequence[str]): Class names; the position is the label.
        mirror_pairs (Sequence[Sequence[str]], optional): Two classes each that are the
            mirror image of one another, whatever their names; a class and itself keeps its
            label. Other classes are paired by ``left``, ``right`` and ``clockwise``.

    Returns:
        tuple[dict[int, int], set[int]]: The labels that change, with the new ones
        (mirroring twice changes nothing), and the labels whose mirror image is not among
        the classes: their clips cannot be flipped.

    Raises:
        HRI30Error: a pair that is not two of the classes, or a class in two pairs.
    """
    labels = {name: label for label, name in enumerate(classes)}
    named: dict[int, int] = {}
    for pair in mirror_pairs or ():
        if len(pair) != 2 or not labels.keys() >= set(pair) or any(
                labels[name] in named for name in pair):
            raise HRI30Error(f'mirror_pairs: found {list(pair)}.\nExpected two names of '
                             f'classes ({", ".join(classes)[:200]}), each class in one '
                             'pair at most.')
        one, other = (labels[name] for name in pair)
        named |= {one: other, other: one}
    # 'Counterclockwise' has several spellings: a turn is compared by its direction.
    others = {name: label for name, label in labels.items() if label not in named}
    position = {_read_turn(name): label for name, label in others.items()}
    pairs, alone = {one: other for one, other in named.items() if one != other}, set()
    for name, label in others.items():
        text, turn = _read_turn(mirrored_name(name))
        mirrored = text, turn if turn is None else not turn
        if mirrored == _read_turn(name):
            continue
        if mirrored in position:
            pairs[label] = position[mirrored]
        else:
            alone.add(label)
    return pairs, alone


def mirrored_classes(classes: Sequence[str],
                     mirror_pairs: Sequence[Sequence[str]] | None = None) -> list[int]:
    """Returns the label of what a mirrored clip of each class shows, (K, ).

    >>> mirrored_classes(['TurnLeft', 'TurnRight', 'Stop'])
    [1, 0, 2]
    """
    pairs = mirrored_labels(classes, mirror_pairs)[0]
    return [pairs.get(label, label) for label in range(len(classes))]


@TRANSFORMS.register_module()
class LabelAwareFlip(Flip):
    """Flips a clip from left to right, and its label with it.

    A worker who moves left moves right in the mirrored clip: 12 of HRI30's classes become
    another class. mmaction2's ``Flip`` takes a ``flip_label_map``; here it is derived from
    the class names. Clips of a class whose mirror image is not a class are never flipped.

    Required Keys: imgs, img_shape, modality, label.
    Added Keys: flip, flip_direction.
    Modified Keys: imgs, label.

    Args:
        classes (Sequence[str]): Class names; the position is the label.
        flip_ratio (float): Probability of a flip, in [0, 1]. Defaults to 0.5.
        mirror_pairs (Sequence[Sequence[str]], optional): See :func:`mirrored_labels`.

    Attributes:
        flip_label_map (dict[int, int]): The labels that change.
        unflippable (set[int]): The labels that have no mirror image.
    """

    def __init__(self, classes: Sequence[str], flip_ratio: float = 0.5,
                 mirror_pairs: Sequence[Sequence[str]] | None = None) -> None:
        pairs, self.unflippable = mirrored_labels(classes, mirror_pairs)
        super().__init__(flip_ratio=flip_ratio, flip_label_map=pairs)

    def transform(self, results: dict) -> dict:
        """Flips the clip with the given probability."""
        if results['label'] in self.unflippable:
            return dict(results, flip=False, flip_direction=self.direction)
        return super().transform(results)
