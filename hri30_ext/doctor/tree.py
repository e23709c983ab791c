"""Lists the clips of a data folder, as training and testing find them."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..datasets.hri30 import (
    TEST_FOLDERS,
    TRAIN_FOLDERS,
    find_labelled_videos,
    subfolder,
)
from ..datasets.layouts import check_root, find_videos
from ..errors import HRI30Error


class ClipFile(NamedTuple):
    """A clip of a data folder."""
    path: str  # relative to the root, / between folders
    split: str  # train or test
    stem: str  # its name without extension; with its folder if several have this name


class Tree(NamedTuple):
    """A data folder."""
    root: Path
    folders: dict[str, str]  # by split, relative to the root; '' is the root itself
    clips: list[ClipFile]

    def of(self, split: str) -> list[ClipFile]:
        """Returns the clips of a split."""
        return [clip for clip in self.clips if clip.split == split]


def read_tree(root: str | Path) -> Tree:
    """Lists a data folder as :class:`~hri30_ext.datasets.HRI30Dataset` reads it.

    Raises:
        HRI30Error: it is not a folder, has two folders of a split, or holds no clips.
    """
    root = check_root(root).resolve()
    folders = {split: subfolder(root, names) for split, names in
               (('train', TRAIN_FOLDERS), ('test', TEST_FOLDERS))}
    clips = [ClipFile(file.relative_to(root).as_posix(), 'train', file.stem)
             for file in find_labelled_videos(root)]
    test_files = find_videos(folders['test']) if folders['test'] else []
    times = Counter(file.stem for file in test_files)
    for file in test_files:
        # As in predictions, test clips of one name have their folder before it.
        stem = file.relative_to(folders['test']).with_suffix('').as_posix()
        clips.append(ClipFile(file.relative_to(root).as_posix(), 'test',
                              file.stem if times[file.stem] == 1 else stem))
    if not clips:
        raise HRI30Error(
            f'{root}: no clips.\nExpected CIDxx_SIDxx_VIDxx.avi in train_set/, train/, '
            'train/<class id>/ or the folder itself, or videos of any name in test_set/ or '
            'test/. For other data, use hri30 new-dataset; see docs/your_data.md.')
    names = {split: folder.name if folder else '' for split, folder in folders.items()}
    return Tree(root, names, sorted(clips))
