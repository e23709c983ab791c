"""A rendered stand-in for HRI30: the same 30 classes, a drawn worker.

It is for trying, testing and measuring this project without the recordings;
scores on it say nothing about HRI30. ``actions.py`` says what every class
looks like, ``groups.py`` what the clips of a group share.
"""

from .preview import write_preview
from .render import plan_clip, render_clip
from .video import CODECS, write_video
from .writer import write_dataset

__all__ = [
    'CODECS', 'plan_clip', 'render_clip', 'write_dataset',
    'write_preview', 'write_video'
]
