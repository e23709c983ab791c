"""The synthetic data set on disk, in the layouts of HRI30."""

import contextlib
import functools
import itertools
import multiprocessing
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import HRI30Error
from ..names import HRI30_CLASSES, ClipName, released_name
from ..utils.fileio import atomic_write_json, atomic_write_text
from ..utils.parallel import available_cores
from ..utils.progress import refresh_seconds
from ..utils.reading import read_json
from .groups import DRAWING_SIZE
from .render import class_id, render_clip
from .video import check_codec, write_video

#: Raised whenever the same seed and options give other frames than before.
VERSION = 1
MARKER = 'EMBEDDED.json'
_EXPECTED = 'the options of synthetic data; choose another folder'
#: Training folder, test folder and name of test clips of the layouts but ``ucf``.
LAYOUTS = {'released': ('train_set', 'test_set', 'testvideo'),
           'scripts': ('train', 'test', 'video_')}
_FOLDERS = ('train_set', 'test_set', 'train', 'test', 'videos', 'annotations')
_NOTE = ('Rendered, not recorded: a drawn worker in the classes and the layout '
         'of HRI30. Scores on it say nothing about HRI30.')
#: Test groups are numbered after these, so that more training data keeps the test set.
MAX_TRAIN_GROUPS = 999


class Clip(NamedTuple):
    """One file to write; ``path`` is relative to the data folder."""

    path: str
    label: int
    group: int
    clip: int


def list_clips(train_groups, test_groups, clips, seed=0, classes=None,
               layout='released'):
    """Lists the clips of a data set.

    Returns:
        tuple[list[Clip], list[Clip]]: Training clips by name, and test clips, whose numbers
        depend neither on class nor on group. In the layout ``ucf`` test groups come first,
        as in the paper's splits, and everything is in the first list.

    Raises:
        ValueError: a number is out of its range.
    """
    for name, value, low, high in (('train_groups', train_groups, 1, 999),
                                   ('test_groups', test_groups, 0, 999),
                                   ('clips', clips, 1, 99), ('seed', seed, 0, np.inf)):
        if not low <= value <= high:
            raise ValueError(f'{name} is {value}: expected {low} to {high}')
    labels = sorted({class_id(label) for label in classes or HRI30_CLASSES})
    train, test = (list(itertools.product(labels, range(first, first + groups),
                                          range(1, clips + 1)))
                   for first, groups in ((1, train_groups),
                                         (MAX_TRAIN_GROUPS + 1, test_groups)))
    if layout == 'ucf':
        number = {group: i for i, group in enumerate(
            dict.fromkeys(group for _, group, _ in test + train), 1)}
        return [Clip(f'videos/{released_name(HRI30_CLASSES[label - 1])}/'
                     + ClipName(label, number[group], clip, ucf=True).format(HRI30_CLASSES)
                     + '.avi', label, group, clip) for label, group, clip in test + train
                ], []
    train_folder, test_folder, prefix = LAYOUTS[layout]
    digits = max(2, len(str(train_groups)))
    train = [Clip(f'{train_folder}/CID{label:02d}_SID{group:0{digits}d}_VID{clip:02d}.avi',
                  label, group, clip) for label, group, clip in train]
    order = np.random.default_rng((seed, 5)).permutation(len(test))
    digits = max(3, len(str(len(test))))
    return train, [Clip(f'{test_folder}/{prefix}{number:0{digits}d}.avi', *test[index])
                   for number, index in enumerate(order, 1)]


