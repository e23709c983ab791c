"""The rendered data set on disk, in the layout of HRI30's release."""

import json
import os
import shutil
import signal
from concurrent.futures import as_completed
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..datasets.annotation import Annotation, write_annotations
from ..errors import HRI30Error
from ..names import HRI30_CLASSES
from ..utils.fileio import atomic_write_text
from ..utils.parallel import FEW, process_pool
from ..utils.progress import refresh_seconds
from .groups import DRAWING_SIZE
from .render import class_id, render_clip
from .video import check_codec, write_video

#: Raised whenever the same seed and options give other frames than before.
VERSION = 1
MARKER = 'EMBEDDED.json'
_FOLDERS = ('train_set', 'test_set', 'annotations')
_NOTE = ('Rendered, not recorded: a drawn worker in the classes and the layout '
         'of HRI30. Scores on it say nothing about HRI30.')

#: The first group of the test clips is the one after this, however many
#: training groups there are, so that more training data keeps the test set.
MAX_TRAIN_GROUPS = 999


class Clip(NamedTuple):
    """One file to write."""
    path: str  # below the root, with the extension
    label: int
    group: int
    clip: int


def list_clips(train_groups, test_groups, clips, seed=0, classes=None):
    """The clips of a data set.

    Returns:
        tuple[list[Clip], list[Clip]]: Of training, by name, and of testing,
        whose numbering says nothing of class or group.
    """
    labels = sorted({class_id(label) for label in classes or HRI30_CLASSES})
    digits = max(2, len(str(train_groups)))
    train = [
        Clip(f'train_set/CID{label:02d}_SID{group:0{digits}d}_VID{clip:02d}.avi',
             label, group, clip) for label in labels
        for group in range(1, train_groups + 1) for clip in range(1, clips + 1)
    ]
    first = MAX_TRAIN_GROUPS + 1
    test = [(label, group, clip) for label in labels
            for group in range(first, first + test_groups)
            for clip in range(1, clips + 1)]
    order = np.random.default_rng((seed, 5)).permutation(len(test))
    digits = max(3, len(str(len(test))))
    return train, [
        Clip(f'test_set/testvideo{number:0{digits}d}.avi', *test[index])
        for number, index in enumerate(order, 1)
    ]


def write_dataset(root, train_groups=12, test_groups=4, clips=2, codec='mpeg4',
                  size=DRAWING_SIZE, seed=0, workers=None, classes=None,
                  progress=True, overwrite=False):
    """Renders a data set in HRI30's layout.

    .. code-block:: none

        root/
        |-- EMBEDDED.json                  what this is and how it was made
        |-- annotations/
        |   |-- train_set_labels.csv       CID01_SID01_VID01,DeliverObject,1
        |   `-- test_set_labels.csv        testvideo001,Walking,27
        |-- train_set/CID01_SID01_VID01.avi ...
        `-- test_set/testvideo001.avi ...

    The same options give the same files, byte for byte, whatever the number of
    workers. A call that was cut short is taken up where it stopped.

    Args:
        root (str | os.PathLike): The folder; made if missing.
        train_groups (int): Groups of training clips, 1 to 999.
        test_groups (int): Groups of test clips, all other than those.
        clips (int): Clips of each class and group, 1 to 99.
        codec (str): One of ``mpeg4``, ``mjpeg`` and ``dv``.
        size (tuple[int, int]): Width and height in pixels.
        seed (int): Another seed is another data set, 0 or more.
        workers (int, optional): Processes. Defaults to one per core.
        classes (sequence[int | str], optional): Ids or names of the classes
            wanted. Defaults to all 30.
        progress (bool): Whether to show a progress bar.
        overwrite (bool): Whether to remove a data set made with other options
            that is in the folder; only what was written by this function goes.

    Returns:
        int: How many clips were rendered now; those that were there are kept.

    Raises:
        ValueError: If an option is out of its range.
        HRI30Error: If the folder holds something else.
    """
    check_codec(codec, size)
    for name, value, low, high in (('train_groups', train_groups, 1, 999),
                                   ('test_groups', test_groups, 0, 999),
                                   ('clips', clips, 1, 99),
                                   ('seed', seed, 0, float('inf'))):
        if not low <= value <= high:
            raise ValueError(
                f'{name} is {value}: expected {low} to {high}'
                if high < float('inf') else
                f'{name} is {value}: expected {low} or more')
    train, test = list_clips(train_groups, test_groups, clips, seed, classes)
    about = {
        'note': _NOTE,
        'generator': 'hri30_ext.synthetic',
        'version': VERSION,
        'options': {
            'train_groups': train_groups,
            'test_groups': test_groups,
            'clips': clips,
            'codec': codec,
            'size': list(size),
            'seed': seed,
            'classes': sorted({clip.label for clip in train}),
        },
        'num_train_clips': len(train),
        'num_test_clips': len(test),
    }
    root = Path(root)
    _claim(root, about, overwrite)
    # By group: what the clips of a group share is then drawn once.
    missing = sorted(
        (clip for clip in train + test if not (root / clip.path).exists()),
        key=lambda clip: (clip.group, clip.label, clip.clip))
    if missing:
        _write_json(root / MARKER, {**about, 'complete': False})
    for folder in _FOLDERS:
        (root / folder).mkdir(exist_ok=True)
    _write_labels(root / 'annotations/train_set_labels.csv', train)
    _write_labels(root / 'annotations/test_set_labels.csv', test)
    _render_all(root, missing, codec, tuple(size), seed, workers, progress)
    _write_json(root / MARKER, {**about, 'complete': True})
    return len(missing)


