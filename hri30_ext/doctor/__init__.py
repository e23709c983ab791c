"""Examines a data folder before it costs a training, and lists clips to leave out.

``examination.py`` runs all checks and formats the result; ``tree.py`` lists the folder,
``labels.py`` checks names and annotations, ``reading.py`` reads every clip in isolated
processes, ``clips.py`` judges and compares them, and ``fix.py`` writes the list.
``leaks.py`` compares splits before a training.
"""

from .examination import Examination, apply_list, examine, format_table, to_json
from .findings import KINDS, Finding
from .fix import leave_out, undo

__all__ = ['KINDS', 'Examination', 'Finding', 'apply_list', 'examine', 'format_table',
           'leave_out', 'to_json', 'undo']