def write_dataset(root, train_groups=12, test_groups=4, clips=2, codec='mpeg4',
                  size=DRAWING_SIZE, seed=0, workers=None, classes=None,
                  progress=True, overwrite=False, layout='released'):
    """Renders a data set in HRI30's layout, or in another that is read.

    ``EMBEDDED.json`` in it says what this is and how it was made. The layout ``scripts``
    has ``train/`` and ``test/video_001.avi``; ``ucf`` has
    ``videos/<Class>/v_<Class>_g01_c01.avi``, the test groups first, and no annotations.

    The same options give the same files, byte for byte, for any number of workers. An
    interrupted call resumes with the missing clips.

    Args:
        root (str | os.PathLike): The folder; created if missing.
        train_groups, test_groups (int): Groups of training clips, 1 to 999, and others of
            test clips, 0 to 999.
        clips (int): Clips of each class and group, 1 to 99.
        codec (str): ``mpeg4``, ``mjpeg`` or ``dv``.
        size (tuple[int, int]): Width and height in pixels.
        seed (int): 0 or more; another seed gives another data set.
        workers (int, optional): Processes; None: one per core.
        classes (sequence[int | str], optional): Ids or names; None: all 30.
        progress (bool): Whether to show a progress bar.
        overwrite (bool): Whether to replace a data set made with other options; other
            files stay.
        layout (str): ``released``, ``scripts`` or ``ucf``.

    Returns:
        int: Number of clips rendered now; existing ones are kept.

    Raises:
        ValueError: an option is out of its range.
        HRI30Error: the folder holds something else.
    """
    check_codec(codec, size)
    train, test = list_clips(train_groups, test_groups, clips, seed, classes, layout)
    options = dict(train_groups=train_groups, test_groups=test_groups, clips=clips,
                   codec=codec, size=list(size), seed=seed, layout=layout,
                   classes=sorted({clip.label for clip in train}))
    about = dict(note=_NOTE, generator='hri30_ext.synthetic', version=VERSION,
                 options=options, num_train_clips=len(train), num_test_clips=len(test))
    root = Path(root)
    _claim(root, about, overwrite)
    # By group, whose background is then drawn once.
    missing = sorted((clip for clip in train + test if not (root / clip.path).exists()),
                     key=lambda clip: (clip.group, clip.label, clip.clip))
    for name, listed in (('train', train), ('test', test)) if layout != 'ucf' else ():
        rows = [f'{Path(clip.path).stem},{released_name(HRI30_CLASSES[clip.label - 1])},'
                f'{clip.label}\n' for clip in listed]
        atomic_write_text(root / 'annotations' / f'{name}_set_labels.csv', ''.join(rows))
    _render_all(functools.partial(_render, root, codec, tuple(size), seed), missing,
                workers, progress)
    return len(missing)


def read_test_groups(root):
    """Returns the groups of a synthetic data set's test clips by file name.

    They are not in the names; the options of the data set tell them. Other data have none.
    """
    try:
        options = read_json(Path(root) / MARKER, _EXPECTED)['options']
        _, clips = list_clips(*(options[name] for name in (
            'train_groups', 'test_groups', 'clips', 'seed', 'classes', 'layout')))
    except (HRI30Error, KeyError, TypeError, ValueError):
        return {}
    return {Path(clip.path).name: clip.group for clip in clips}


def _claim(root, about, overwrite):
    """Marks the folder as one of this data set, or raises an error if it holds something
    else."""
    marker = root / MARKER
    if marker.exists():
        found = read_json(marker, _EXPECTED)
        if found != about and not overwrite:
            raise HRI30Error(f'{marker}: made with other options ({found.get("options")}), '
                             f'expected {about["options"]}: pass --overwrite to replace '
                             'it, or choose another folder')
        for folder in _FOLDERS if found != about else ():
            shutil.rmtree(root / folder, ignore_errors=True)
    elif root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise HRI30Error(f'{root} holds files and no {MARKER}, so this program did not '
                         'make it: choose another folder')
    atomic_write_json(marker, about)


def _render_all(render, clips, workers, progress):
    few = 2 if workers else 16  # these are done sooner without starting processes
    workers = workers or available_cores()
    with contextlib.ExitStack() as stack:
        run = map
        if workers > 1 and len(clips) >= few:
            # Forked from a server: a fork of this process would copy locks that threads of
            # torch may hold. The map cancels what has not begun, if it is interrupted.
            context = multiprocessing.get_context('forkserver')
            context.set_forkserver_preload(['hri30_ext.synthetic'])
            run = stack.enter_context(
                ProcessPoolExecutor(workers, context, _start_worker)).map
        for _ in tqdm(run(render, clips), 'rendering', len(clips), unit='clip',
                      mininterval=refresh_seconds(), disable=not (progress and clips)):
            pass


def _start_worker():
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work


def _render(root, codec, size, seed, clip):
    frames = render_clip(clip.label, clip.group, clip.clip, seed, size,
                         fields=codec == 'dv')
    write_video(frames, root / clip.path, codec)
