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
    # The folder
    'mixed_layout': (ERROR, 'Keep one of the two folders; put the clips of both into it.'),
    'unreadable': (ERROR, 'Change the permissions: chmod -R u+rwX,go+rX.'),
    'broken_link': (ERROR, 'Correct or remove the link.'),
    'linked_folder': (WARNING, 'Link clips or the whole train_set, not folders in it.'),
    'not_a_file': (WARNING, 'Remove or rename it.'),
    'unread_place': (WARNING, 'Move clips into train_set/ or test_set/, or ignore this.'),
    'unread_ending': (WARNING, 'Convert or rename it; repeat unfinished downloads.'),
    'other_file': (INFO, 'It does no harm.'),
    # Names and labels
    'foreign_names': (ERROR, 'These are not HRI30 names: docs/your_data.md and '
                      'hri30 new-dataset are for other data.'),
    'malformed_name': (ERROR, 'Rename it to CID<class id>_SID<group>_VID<clip>.'),
    'wrong_folder': (ERROR, 'Move the clip to the folder of its class, or rename it.'),
    'same_name': (ERROR, 'Keep one file for each clip.'),
    'name_case': (ERROR, 'Spell the names alike in the folder and in the annotation.'),
    'annotation_row': (ERROR, 'Correct it; until then, clips without a row are unknown.'),
    'label_contradiction': (ERROR, 'Find out which is right, and correct the other.'),
    'swapped_labels': (ERROR, 'Class ids follow the released file, not the alphabet: 28 is '
                       'WalkingWithObject and 29 WalkingWithDrill. Correct them.'),
    'missing_clip': (ERROR, 'Get the clip again from the archive.'),
    'surplus_clip': (ERROR, 'Add its row to the annotation, or leave it out.'),
    'missing_class': (WARNING, 'Name the classes of your data with --classes.'),
    'hole': (WARNING, 'Get the clips again; without them, this class has fewer.'),
    'known_hole': (INFO, 'The released data lacks it as well.'),
    'irregular': (INFO, 'Ignore this if your data are arranged like that.'),
    # Files
    'empty': (ERROR, 'Get the clip again.'),
    'undecodable': (ERROR, 'Get the clip again, or convert it.'),
    'crashes': (ERROR, 'Get the clip again, or convert it: it crashes the decoder.'),
    'hangs': (ERROR, 'Get the clip again; if it is only long, cut it or raise --seconds.'),
    'memory': (ERROR, 'Make it smaller: the decoder ran out of memory.'),
    'truncated': (ERROR, 'Get the clip again: a download or a full disk cut it short.'),
    'corrupt': (ERROR, 'Get the clip again: frames are wrong, though decoders conceal it.'),
    'frame_count': (WARNING, 'Other programs may trust the header; rewrite the container.'),
    # Frames
    'black': (ERROR, 'Look at the clip.'),
    'green': (ERROR, 'Look at the clip: where it is green, a decoder had no data.'),
    'blank': (ERROR, 'Look at the clip: some frames have one color.'),
    'frozen': (ERROR, 'Look at the clip: nothing moves in it.'),
    'short': (WARNING, 'Look at the clip: it has few frames to sample from.'),
    'long': (WARNING, 'Cut the clip to its action.'),
    'odd_size': (WARNING, 'It is scaled like the others; its aspect ratio may differ.'),
    'odd_rate': (WARNING, 'Its action appears faster or slower; convert it.'),
    'odd_interlacing': (WARNING, 'Convert them alike: interlaced clips lose sharpness.'),
    'interlaced': (INFO, 'They are deinterlaced when they are read.'),
    'unlike_hri30': (INFO, 'Ignore this for data of your own.'),
    # Pairs
    'test_clip_in_training': (ERROR, 'Remove it: never train on a test clip.'),
    'duplicate': (WARNING, 'Keep one of the two.'),
    'near_duplicate': (ERROR, 'Look at both; if one is a copy of the other, keep one.'),
    # The rest
    'left_out': (INFO, '--fix writes annotations/leave_out.csv again, --undo deletes it.'),
    'refused': (ERROR, 'Training stops with this message.'),
}

#: Kinds for which ``--fix`` leaves out a training clip, if they are errors: the file is
#: faulty, or training would refuse it. Where a label may be wrong, or one of two clips has
#: to be chosen, a person decides.
FIXABLE = frozenset({
    'empty', 'undecodable', 'crashes', 'hangs', 'memory', 'truncated', 'corrupt', 'long',
    'black', 'green', 'blank', 'frozen', 'broken_link', 'malformed_name', 'surplus_clip',
    'missing_clip', 'test_clip_in_training'})


class Finding(NamedTuple):
    """A fault of a data folder."""
    kind: str  # of KINDS
    severity: str
    path: str  # relative to the root, / between folders
    detail: str

    @classmethod
    def of(cls, kind: str, path: str, detail: str, severity: str | None = None
           ) -> 'Finding':
        """Returns a finding, by default with the usual severity of its kind."""
        return cls(kind, severity or KINDS[kind][0], path, detail)

    def order(self) -> tuple:
        """Sorts findings as they are shown: by severity, then by kind."""
        return SEVERITIES.index(self.severity), list(KINDS).index(self.kind), *self[2:]
