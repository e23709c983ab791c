"""What lies in a data folder, and where it is not looked for."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import HRI30Error
from ..names import VIDEO_SUFFIXES
from ..utils.text import printable
from .findings import ERROR, INFO, WARNING, Finding

#: Where bad clips are moved; nothing in it is data.
SET_ASIDE = 'set_aside'

TRAIN_FOLDERS, TEST_FOLDERS = ('train_set', 'train'), ('test_set', 'test')
_UNREAD_SUFFIXES = ('.wmv', '.webm', '.flv', '.mts', '.m2ts', '.ts', '.3gp', '.ogv', '.vob',
                    '.mxf', '.asf', '.mjpeg', '.mjpg', '.h264', '.part', '.crdownload',
                    '.tmp', '.download', '.aria2')


class ClipFile(NamedTuple):
    """A file that is read as a clip."""
    path: str  # relative to the root, / between folders
    split: str  # train or test
    num_bytes: int

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return PurePosixPath(self.path).stem


@dataclass
class Tree:
    """A data folder."""
    root: Path
    train_folder: str = ''  # '' where training clips lie in the root itself
    test_folder: str | None = None
    clips: list[ClipFile] = field(default_factory=list)
    #: Names that are there but cannot be read, without their endings, as links to nowhere.
    unusable: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def of(self, split: str) -> list[ClipFile]:
        """Returns the clips of a split."""
        return [clip for clip in self.clips if clip.split == split]

    def report(self, kind: str, severity: str, path: str, detail: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(kind, severity, path, detail))


def read_tree(root: str | Path) -> Tree:
    """Lists a data folder as :class:`~hri30_ext.datasets.HRI30Dataset` reads it.

    Raises:
        HRI30Error: it is no folder, or holds no clips at all.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise HRI30Error(f'{printable(str(root))}: no such data folder.\nExpected '
                         'train_set/, test_set/ and annotations/ in it; see '
                         'data/README.md.')
    tree = Tree(root.resolve())
    train = _find_folders(tree, TRAIN_FOLDERS)
    test = _find_folders(tree, TEST_FOLDERS)
    tree.train_folder = train[0] if train else ''
    tree.test_folder = test[0] if test else None
    for split, folders in (('train', train or ['']), ('test', test)):
        for folder in folders:
            _read_folder(tree, folder, split)
    _look_elsewhere(tree, {*train, *test})
    if not tree.clips and not tree.unusable:
        raise HRI30Error(
            f'{printable(str(root))}: no clips.\nExpected CIDxx_SIDxx_VIDxx.avi in '
            'train_set/, train/, train/<class id>/ or the folder itself, or videos of any '
            'name in test_set/ or test/.')
    tree.clips.sort()
    return tree


def _find_folders(tree: Tree, names: tuple[str, ...]) -> list[str]:
    found = [name for name in names if (tree.root / name).is_dir()]
    if len(found) > 1:
        tree.report('mixed_layout', ERROR, found[1], f'there is {found[0]}/ as well')
    return found


def _read_folder(tree: Tree, folder: str, split: str) -> None:
    for path, entry in _walk(tree, folder, recursive=bool(folder)):
        suffix = PurePosixPath(path).suffix.lower()
        hidden = entry.name.startswith('.')
        named_as_clip = suffix in VIDEO_SUFFIXES and not hidden
        try:
            status = entry.stat()
        except OSError as error:
            _report_broken(tree, path, entry, named_as_clip, error)
            continue
        if stat.S_ISDIR(status.st_mode):  # a folder among clips that is not walked into
            if entry.is_symlink() and folder:
                tree.report('linked_folder', WARNING, path, f'leads to {_target(entry)}')
            if named_as_clip:
                tree.report('not_a_file', WARNING, path, 'a folder')
            continue
        if not named_as_clip:
            if folder:  # the root holds other things as well
                _report_other(tree, path, suffix)
            continue
        if not stat.S_ISREG(status.st_mode):
            tree.report('not_a_file', WARNING, path, 'neither a file nor a folder')
        elif not os.access(entry.path, os.R_OK):
            tree.unusable.add(PurePosixPath(path).stem)
            tree.report('unreadable', ERROR, path,
                        f'its permissions are {stat.filemode(status.st_mode)}')
        else:
            tree.clips.append(ClipFile(path, split, status.st_size))
            if not status.st_mode & 0o444:
                tree.report('unreadable', ERROR, path,
                            f'its permissions are {stat.filemode(status.st_mode)}: only '
                            'root can read it')


def _walk(tree: Tree, folder: str, recursive: bool
          ) -> Iterator[tuple[str, os.DirEntry]]:
    """Yields what lies in a folder and, of folders within, what lies in those."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(tree.root / here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            tree.report('unreadable', ERROR, here or '.',
                        f'the folder cannot be listed ({error.strerror})')
            continue
        for entry in found:
            path = f'{here}/{entry.name}' if here else entry.name
            if entry.is_dir(follow_symlinks=False) and recursive:
                waiting.append(path)
                if PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES:
                    tree.report('not_a_file', WARNING, path, 'a folder')
            else:
                yield path, entry


def _report_broken(tree: Tree, path: str, entry: os.DirEntry, named_as_clip: bool,
                   error: OSError) -> None:
    if named_as_clip:
        tree.unusable.add(PurePosixPath(path).stem)
    if entry.is_symlink():
        tree.report('broken_link', ERROR if named_as_clip else WARNING, path,
                    f'leads to {_target(entry)} ({error.strerror})')
    else:
        tree.report('unreadable', ERROR, path, str(error.strerror))


def _target(entry: os.DirEntry) -> str:
    try:
        return os.readlink(entry.path)
    except OSError:
        return 'nowhere'


def _report_other(tree: Tree, path: str, suffix: str) -> None:
    if suffix in _UNREAD_SUFFIXES:
        tree.report('unread_ending', WARNING, path,
                    f'files that end in {suffix} are not read')
    else:
        tree.report('other_file', INFO, path, 'not a video')


def _look_elsewhere(tree: Tree, read: set[str]) -> None:
    """Finds clips beside the folders that are read, no deeper than one folder."""
    has_train = bool(tree.train_folder)
    with os.scandir(tree.root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in read or entry.name == SET_ASIDE:
                continue
            if entry.is_dir():
                count = _count_videos(entry.path)
                if count:
                    tree.report('unread_place', WARNING, entry.name,
                                f'{count} clips in a folder that is not read')
            elif has_train and _is_video(entry.name):
                tree.report('unread_place', WARNING, entry.name,
                            f'a clip beside {tree.train_folder}/, which is read instead')


def _count_videos(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(_is_video(entry.name) for entry in entries)
    except OSError:
        return 0


def _is_video(name: str) -> bool:
    return (PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES
            and not name.startswith('.'))
