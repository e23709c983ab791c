"""Which clips of a data folder the cache decodes."""

from pathlib import Path

from ..datasets.hri30 import find_labelled_videos, find_test_folder
from ..datasets.layouts import find_videos, read_layout
from ..errors import HRI30Error


def find_clips(root: str | Path) -> list[str]:
    """Lists the clips that a table or class folders name, or every video of the training
    and test folders, whatever its name; paths as HRI30Dataset has them.

    Raises:
        HRI30Error: there is no such folder, or it has no videos.
    """
    root = Path(root).expanduser().resolve()
    if root.is_dir() and (layout := read_layout(root)):
        return [clip['filename'] for clip in layout.clips]
    test = find_test_folder(root)  # validates the root
    files = find_labelled_videos(root)
    files += find_videos(test) if test else []
    if not files:
        raise HRI30Error(f'{root}: no videos.\nExpected them in train_set/ and test_set/ '
                         '(see data/README.md).')
    return list(map(str, files))
