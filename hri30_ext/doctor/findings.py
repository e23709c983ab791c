"""What can be wrong with a data folder, and how severe it is."""

from typing import NamedTuple

#: Training or testing would stop, lose clips or learn wrong labels.
ERROR = 'error'
#: To be checked: it may be intended, or costs little.
WARNING = 'warning'
INFO = 'info'
SEVERITIES = (ERROR, WARNING, INFO)

#: Kinds of finding, in the order of the table: severity, unless a check sets another, and
#: what to do.
KINDS = {
    # Names and labels
    'malformed_name': (ERROR, 'Rename it to CID<class id>_SID<group>_VID<clip>. For data '
                       'with other names, see docs/your_data.md.'),
    'same_name': (ERROR, 'Keep one file for each clip.'),
    'wrong_label': (ERROR, 'Find out which label is right, and correct the other. Class '
                    'ids follow the released file, not the alphabet: 28 is '
                    'WalkingWithObject and 29 WalkingWithDrill.'),
    'annotation_row': (ERROR, 'Correct the row. Class ids follow the released file, not '
                       'the alphabet: 28 is WalkingWithObject and 29 WalkingWithDrill.'),
    'missing_clip': (ERROR, 'Get the clip again from the archive, or mend its link.'),
    'surplus_clip': (ERROR, 'Add its row to the annotation, or leave it out.'),
    'few_clips': (WARNING, 'Get the missing clips; for other classes, use --classes.'),
    # Files and frames
    'undecodable': (ERROR, 'Get the clip again, convert it, or correct its permissions.'),
    'damaged': (ERROR, 'Get the clip again: frames are wrong, though decoders conceal it.'),
    'black': (ERROR, 'Look at the clip: frames are black, green or of one color.'),
    'still': (ERROR, 'Look at the clip: nothing moves in it.'),
    # Compared with the other clips
    'odd_size': (WARNING, 'It is scaled like the others; its aspect ratio may differ.'),
    'odd_rate': (WARNING, 'Its action appears faster or slower; convert it.'),
    'odd_length': (WARNING, 'Look at the clip; cut it to its action.'),
    'duplicate': (WARNING, 'Keep one of the two; never train on a test clip.'),
    'near_duplicate': (ERROR, 'Look at both; if one is a copy of the other, keep one.'),
    # The rest
    'left_out': (INFO, '--fix writes annotations/leave_out.csv again; delete that file to '
                 'use them.'),
    'refused': (ERROR, 'Training stops with this message.'),
}

#: Kinds for which ``--fix`` leaves out a training clip, if they are errors: the file is
#: faulty, or training would refuse it. Where a label may be wrong, or one of two clips has
#: to be chosen, a person decides.
FIXABLE = frozenset({'malformed_name', 'missing_clip', 'surplus_clip', 'undecodable',
                     'damaged', 'black', 'still'})


class Finding(NamedTuple):
    """A fault of a data folder."""
    kind: str  # of KINDS
    severity: str
    path: str  # relative to the root, / between folders
    detail: str

    @classmethod
    def of(cls, kind: str, path: str, detail: str) -> 'Finding':
        """Returns a finding with the usual severity of its kind."""
        return cls(kind, KINDS[kind][0], path, detail)

    def order(self) -> tuple:
        """Sorts findings as they are shown: by severity, then by kind."""
        return SEVERITIES.index(self.severity), list(KINDS).index(self.kind), *self[2:]
