"""Lists a data folder, and finds files in places that are not read."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..datasets.hri30 import TEST_FOLDERS, TRAIN_FOLDERS, class_folders
from ..datasets.layouts import check_root
from ..errors import HRI30Error
from ..names import VIDEO_SUFFIXES
from .findings import WARNING, Finding

#: Where version 0.4 moved bad clips; nothing in it is read.
SET_ASIDE = 'set_aside'

_UNREAD_SUFFIXES = ('.wmv', '.flv', '.mts', '.m2ts', '.ts', '.3gp', '.ogv', '.vob',
                    '.mxf', '.asf', '.mjpeg', '.mjpg', '.h264', '.part', '.crdownload',
                    '.tmp', '.download', '.aria2')


class ClipFile(NamedTuple):
    """A file that is read as a clip."""
    path: str  # relative to the root, / between folders
    split: str  # train or test
    stem: str  # its name without extension; with its folder if several have this name


@dataclass
class Tree:
    """A data folder."""
    root: Path
    train_folder: str = ''  # '' if training clips are in the root itself
    test_folder: str | None = None
    clips: list[ClipFile] = field(default_factory=list)
    #: Names without extension of files that exist but cannot be read, as broken links.
    unusable: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def of(self, split: str) -> list[ClipFile]:
        """Returns the clips of a split."""
        return [clip for clip in self.clips if clip.split == split]

    def report(self, *finding: str | None) -> None:
        """Adds a finding; arguments are those of :meth:`Finding.of`."""
        self.findings.append(Finding.of(*finding))


def read_tree(root: str | Path) -> Tree:
    """Lists a data folder as :class:`~hri30_ext.datasets.HRI30Dataset` reads it.

    Raises:
        HRI30Error: it is not a folder, or holds no clips.
    """
    root = check_root(root).resolve()
    train, test = ([name for name in names if (root / name).is_dir()]
                   for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    tree = Tree(root, (*train, '')[0], (*test, None)[0])
    for first, *others in filter(None, (train, test)):
        for other in others:
            tree.report('mixed_layout', other, f'there is {first}/ as well')
    classes = [folder.name for folder in class_folders(root)]
    for folder in (train or ['']) + classes:
        _read_folder(tree, folder, 'train')
    for folder in test:
        _read_folder(tree, folder, 'test')
    _look_elsewhere(tree, {*train, *test, *classes, SET_ASIDE})
    if not tree.clips and not tree.unusable:
        raise HRI30Error(
            f'{root}: no clips.\nExpected CIDxx_SIDxx_VIDxx.avi in train_set/, train/, '
            'train/<class id>/ or the folder itself, or videos of any name in test_set/ or '
            'test/. For other data, use hri30 new-dataset; see docs/your_data.md.')
    # As in predictions, test clips of one name have their folder before it.
    count = Counter(clip.stem for clip in tree.of('test'))
    for position, clip in enumerate(tree.clips):
        if clip.split == 'test' and count[clip.stem] > 1:
            path = PurePosixPath(*PurePosixPath(clip.path).parts[1:])
            tree.clips[position] = clip._replace(stem=str(path.with_suffix('')))
    tree.clips.sort()
    return tree


def _read_folder(tree: Tree, folder: str, split: str) -> None:
    """Lists a folder and those within it; of the root itself only its files."""
    def report(error: OSError) -> None:
        tree.report('unreadable', Path(error.filename).relative_to(tree.root).as_posix(),
                    f'the folder cannot be listed ({error.strerror})')
    for here, folders, files in os.walk(tree.root / folder, onerror=report):
        for name in sorted(files + folders):
            _read_entry(tree, Path(here, name), split, in_root=not folder)
        if not folder:
            break


def _read_entry(tree: Tree, file: Path, split: str, in_root: bool) -> None:
    path, is_clip = file.relative_to(tree.root).as_posix(), _is_video(file.name)
    try:
        status = file.stat()
    except OSError as error:
        if is_clip:
            tree.unusable.add(file.stem)
        if file.is_symlink():
            tree.report('broken_link', path, f'leads to {os.readlink(file)} '
                        f'({error.strerror})', None if is_clip else WARNING)
        else:
            tree.report('unreadable', path, str(error.strerror))
        return
    mode = f'its permissions are {stat.filemode(status.st_mode)}'
    if stat.S_ISDIR(status.st_mode):
        if file.is_symlink() and not in_root:
            tree.report('linked_folder', path, f'leads to {os.readlink(file)}')
        if is_clip:
            tree.report('not_a_file', path, 'a folder')
    elif not is_clip and not in_root:  # the root holds other things as well
        suffix = file.suffix.lower()
        if suffix in _UNREAD_SUFFIXES:
            tree.report('unread_ending', path, f'{suffix} files are not read')
        else:
            tree.report('other_file', path, 'not a video')
    elif is_clip and not stat.S_ISREG(status.st_mode):
        tree.report('not_a_file', path, 'neither a file nor a folder')
    elif is_clip and not os.access(file, os.R_OK):
        tree.unusable.add(file.stem)
        tree.report('unreadable', path, mode)
    elif is_clip:
        tree.clips.append(ClipFile(path, split, file.stem))
        if not status.st_mode & 0o444:
            tree.report('unreadable', path, f'{mode}: only root can read it')


def _look_elsewhere(tree: Tree, read: set[str]) -> None:
    """Finds clips beside the folders that are read, no deeper than one folder."""
    for path in sorted(tree.root.iterdir()):
        if path.name in read:
            continue
        if path.is_dir() and os.access(path, os.R_OK):
            count = sum(map(_is_video, os.listdir(path)))
            if count:
                tree.report('unread_place', path.name,
                            f'{count} clips in a folder that is not read')
        elif tree.train_folder and _is_video(path.name):
            tree.report('unread_place', path.name,
                        f'a clip beside {tree.train_folder}/, which is read instead')


def _is_video(name: str) -> bool:
    return (PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES
            and not name.startswith('.'))
