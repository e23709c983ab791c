"""Names of clips: ``CID<class>_SID<group>_VID<clip>``."""

import re
from typing import NamedTuple

from .errors import HRI30Error

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
