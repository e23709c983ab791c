"""Faults to plant in a data folder, and the findings that the doctor must have for each.

A fault is a function of a :class:`Garden`; it changes files or rows and returns pairs of
kind and path. One fault may cause several findings: a renamed clip is malformed, and its
row has no clip.
"""

import os
import shutil
import struct
from pathlib import Path

import av
import numpy as np
from bad_decoder import MARKS

from hri30_ext.names import HRI30_CLASSES
from hri30_ext.synthetic import render_clip, write_video

TRAIN_CSV = 'annotations/train_set_labels.csv'
FAULTS = {}


class Garden:
    """A data folder in HRI30's layout, and clips in it that have no fault yet.

    Args:
        root (Path): Rendered by write_dataset.
        rng (np.random.Generator): Chooses clips.
    """

    def __init__(self, root, rng):
        self.root, self.rng = Path(root), rng
        self.train, self.test = (
            [f'{folder}/{name}' for name in rng.permutation(sorted(
                os.listdir(self.root / folder)))] for folder in ('train_set', 'test_set'))

    def take(self, beginning=''):
        """Returns a training clip for one fault, of any class or of that of a name."""
        path = next(path for path in self.train if Path(path).name.startswith(beginning))
        self.train.remove(path)
        return path

    def take_test(self):
        """Returns a test clip for one fault."""
        return self.test.pop()

    def frames(self, path):
        """Decodes a clip, (T, H, W, 3) uint8 RGB."""
        with av.open(str(self.root / path)) as container:
            return np.stack([frame.to_ndarray(format='rgb24')
                             for frame in container.decode(video=0)])

    def write(self, path, frames, **options):
        """Replaces a clip."""
        write_video(np.ascontiguousarray(frames), self.root / path, **options)

def fault(function):
    """Registers a fault by its name."""
    FAULTS[function.__name__] = function
    return function


# ---- Files ------------------------------------------------------------------------------


def change_bytes(kind, function):
    """Returns a fault that replaces the bytes of a clip by those of function(content, rng),
    which may change them in place instead."""
    def plant(garden):
        path = garden.take()
        content = bytearray((garden.root / path).read_bytes())
        (garden.root / path).write_bytes(function(content, garden.rng) or content)
        return [(kind, path)]
    return plant


def packets(content):
    """Returns start and size of the packets of the first stream of an AVI file."""
    position, found = content.index(b'movi') + 4, []
    while content[position:position + 4] == b'00dc':
        size, = struct.unpack_from('<I', content, position + 4)
        found.append((position + 8, size))
        position += 8 + size + size % 2
    return found


