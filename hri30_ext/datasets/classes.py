"""The 30 classes of HRI30, in the order of the released annotation file.

Source: ``annotations/train_set_labels.csv`` of the release (Iodice et al.,
"HRI30: An Action Recognition Dataset for Industrial Human-Robot Interaction",
ICPR 2022). The order is the authority for class ids and is **not**
alphabetical: ids 28 and 29 are swapped against the sorted order.
"""

#: Class names; the 1-based class id of the release is the position plus one.
HRI30_CLASSES = (
    'DeliverObject',  # 1
    'MoveBackwardsWhileDrilling',
    'MoveBackwardsWhilePolishing',
    'MoveDiagonallyBackwardLeftWithDrill',
    'MoveDiagonallyBackwardLeftWithPolisher',
    'MoveDiagonallyBackwardRightWithDrill',
    'MoveDiagonallyBackwardRightWithPolisher',
    'MoveDiagonallyForwardLeftWithDrill',
    'MoveDiagonallyForwardLeftWithPolisher',
    'MoveDiagonallyForwardRightWithDrill',  # 10
    'MoveDiagonallyForwardRightWithPolisher',
    'MoveForwardWhileDrilling',
    'MoveForwardWhilePolishing',
    'MoveLeftWhileDrilling',
    'MoveLeftWhilePolishing',
    'MoveRightWhileDrilling',
    'MoveRightWhilePolishing',
    'NoCollaborativeWithDrill',  # 18, see RELEASED_SPELLING
    'NoCollaborativeWithPolisher',
    'PickUpDrill',  # 20
    'PickUpPolisher',
    'PickUpTheObject',
    'PutDownDrill',
    'PutDownPolisher',
    'UsingTheDrill',
    'UsingThePolisher',
    'Walking',
    'WalkingWithObject',  # 28: before 29, though it sorts after it
    'WalkingWithDrill',  # 29
    'WalkingWithPolisher',  # 30
)

#: Names that the released files spell otherwise than this project does. They
#: are accepted on reading and used on writing a submission.
RELEASED_SPELLING = {'NoCollaborativeWithDrill': 'NoCollaborativeWithDrilll'}

_CANONICAL = {spelling: name for name, spelling in RELEASED_SPELLING.items()}


def canonical_name(name: str) -> str:
    """Returns this project's spelling of a class name.

    >>> canonical_name('NoCollaborativeWithDrilll')
    'NoCollaborativeWithDrill'
    """
    return _CANONICAL.get(name, name)


def released_name(name: str) -> str:
    """Returns the spelling of the released files, which a submission needs.

    >>> released_name('NoCollaborativeWithDrill')
    'NoCollaborativeWithDrilll'
    """
    return RELEASED_SPELLING.get(name, name)