def _claim(root, about, overwrite):
    """Makes the folder ours, or says why it cannot be."""
    marker = root / MARKER
    if root.exists() and not root.is_dir():
        raise HRI30Error(f'{root} is a file: expected a folder or nothing')
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding='utf-8'))
            different = _differences(found, about)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise HRI30Error(
                f'{marker} is not what this program writes: choose another '
                'folder') from None
        if not different:
            return
        if not overwrite:
            raise HRI30Error(
                f'{marker}: made with other options ({different}): pass '
                '--overwrite to make it anew, or choose another folder')
        _write_json(marker, {**found, 'complete': False})
        for folder in _FOLDERS:
            if (root / folder).is_dir():
                shutil.rmtree(root / folder)
    elif root.exists() and any(root.iterdir()):
        raise HRI30Error(
            f'{root} holds files and no {MARKER}, so it was not made by this '
            'program: choose another folder')
    root.mkdir(parents=True, exist_ok=True)


def _differences(found, expected):
    pairs = [('version', found['version'], expected['version'])]
    pairs += [(name, found['options'].get(name), value)
              for name, value in expected['options'].items()]
    return ', '.join(f'{name}: found {there}, expected {wanted}'
                     for name, there, wanted in pairs if there != wanted)


def _write_json(path, content):
    atomic_write_text(path, json.dumps(content, indent=2) + '\n')


def _write_labels(path, clips):
    write_annotations(path, [
        Annotation(Path(clip.path).stem, HRI30_CLASSES[clip.label - 1], clip.label)
        for clip in clips])


def _render_all(root, clips, codec, size, seed, workers, progress):
    few = FEW if workers is None else 2
    workers = workers or os.cpu_count()
    jobs = [(clip, root / clip.path, codec, size, seed) for clip in clips]
    bar = tqdm(total=len(jobs), unit='clip', desc='rendering',
               mininterval=refresh_seconds(terminal=1),
               disable=not (progress and jobs))
    with bar:
        if workers == 1 or len(jobs) < few:
            for job in jobs:
                _render_one(*job)
                bar.update()
            return
        with process_pool(workers, initializer=_start_worker) as pool:
            pending = [pool.submit(_render_one, *job) for job in jobs]
            try:
                for done in as_completed(pending):
                    done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _start_worker():
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work


def _render_one(clip, path, codec, size, seed):
    frames = render_clip(clip.label, clip.group, clip.clip, seed, size,
                         fields=codec == 'dv')
    write_video(frames, path, codec)
