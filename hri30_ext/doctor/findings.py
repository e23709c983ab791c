"""What can be wrong with a data folder, and how bad it is."""

from typing import NamedTuple

#: Training or testing would stop, lose clips or learn what is wrong.
ERROR = 'error'
#: Worth a look: it may be meant, or costs little.
WARNING = 'warning'
#: Good to know.
INFO = 'info'
SEVERITIES = (ERROR, WARNING, INFO)

#: Kinds of finding, in the order of the table, and what to do about each.
KINDS = {
    # The folder
    'mixed_layout': 'Keep one of the two folders; put the clips of both into it.',
    'unreadable': 'Change the permissions: chmod -R u+rwX,go+rX.',
    'broken_link': 'Mend the link, or remove it.',
    'linked_folder': 'Link the clips, or the whole train_set: links to folders within it '
                     'are not followed.',
    'not_a_file': 'Remove it, or give it another name.',
    'unread_place': 'Move the clips into train_set/ or test_set/, or leave them out.',
    'unread_ending': 'Convert or rename it; unfinished downloads have to be repeated.',
    'other_file': 'It does no harm.',
    # Names and labels
    'malformed_name': 'Rename it as the annotation has it.',
    'wrong_folder': 'Move the clip to the folder of its class, or rename it.',
    'same_name': 'Keep one file a clip.',
    'name_case': 'Spell the names alike in the folder and in the annotation.',
    'annotation_row': 'Mend the row; only then are clips without a row looked for.',
    'label_contradiction': 'Find out which of the two is right, and mend the other.',
    'swapped_labels': 'Class ids follow the released file, in which 28 is '
                      'WalkingWithObject and 29 WalkingWithDrill, and not the alphabet. '
                      'Mend the names or ids.',
    'missing_clip': 'Get the clip again from the archive.',
    'surplus_clip': 'Add its row to the annotation, or move it aside.',
    'missing_class': 'Name the classes that there are with --classes, or get the others.',
    'hole': 'Get the clips again, or go on without: this class has fewer.',
    'known_hole': 'The released data lacks it as well.',
    'irregular': 'It is fine if your data are arranged so.',
    # Files
    'empty': 'Get the clip again.',
    'undecodable': 'Get the clip again, or convert it.',
    'crashes': 'Get the clip again, or convert it: it crashes the decoder.',
    'hangs': 'Get the clip again; if it is only long, cut it or raise --seconds.',
    'memory': 'Make it smaller: the decoder ran out of memory.',
    'truncated': 'Get the clip again: it was cut off, as a download or a full disk does.',
    'corrupt': 'Get the clip again: decoders hide this damage, and frames are wrong.',
    'frame_count': 'Other programs may believe the header; write the container anew.',
    # Pictures
    'black': 'Look at the clip.',
    'green': 'Look at the clip: a decoder had nothing to show where it is green.',
    'blank': 'Look at the clip: frames are of one colour.',
    'frozen': 'Look at the clip: nothing moves in it.',
    'short': 'Look at the clip: there is little to sample from.',
    'long': 'Cut the clip to its action.',
    'odd_size': 'It is scaled as the others are; its aspect ratio may be another.',
    'odd_rate': 'Its action is seen faster or slower; convert it.',
    'odd_interlacing': 'Those that are interlaced are de-interlaced; the others are '
                       'sharper. Convert them alike.',
    'interlaced': 'They are de-interlaced when they are read.',
    'unlike_hri30': 'It is fine for data of your own.',
    # Pairs
    'test_clip_in_training': 'Remove the training clip: what is tested must not be '
                             'trained on.',
    'duplicate': 'Keep one of the two.',
    'near_duplicate': 'Look at both; if one is a copy of the other, keep one.',
    # What none of the above explains
    'refused': 'Training stops with this message.',
}

#: What is moved aside where it is an error: faults of the file itself, and files that
#: training would refuse. Where one of two has to be chosen, or a label may be wrong, a
#: person has to look.
MOVABLE = frozenset({
    'empty', 'undecodable', 'crashes', 'hangs', 'memory', 'truncated', 'corrupt', 'long',
    'black', 'green', 'blank', 'frozen', 'broken_link', 'malformed_name', 'surplus_clip',
    'test_clip_in_training'})


class Finding(NamedTuple):
    """One thing that is wrong."""
    kind: str  # of KINDS
    severity: str
    path: str  # relative to the root, / between folders
    detail: str


def by_severity_and_kind(finding: Finding) -> tuple:
    """Sorts findings as they are shown."""
    return (SEVERITIES.index(finding.severity), list(KINDS).index(finding.kind),
            finding.path, finding.detail)
