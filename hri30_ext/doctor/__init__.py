"""Examines a data folder before it costs a training, and lists clips to leave out.

``examination.py`` runs all checks and formats the result; ``tree.py`` lists the folder,
``labels.py`` checks names, annotations and counts, ``reading.py`` reads every clip in
isolated processes, ``clips.py`` judges and compares them, ``copies.py`` finds changed
copies, and ``leaving_out.py`` writes the list. ``leaks.py`` compares splits before a
training.
"""

from .examination import Examination, apply_list, examine, format_table, to_json
from .findings import KINDS, Finding
from .leaving_out import leave_out

__all__ = ['KINDS', 'Examination', 'Finding', 'apply_list', 'examine', 'format_table',
           'leave_out', 'to_json']
