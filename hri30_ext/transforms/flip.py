"""A horizontal flip that also changes the label."""

import re
from collections.abc import Sequence

from mmaction.datasets.transforms import Flip
from mmaction.registry import TRANSFORMS

_SIDES = (
    'left right', 'links rechts', 'linker rechter', 'linke rechte', 'linken rechten',
    'linkem rechtem', 'linkes rechtes', 'gauche droit', 'gauche droite',
    'izquierda derecha', 'izquierdo derecho', 'sinistra destra', 'sinistro destro',
    'esquerda direita', 'esquerdo direito', 'vänster höger', 'venstre højre', 'lewo prawo',
    'vlevo vpravo', 'слева справа', 'влево вправо', 'налево направо', '左 右',
    '왼쪽 오른쪽')
_OTHER = {form(side): form(other) for left, right in map(str.split, _SIDES)
          for side, other in ((left, right), (right, left))
          for form in (str, str.title, str.upper)}
_LETTER = r'[^\W\d_]'
# 'Left' as a word: in MoveLeftWhileDrilling, move_left and 'Turn left', and neither in
# Leftover nor in 'bright'. Scripts without capitals have no such words.
_SIDE = re.compile('|'.join(
    side if side.lower() == side.upper() else rf'{side}(?![a-zß-ÿа-я])' if side.istitle()
    else rf'(?<!{_LETTER}){side}(?!{_LETTER})' for side in _OTHER))
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


def mirrored_labels(classes: Sequence[str]) -> tuple[dict[int, int], set[int]]:
    """Derives from the class names how a horizontal flip changes labels.

    >>> mirrored_labels(['TurnLeft', 'TurnRight', 'Stop', 'LookLeft'])
    ({0: 1, 1: 0}, {3})

    Returns:
        tuple[dict[int, int], set[int]]: The labels that change, with the new ones
        (mirroring twice changes nothing), and the labels whose mirror image is not among
        the classes: their clips cannot be flipped.
    """
    # 'Counterclockwise' has several spellings: a turn is compared by its direction.
    position = {_read_turn(name): label for label, name in enumerate(classes)}
    pairs, alone = {}, set()
    for label, name in enumerate(classes):
        text, turn = _read_turn(mirrored_name(name))
        mirrored = text, turn if turn is None else not turn
        if mirrored == _read_turn(name):
            continue
        if mirrored in position:
            pairs[label] = position[mirrored]
        else:
            alone.add(label)
    # Where a side has two words, 'droit' and 'droite', one of the two finds the other.
    pairs |= {other: label for label, other in pairs.items()}
    return pairs, alone - pairs.keys()


def mirrored_classes(classes: Sequence[str]) -> list[int]:
    """Returns the label of what a mirrored clip of each class shows, (K, ).

    >>> mirrored_classes(['TurnLeft', 'TurnRight', 'Stop'])
    [1, 0, 2]
    """
    pairs = mirrored_labels(classes)[0]
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

    Attributes:
        flip_label_map (dict[int, int]): The labels that change.
        unflippable (set[int]): The labels that have no mirror image.
    """

    def __init__(self, classes: Sequence[str], flip_ratio: float = 0.5) -> None:
        pairs, self.unflippable = mirrored_labels(classes)
        super().__init__(flip_ratio=flip_ratio, flip_label_map=pairs)

    def transform(self, results: dict) -> dict:
        """Flips the clip with the given probability."""
        if results['label'] in self.unflippable:
            return dict(results, flip=False, flip_direction=self.direction)
        return super().transform(results)
