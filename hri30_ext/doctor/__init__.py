"""Examines a data folder before it costs a training, and moves bad clips aside.

``examination.py`` goes through it all; ``tree.py`` lists the folder, ``names.py`` and
``annotations.py`` check names and labels, ``decoding.py`` reads every clip in processes of
their own, ``clips.py`` judges what was read, ``copies.py`` compares clips, ``report.py``
shows it, and ``aside.py`` moves clips aside and back.
"""

from .aside import set_aside, undo
from .examination import Examination, examine
from .findings import KINDS, Finding
from .report import format_moved, format_table, to_json, write_json

__all__ = ['KINDS', 'Examination', 'Finding', 'examine', 'format_moved', 'format_table',
           'set_aside', 'to_json', 'undo', 'write_json']
