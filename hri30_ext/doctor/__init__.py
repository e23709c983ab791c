"""Examines a data folder before it costs a training, and lists clips to leave out.

``examination.py`` runs all checks; ``tree.py`` lists the folder, ``labels.py`` checks names
and annotations, ``reading.py`` reads every clip in isolated processes, ``clips.py`` judges
and compares them, ``report.py`` formats the result, and ``fix.py`` writes the list.
``leaks.py`` compares splits before a training.
"""

from .examination import Examination, apply_list, examine
from .findings import KINDS, Finding
from .fix import leave_out, undo
from .report import format_table, to_json, write_json

__all__ = ['KINDS', 'Examination', 'Finding', 'apply_list', 'examine', 'format_table',
           'leave_out', 'to_json', 'undo', 'write_json']