def damage(content, rng):
    for start, size in packets(content)[1::2]:
        content[start + size // 3:start + size] = bytes(
            rng.integers(0, 256, size - size // 3, np.uint8))


def damage_one(content, rng):
    start, size = packets(content)[4]
    content[start + size // 2:start + size] = b'\xff' * (size - size // 2)


FAULTS.update(
    empty=change_bytes('undecodable', lambda content, rng: content.clear()),
    undecodable=change_bytes('undecodable', lambda content, rng: b'404 Not Found\n' * 50),
    # A file of the right length, all zeros, as a disk that lost power leaves.
    zeros=change_bytes('undecodable', lambda content, rng: bytes(len(content))),
    crashes=change_bytes('undecodable', lambda content, rng: content + MARKS['crashes']),
    hangs=change_bytes('undecodable', lambda content, rng: content + MARKS['hangs']),
    memory=change_bytes('undecodable', lambda content, rng: content + MARKS['memory']),
    truncated=change_bytes('damaged', lambda content, rng: content[:len(content) // 2]),
    cut_end=change_bytes(
        'damaged', lambda content, rng: content[:len(content) * 19 // 20]),
    corrupt=change_bytes('damaged', damage),
    one_damaged_packet=change_bytes('damaged', damage_one),
)


# ---- Frames -----------------------------------------------------------------------------


def change_frames(kind, function, **options):
    """Returns a fault that encodes a clip again, with other frames."""
    def plant(garden):
        path = garden.take()
        garden.write(path, function(garden.frames(path)), **options)
        return [(kind, path)]
    return plant


FAULTS.update(
    black=change_frames('black', np.zeros_like),
    black_beginning=change_frames(
        'black', lambda frames: np.concatenate([0 * frames[:6], frames[6:]])),
    blank=change_frames('black', lambda frames: np.full_like(frames, 128)),
    # What a decoder makes of YUV zeros, encoded again.
    green=change_frames('black', lambda frames: np.full_like(frames, (0, 135, 0))),
    still=change_frames('still', lambda frames: np.repeat(frames[:1], len(frames), 0)),
    short=change_frames('odd_length', lambda frames: frames[:5]),
    long=change_frames('odd_length', lambda frames: np.tile(frames, (8, 1, 1, 1))),
    odd_size=change_frames('odd_size', lambda frames: frames[:, ::2, ::2]),
    odd_rate=change_frames('odd_rate', lambda frames: frames, fps=15),
)


# ---- Copies -----------------------------------------------------------------------------


@fault
def test_clip_in_training(garden):
    path = garden.take()
    shutil.copy(garden.root / garden.take_test(), garden.root / path)
    return [('duplicate', path)]


@fault
def duplicate(garden):
    """The same file as two classes."""
    first, second = sorted([garden.take('CID01'), garden.take('CID20')])
    shutil.copy(garden.root / first, garden.root / second)
    return [('duplicate', second)]


@fault
def near_duplicate(garden):
    """A test clip, encoded again without its beginning, among the training clips."""
    path = garden.take()
    garden.write(path, garden.frames(garden.take_test())[3:], codec='mjpeg')
    return [('near_duplicate', path)]


# ---- Names ------------------------------------------------------------------------------


def rename(kind, function, beginning='', missing=False):
    """Returns a fault that renames a clip; ``missing``: its row is then without a clip."""
    def plant(garden):
        path = garden.take(beginning)
        other = function(path)
        (garden.root / other).parent.mkdir(exist_ok=True)
        os.rename(garden.root / path, garden.root / other)
        return [(kind, other), ('missing_clip', path)][:1 + missing]
    return plant


FAULTS.update(
    malformed_name=rename('malformed_name', lambda path: path.replace('_SID', '-SID'),
                          missing=True),
    unknown_class=rename('malformed_name', lambda path: f'train_set/CID31{path[15:]}',
                         missing=True),
    wrong_folder=rename('wrong_label', lambda path: path.replace('/', '/06/'), 'CID05'),
)


@fault
def same_name(garden):
    """The same name with another ending, and another clip in it."""
    path, other = garden.take('CID02'), garden.take('CID03')
    frames = garden.frames(other)
    other = path.replace('.avi', '.mp4')
    # Backwards: it is no copy of the clip that the frames are from.
    garden.write(other, frames[::-1, :, ::-1])
    return [('same_name', other)]


# ---- Annotations ------------------------------------------------------------------------


def remove(garden, path):
    (garden.root / path).unlink()
    return [('missing_clip', path)]


FAULTS.update(missing_clip=lambda garden: remove(garden, garden.take()),
              missing_test_clip=lambda garden: remove(garden, garden.take_test()))


@fault
def broken_link(garden):
    path = garden.take()
    pairs = remove(garden, path)
    (garden.root / path).symlink_to('/nowhere/clip.avi')
    return pairs


@fault
def surplus_clip(garden):
    path = 'train_set/CID07_SID01_VID90.avi'
    source = garden.frames(garden.take('CID07'))
    garden.write(path, render_clip(7, 1, 90, size=(source.shape[2], source.shape[1])))
    return [('surplus_clip', path)]


def change_row(kind, function, beginning='', path=TRAIN_CSV, unlink=False):
    """Returns a fault that replaces the row of a training clip by the rows that a function
    makes of it; ``unlink``: and deletes the clip."""
    def plant(garden):
        clip, file = garden.root / garden.take(beginning), garden.root / TRAIN_CSV
        rows = [row.split(',') for row in file.read_text().splitlines()]
        number = next(i for i, row in enumerate(rows) if row[0] == clip.stem)
        rows[number:number + 1] = function(rows[number])
        file.write_text(''.join(','.join(row) + '\n' for row in rows))
        if unlink:
            clip.unlink()
        return [(kind, path)]
    return plant


FAULTS.update(
    few_clips=change_row('few_clips', lambda row: [], path='train_set', unlink=True),
    repeated_row=change_row('annotation_row', lambda row: [row, row]),
    # Class ids that contradict the names of the classes, as others sort them.
    other_id=change_row(
        'annotation_row', lambda row: [[*row[:2], f'{int(row[2]) % 30 + 1}']]),
    wrong_label=change_row(
        'wrong_label', lambda row: [[row[0], HRI30_CLASSES[12], '13']], 'CID12'),
)
