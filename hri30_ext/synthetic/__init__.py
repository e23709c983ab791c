"""Synthetic data, a rendered stand-in for HRI30: its 30 classes, acted by a drawn worker.

It serves to try, test and measure this project without the recordings; scores on it say
nothing about HRI30. ``actions.py`` defines the movement of each class, ``groups.py`` what
the clips of a group share.
"""

from .render import plan_clip, render_clip, write_preview
from .video import write_video
from .writer import read_test_groups, write_dataset

__all__ = ['plan_clip', 'read_test_groups', 'render_clip', 'write_dataset', 'write_preview',
           'write_video']
