"""Decoding the clips of a data folder into the cache."""

from pathlib import Path

from ..config import PROJECT_ROOT
from ..datasets.hri30 import find_labelled_videos, find_test_folder
from ..datasets.layouts import find_videos, read_layout
from ..errors import HRI30Error
from ..video.cache import ClipCache, cache_clips

#: Where configs keep decoded clips.
DEFAULT_FOLDER = PROJECT_ROOT / 'work_dirs' / 'cache'


def cache_folder(cache: ClipCache, root: str | Path, workers: int | None = None
                 ) -> list[str]:
    """Caches every clip of a data folder; see :func:`~hri30_ext.video.cache.cache_clips`.

    Args:
        cache (ClipCache): Where to.
        root (str | Path): The data folder.
        workers (int, optional): Clips at a time; by default one a core.

    Raises:
        HRI30Error: no such folder, no videos, or a full disk.
    """
    # Resolved, as configs name their data.
    return cache_clips(cache, find_clips(Path(root).expanduser().resolve()), workers)


def find_clips(root: str | Path) -> list[str]:
    """Lists the clips that a table or class folders name, or every video of the training
    and test folders, whatever its name.

    Returns:
        list[str]: Paths as :class:`~hri30_ext.datasets.HRI30Dataset` has them where
        ``root`` is absolute.

    Raises:
        HRI30Error: there are none.
    """
    root = Path(root)
    if root.is_dir() and (layout := read_layout(root)):
        return [clip['filename'] for clip in layout.clips]
    test = find_test_folder(root)  # validates the root
    files = find_labelled_videos(root)
    files += find_videos(test) if test else []
    if not files:
        raise HRI30Error(f'{root}: no videos.\nExpected them in train_set/ and test_set/ '
                         '(see data/README.md).')
    return list(map(str, files))
