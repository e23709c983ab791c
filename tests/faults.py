"""Faults to plant in a data folder, and the findings that the doctor must have for each.

A fault is a function of a :class:`Garden`; it changes files or rows and returns pairs of
kind and path. One fault may cause several findings: a renamed clip is malformed, and its
row has no clip.
"""

import csv
import os
import shutil
import struct
from pathlib import Path

import av
import cv2
import numpy as np
from bad_decoder import MARKS

from hri30_ext.names import HRI30_CLASSES, released_name
from hri30_ext.synthetic import render_clip, write_video

TRAIN_CSV = 'annotations/train_set_labels.csv'
TEST_CSV = 'annotations/test_set_labels.csv'
FAULTS = {}

# Reserved for faults that need a clip of a certain class.
_RESERVED = tuple(f'CID{number:02d}' for number in (1, 2, 3, 5, 7, 8, 12, 20, 28, 29))


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

    def take(self, *beginnings):
        """Returns a training clip for one fault, of any class or of those given."""
        for position, path in enumerate(self.train):
            name = Path(path).name
            if (name.startswith(beginnings) if beginnings
                    else not name.startswith(_RESERVED)):
                return self.train.pop(position)
        raise LookupError(f'no clip left of {beginnings}')

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

    def change(self, path, function):
        """Replaces the bytes of a file by a function, which may change them in place."""
        file = self.root / path
        content = bytearray(file.read_bytes())
        changed = function(content)
        file.write_bytes(content if changed is None else changed)

    def change_row(self, path, function, annotation=TRAIN_CSV):
        """Replaces the row of a clip by the rows that a function makes of it."""
        file = self.root / annotation
        with open(file, newline='') as text:
            rows = list(csv.reader(text))
        number = next(i for i, row in enumerate(rows) if row[0] == Path(path).stem)
        rows[number:number + 1] = function(rows[number])
        file.write_text(''.join(','.join(row) + '\n' for row in rows))
        return annotation


def fault(function):
    """Registers a fault by its name."""
    FAULTS[function.__name__] = function
    return function


def packets(content):
    """Returns start and size of the packets of the first stream of an AVI file."""
    position, found = content.index(b'movi') + 4, []
    while content[position:position + 4] == b'00dc':
        size, = struct.unpack_from('<I', content, position + 4)
        found.append((position + 8, size))
        position += 8 + size + size % 2
    return found


