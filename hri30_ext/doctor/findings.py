"""What can be wrong with a data folder, and how severe it is."""

from typing import NamedTuple

#: Training or testing would stop, lose clips or learn wrong labels.
ERROR = 'error'
#: To be checked: it may be intended, or costs little.
WARNING = 'warning'
INFO = 'info'
SEVERITIES = (ERROR, WARNING, INFO)

#: Kinds of finding, in the order of the table, and what to do about each.
KINDS = {
    # The folder
    'mixed_layout': 'Keep one of the two folders; put the clips of both into it.',
    'unreadable': 'Change the permissions: chmod -R u+rwX,go+rX.',
    'broken_link': 'Correct or remove the link.',
    'linked_folder': 'Link the clips, or the whole train_set: links to folders within it '
                     'are not followed.',
    'not_a_file': 'Remove or rename it.',
    'unread_place': 'Move the clips into train_set/ or test_set/, or ignore this.',
    'unread_ending': 'Convert or rename it; repeat unfinished downloads.',
    'other_file': 'It does no harm.',
    # Names and labels
    'foreign_names': 'These are not HRI30 names. Rename the clips to CID<class id>_'
                     'SID<group>_VID<clip> and name your classes with --classes; see '
                     'data/README.md.',
    'malformed_name': 'Rename it to CID<class id>_SID<group>_VID<clip>.',
    'wrong_folder': 'Move the clip to the folder of its class, or rename it.',
    'same_name': 'Keep one file for each clip.',
    'name_case': 'Spell the names alike in the folder and in the annotation.',
    'annotation_row': 'Correct the row. Until then, clips without a row are not reported.',
    'label_contradiction': 'Find out which of the two is right, and correct the other.',
    'swapped_labels': 'Class ids follow the released file, in which 28 is '
                      'WalkingWithObject and 29 WalkingWithDrill, not the alphabet. '
                      'Correct the names or ids.',
    'missing_clip': 'Get the clip again from the archive.',
    'surplus_clip': 'Add its row to the annotation, or leave it out.',
    'missing_class': 'List the classes of your data with --classes, or get the others.',
    'hole': 'Get the clips again, or continue without them: this class has fewer.',
    'known_hole': 'The released data lacks it as well.',
    'irregular': 'Ignore this if your data are arranged like that.',
    # Files
    'empty': 'Get the clip again.',
    'undecodable': 'Get the clip again, or convert it.',
    'crashes': 'Get the clip again, or convert it: it crashes the decoder.',
    'hangs': 'Get the clip again; if it is only long, cut it or raise --seconds.',
    'memory': 'Make it smaller: the decoder ran out of memory.',
    'truncated': 'Get the clip again: a download or a full disk cut it short.',
    'corrupt': 'Get the clip again: decoders conceal this damage, and frames are wrong.',
    'frame_count': 'Other programs may trust the header; rewrite the container.',
    # Frames
    'black': 'Look at the clip.',
    'green': 'Look at the clip: where it is green, a decoder had no data.',
    'blank': 'Look at the clip: some frames have one color.',
    'frozen': 'Look at the clip: nothing moves in it.',
    'short': 'Look at the clip: it has few frames to sample from.',
    'long': 'Cut the clip to its action.',
    'odd_size': 'It is scaled like the others; its aspect ratio may differ.',
    'odd_rate': 'Its action appears faster or slower; convert it.',
    'odd_interlacing': 'Interlaced clips are deinterlaced; the others are sharper. Convert '
                       'them alike.',
    'interlaced': 'They are deinterlaced when they are read.',
    'unlike_hri30': 'Ignore this for data of your own.',
    # Pairs
    'test_clip_in_training': 'Remove the training clip: never train on test clips.',
    'duplicate': 'Keep one of the two.',
    'near_duplicate': 'Look at both; if one is a copy of the other, keep one.',
    # The rest
    'left_out': '--fix writes annotations/leave_out.csv again, --undo deletes it.',
    'refused': 'Training stops with this message.',
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


def by_severity_and_kind(finding: Finding) -> tuple:
    """Sorts findings in the order in which they are shown."""
    return (SEVERITIES.index(finding.severity), list(KINDS).index(finding.kind),
            finding.path, finding.detail)
