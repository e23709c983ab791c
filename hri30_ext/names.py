"""The 30 classes of HRI30, the names of clips, and the groups of the paper's splits.

Clips are named ``CID<class>_SID<group>_VID<clip>`` in the release and
``v_<Class>_g<group>_c<clip>`` in the authors' earlier layout, which has UCF-101's form.

The order of the classes is that of the released ``annotations/train_set_labels.csv``
(Iodice et al., "HRI30: An Action Recognition Dataset for Industrial Human-Robot
Interaction", ICPR 2022). It is the authority for class ids and is **not** alphabetical:
ids 28 and 29 are swapped against the sorted order.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
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
    """Returns a command that runs a tool of tools/, like ``test.sh``, from any folder."""
    path = PROJECT_ROOT / 'tools' / tool
    program = 'bash' if path.suffix == '.sh' else sys.executable
    return shlex.join(map(str, (program, path, *arguments)))


def canonical_name(name: str) -> str:
    """Returns this project's spelling of a class name."""
    return _CANONICAL.get(name, name)


def released_name(name: str) -> str:
    """Returns the spelling of the released files, which a submission needs."""
    return RELEASED_SPELLING.get(name, name)

#: Endings of what counts as a video, in lower case.
VIDEO_SUFFIXES = ('.avi', '.mp4', '.mov', '.mkv', '.mpg', '.mpeg', '.m4v', '.dv', '.webm')

_NAME = re.compile(r'CID(\d{1,4})_SID(\d{1,4})_VID(\d{1,4})', re.ASCII | re.IGNORECASE)
_UCF_NAME = re.compile(r'v_(.+)_g(\d{1,4})_c(\d{1,4})', re.ASCII | re.IGNORECASE)
_PART = re.compile(r'(.+)\[(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)\](\.\w+)', re.DOTALL)

#: Groups of recordings and clips of each, in every class.
PAPER_GROUPS, PAPER_CLIPS = 14, 7
#: How many of the groups each of the paper's splits tests on: the first ones.
PAPER_TEST_GROUPS = {1: 4, 2: 3, 3: 5}
#: The release labels the last 10 of the 14 groups, as SID 1 to 10.
RELEASED_SHIFT = 4


class ClipName(NamedTuple):
    """What a labelled clip's name says. All ids are 1-based."""
    class_id: int
    group: int
    clip: int
    ucf: bool = False  # whether the name has UCF-101's form

    @property
    def paper_group(self) -> int:
        """The number of the group in the paper's splits, 1 to 14 in HRI30."""
        return self.group if self.ucf else self.group + RELEASED_SHIFT

    def format(self, classes: Sequence[str]) -> str:
        """Returns the name, spelled as in the released files."""
        if self.ucf:
            name = released_name(classes[self.class_id - 1])
            return f'v_{name}_g{self.group:02}_c{self.clip:02}'
        return f'CID{self.class_id:02}_SID{self.group:02}_VID{self.clip:02}'


#: Clips that HRI30 itself lacks; the first two are one clip.
KNOWN_HOLES = frozenset({ClipName(10, 8, 1), ClipName(10, 12, 1, ucf=True),
                         ClipName(12, 2, 1, ucf=True)})


def parse_clip_name(stem: str, classes: Sequence[str]) -> ClipName:
    """Reads class, group and clip from a file name without its ending, in either form and
    case; ids are positions in ``classes`` plus 1.

    Raises:
        HRI30Error: another form, a class id outside the range, or an unknown class.
    """
    if match := _UCF_NAME.fullmatch(stem):
        ids = {spelling.lower(): i for i, name in enumerate(classes, 1)
               for spelling in (name, released_name(name))}
        if match[1].lower() not in ids:
            raise HRI30Error(f'{stem}: unknown class {match[1]}')
        return ClipName(ids[match[1].lower()], int(match[2]), int(match[3]), ucf=True)
    match = _NAME.fullmatch(stem)
    if match is None:
        raise HRI30Error(f'{stem}: expected CIDxx_SIDxx_VIDxx or v_Class_gxx_cxx')
    name = ClipName(*map(int, match.groups()))
    if not 1 <= name.class_id <= len(classes):
        raise HRI30Error(f'{stem}: class id {name.class_id}, '
                         f'expected 1 to {len(classes)}')
    return name


def is_clip_name(stem: str, classes: Sequence[str] | None = None) -> bool:
    """Returns whether a file name without its ending has the form of a clip of HRI30, and
    is of one of the classes if they are given."""
    if classes is None:
        return bool(_UCF_NAME.fullmatch(stem) or _NAME.fullmatch(stem))
    try:
        return bool(parse_clip_name(stem, classes))
    except HRI30Error:
        return False


def name_part(path: str, start: float, end: float) -> str:
    """Returns the file name of a part of a recording, such as ``long[1.5-4].mp4``; times
    are in seconds."""
    stem, suffix = os.path.splitext(path)
    times = (f'{time:.6f}'.rstrip('0').rstrip('.') for time in (start, end))
    return f'{stem}[{"-".join(times)}]{suffix}'


def split_part(filename: str) -> tuple[str, tuple[float, float] | None]:
    """Returns the recording and the part that a name of :func:`name_part` means, unless a
    file exists under the whole name."""
    match = _PART.fullmatch(filename)
    if match is None or os.path.exists(filename):
        return filename, None
    return match[1] + match[4], (float(match[2]), float(match[3]))