def encode(path, pictures, codec='mpeg4', rate=30, options=None):
    """Encodes pictures of PyAV as they are."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.pix_fmt = pictures[0].format.name
        for number, picture in enumerate(pictures):
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def yuv_pictures(frames):
    """Makes pictures of PyAV of RGB frames."""
    return [av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(format='yuv420p')
            for frame in frames]


def change_bytes(kind, function):
    """Returns a fault that changes the bytes of a clip: function(content, rng)."""
    def plant(garden):
        path = garden.take()
        garden.change(path, lambda content: function(content, garden.rng))
        return [(kind, path)]
    return plant


def change_frames(kind, function, **options):
    """Returns a fault that encodes a clip again, with other frames."""
    def plant(garden):
        path = garden.take()
        garden.write(path, function(garden.frames(path)), **options)
        return [(kind, path)]
    return plant


# ---- Files ------------------------------------------------------------------------------


def damage(content, rng):
    for start, size in packets(content)[1::2]:
        content[start + size // 3:start + size] = bytes(
            rng.integers(0, 256, size - size // 3, np.uint8))


def damage_one(content, rng):
    start, size = packets(content)[4]
    content[start + size // 2:start + size] = b'\xff' * (size - size // 2)


def announce(content, count):
    struct.pack_into('<I', content, content.index(b'avih') + 8 + 16, count)
    struct.pack_into('<I', content, content.index(b'strh') + 8 + 32, count)


FAULTS.update(
    empty=change_bytes('empty', lambda content, rng: b''),
    undecodable=change_bytes('undecodable', lambda content, rng: b'404 Not Found\n' * 50),
    truncated=change_bytes(
        'truncated', lambda content, rng: content[:packets(content)[-1][0] // 2]),
    corrupt=change_bytes('corrupt', damage),
    frame_count=change_bytes('frame_count', lambda content, rng: announce(content, 500)),
    crashes=change_bytes('crashes', lambda content, rng: content + MARKS['crashes']),
    hangs=change_bytes('hangs', lambda content, rng: content + MARKS['hangs']),
    memory=change_bytes('memory', lambda content, rng: content + MARKS['memory']),
)


# ---- Pictures ---------------------------------------------------------------------------


def repeat(frames):
    """Repeats a clip there and back for more than 10 seconds."""
    there_and_back = np.concatenate([frames, frames[::-1]])
    return np.concatenate([there_and_back] * -(-310 // len(there_and_back)))


def halve(frames):
    size = frames.shape[2] // 4 * 2, frames.shape[1] // 4 * 2
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                     for frame in frames])


FAULTS.update(
    black=change_frames('black', np.zeros_like),
    blank=change_frames('blank', lambda frames: np.full_like(frames, 128)),
    frozen=change_frames('frozen', lambda frames: np.repeat(frames[:1], len(frames), 0)),
    short=change_frames('short', lambda frames: frames[:5]),
    long=change_frames('long', repeat),
    odd_size=change_frames('odd_size', halve),
    odd_rate=change_frames('odd_rate', lambda frames: frames, fps=15),
)


@fault
def green(garden):
    """YUV zeros in the lower half, from the middle of the clip on."""
    path = garden.take()
    pictures = yuv_pictures(garden.frames(path))
    for number, picture in enumerate(pictures[len(pictures) // 2:], len(pictures) // 2):
        planes = picture.to_ndarray()
        height = picture.height
        planes[height // 2:height] = 0
        chroma = planes[height:].reshape(2, -1)
        chroma[:, chroma.shape[1] // 2:] = 0
        pictures[number] = av.VideoFrame.from_ndarray(planes, format='yuv420p')
    encode(garden.root / path, pictures, options={'qmin': '2', 'qmax': '5'})
    return [('green', path)]


@fault
def odd_interlacing(garden):
    path = garden.take()
    encode(garden.root / path, yuv_pictures(garden.frames(path)),
           options={'flags': '+ildct+ilme', 'qmin': '3', 'qmax': '5'})
    return [('odd_interlacing', path)]


# ---- Copies -----------------------------------------------------------------------------


@fault
def test_clip_in_training(garden):
    path = garden.take()
    shutil.copy(garden.root / garden.take_test(), garden.root / path)
    return [('test_clip_in_training', path)]


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


def rename(kind, function, *beginnings, missing=False):
    """Returns a fault that renames a clip; ``missing``: its row is then without a clip."""
    def plant(garden):
        path = garden.take(*beginnings)
        other = function(path)
        (garden.root / other).parent.mkdir(exist_ok=True)
        os.rename(garden.root / path, garden.root / other)
        return [(kind, other), ('missing_clip', path)][:1 + missing]
    return plant


FAULTS.update(
    malformed_name=rename('malformed_name', lambda path: path.replace('_SID', '-SID'),
                          missing=True),
    wrong_folder=rename('wrong_folder', lambda path: path.replace('/', '/06/'), 'CID05'),
)


@fault
def same_name(garden):
    """The same name with another ending, and another clip in it."""
    path, other = garden.take('CID02'), garden.take('CID03')
    frames = garden.frames(other)
    other = path.replace('.avi', '.mp4')
    # Backwards: it is no copy of the clip that the frames are from.
    encode(garden.root / other, yuv_pictures(np.ascontiguousarray(frames[::-1, :, ::-1])))
    return [('same_name', other)]


@fault
def name_case(garden):
    path = garden.take_test()
    other = path.replace('testvideo', 'TestVideo')
    os.rename(garden.root / path, garden.root / other)
    return [('name_case', other)]


# ---- Annotations ------------------------------------------------------------------------


def change_row(kind, function, beginning=None):
    """Returns a fault that replaces the row of a training clip, or else of a test clip, by
    the rows that a function makes of it."""
    def plant(garden):
        if beginning is None:
            return [(kind, garden.change_row(garden.take_test(), function, TEST_CSV))]
        return [(kind, garden.change_row(garden.take(beginning), function))]
    return plant


@fault
def missing_clip(garden):
    path = garden.take()
    (garden.root / path).unlink()
    return [('missing_clip', path)]


@fault
def surplus_clip(garden):
    path = 'train_set/CID07_SID01_VID90.avi'
    source = garden.frames(garden.take('CID07'))
    garden.write(path, render_clip(7, 1, 90, size=(source.shape[2], source.shape[1])))
    return [('surplus_clip', path)]


@fault
def hole(garden):
    path = garden.take()
    (garden.root / path).unlink()
    garden.change_row(path, lambda row: [])
    return [('hole', path.removesuffix('.avi'))]


FAULTS.update(
    annotation_row=change_row('annotation_row', lambda row: [row, row]),
    label_contradiction=change_row(
        'label_contradiction', lambda row: [[row[0], HRI30_CLASSES[12], '13']], 'CID12'),
    # A row of the two classes that stand against the alphabet, as others sort them.
    swapped_labels=change_row('swapped_labels', lambda row: [[*row[:2], '29']], 'CID28'),
)


# ---- The folder -------------------------------------------------------------------------


@fault
def mixed_layout(garden):
    (garden.root / 'train').mkdir()
    return [('mixed_layout', 'train')]


@fault
def unreadable(garden):
    path = garden.take()
    os.chmod(garden.root / path, 0)
    return [('unreadable', path)]


@fault
def broken_link(garden):
    path = garden.take()
    (garden.root / path).unlink()
    (garden.root / path).symlink_to('/nowhere/clip.avi')
    return [('broken_link', path)]


@fault
def linked_folder(garden):
    (garden.root / 'elsewhere').mkdir(exist_ok=True)
    (garden.root / 'train_set' / 'more').symlink_to(garden.root / 'elsewhere')
    return [('linked_folder', 'train_set/more')]


@fault
def not_a_file(garden):
    os.mkfifo(garden.root / 'train_set' / 'pipe.avi')
    return [('not_a_file', 'train_set/pipe.avi')]


@fault
def unread_place(garden):
    shutil.copy(garden.root / garden.take(), garden.root / 'copy of a clip.avi')
    return [('unread_place', 'copy of a clip.avi')]


def add_file(kind, path):
    """Returns a fault that is a file of a few bytes."""
    def plant(garden):
        (garden.root / path).write_bytes(b'RIFF')
        return [(kind, path)]
    return plant


FAULTS.update(
    unread_ending=add_file('unread_ending', 'train_set/CID01_SID01_VID01.avi.part'),
    other_file=add_file('other_file', 'test_set/Thumbs.db'),
)

KINDS = tuple(FAULTS)  # one fault of each kind; what follows are others of these


# ---- Other faults of the same kinds -----------------------------------------------------


def blacken(frames):
    frames[:6] = 0
    return frames


def freeze(frames):
    frames[-20:] = frames[-20]
    return frames


FAULTS.update(
    # A file of the right length, all zeros, as a disk that lost power leaves.
    zeros=change_bytes('undecodable', lambda content, rng: bytes(len(content))),
    cut_index=change_bytes('truncated', lambda content, rng: content[:-100]),
    one_damaged_packet=change_bytes('corrupt', damage_one),
    unknown_frame_count=change_bytes(
        'frame_count', lambda content, rng: announce(content, 0)),
    black_beginning=change_frames('black', blacken),
    # What a decoder makes of YUV zeros, encoded again.
    green_pictures=change_frames(
        'green', lambda frames: np.full_like(frames, (0, 135, 0))),
    frozen_end=change_frames('frozen', freeze),
    unknown_class=rename('malformed_name', lambda path: f'train_set/CID31{path[15:]}',
                         missing=True),
    swapped_folder=rename('swapped_labels', lambda path: path.replace('/', '/28/'),
                          'CID29'),
    # A clip that is named by the alphabet; its row is right in itself.
    swapped_name=change_row(
        'swapped_labels', lambda row: [[row[0], HRI30_CLASSES[27], '28']], 'CID29'),
    # A row of semicolons; its clip, which has no other, is not surplus for that.
    broken_row=change_row('annotation_row', lambda row: [[row[0], ';'.join(row[1:])]]),
)


@fault
def cut_mp4(garden):
    path = garden.take()
    other = path.replace('.avi', '.mp4')
    encode(garden.root / other, yuv_pictures(garden.frames(path)))
    (garden.root / path).unlink()
    garden.change(other, lambda content: content[:len(content) // 2])
    return [('truncated', other)]


@fault
def class_list(garden):
    (garden.root / 'annotations' / 'classes.txt').write_text(
        ''.join(f'{released_name(name)}\n' for name in sorted(HRI30_CLASSES)))
    return [('swapped_labels', 'annotations/classes.txt')]


@fault
def missing_test_clip(garden):
    path = garden.take_test()
    (garden.root / path).unlink()
    return [('missing_clip', path)]


@fault
def duplicate_of_one_class(garden):
    first, second = sorted([garden.take('CID08_SID02'), garden.take('CID08_SID02')])
    shutil.copy(garden.root / first, garden.root / second)
    return [('duplicate', second)]


@fault
def folder_like_a_clip(garden):
    (garden.root / 'train_set' / 'folder.avi').mkdir()
    return [('not_a_file', 'train_set/folder.avi')]
