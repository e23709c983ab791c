"""The 30 classes of HRI30, and the names of clips: ``CID<class>_SID<group>_VID<clip>``.

The order of the classes is that of the released ``annotations/train_set_labels.csv``
(Iodice et al., "HRI30: An Action Recognition Dataset for Industrial Human-Robot
Interaction", ICPR 2022). It is the authority for class ids and is **not** alphabetical:
ids 28 and 29 are swapped against the sorted order.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from .errors import HRI30Error

#: The clone that contains this package; paths in configs are relative to it.
PROJECT_ROOT = Path(__file__).resolve().parent.parent

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


def command(tool: str, *arguments: object) -> str:
    """Returns a command that runs a tool from any folder.

    Args:
        tool (str): Its path in tools/, such as ``test.sh`` or ``data/cache.py``.
        *arguments: Of the tool; quoted for a shell.
    """
    path = PROJECT_ROOT / 'tools' / tool
    program = 'bash' if path.suffix == '.sh' else sys.executable
    return shlex.join(map(str, (program, path, *arguments)))


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

#: Endings of what counts as a video, in lower case.
VIDEO_SUFFIXES = ('.avi', '.mp4', '.mov', '.mkv', '.mpg', '.mpeg', '.m4v', '.dv')

_NAME = re.compile(r'CID(\d{1,4})_SID(\d{1,4})_VID(\d{1,4})', re.ASCII | re.IGNORECASE)


class ClipName(NamedTuple):
    """What a training clip's name says. All ids are 1-based."""
    class_id: int
    group: int
    clip: int


def parse_clip_name(stem: str, num_classes: int) -> ClipName:
    """Reads class, group and clip from a file name without its ending.

    Upper and lower case are read alike.

    >>> parse_clip_name('CID10_SID08_VID01', 30)
    ClipName(class_id=10, group=8, clip=1)

    Args:
        stem (str): The name, such as ``CID10_SID08_VID01``.
        num_classes (int): Class ids run from 1 to this number.

    Raises:
        HRI30Error: another form, or a class id outside the range.
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise HRI30Error(f'{stem}: expected CIDxx_SIDxx_VIDxx')
    name = ClipName(*map(int, match.groups()))
    if not 1 <= name.class_id <= num_classes:
        raise HRI30Error(f'{stem}: class id {name.class_id}, '
                         f'expected 1 to {num_classes}')
    return name
