"""Moves clips back that version 0.4 moved aside.

.. code-block:: none

    root/set_aside/20300131-120000/
    |-- manifest.json                    what was moved, with sizes and digests
    |-- annotations/train_set_labels.csv as it was before rows were removed
    `-- train_set/CID01_SID01_VID01.avi  where it was, relative to the root

Every file is checked before any is moved, so a restoration that is killed can be repeated.
Nothing is overwritten, and links out of the root are not followed, whatever the manifest
says.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES
from ..utils.fileio import atomic_path, sha256_of
from ..utils.reading import read_json
from ..utils.text import printable
from .labels import ANNOTATIONS
from .tree import SET_ASIDE

_MANIFEST = 'manifest.json'


class _Clip(msgspec.Struct):
    path: str
    bytes: int = -1
    sha256: str = ''
    link: str | None = None  # the target, if it is a link

    def is_at(self, file: Path) -> bool:
        """Whether a file is the one that was moved aside."""
        try:
            if self.link is not None or file.is_symlink():
                return os.readlink(file) == self.link
            return (file.is_file() and file.stat().st_size == self.bytes
                    and sha256_of(file) == self.sha256)
        except OSError:
            return False


class _Table(msgspec.Struct):
    path: Literal[tuple(ANNOTATIONS.values())]
    rows: int
    sha256_before: str
    sha256_after: str


class _Manifest(msgspec.Struct):
    version: Literal[1]
    files: list[_Clip]
    annotations: list[_Table]


def restore_all(root: Path) -> list[str]:
    """Moves back everything in ``root/set_aside``, what was moved last first.

    Args:
        root (Path): The data folder, resolved.

    Returns:
        list[str]: What was done, one line each.

    Raises:
        HRI30Error: a manifest that is invalid, a file that has changed, or a place that is
            taken; then no file of that manifest is moved.
    """
    above, lines = root / SET_ASIDE, []
    for path in sorted(above.glob(f'*/{_MANIFEST}'), reverse=True):
        folder = path.parent
        if above.is_symlink() or folder.is_symlink() or path.is_symlink():
            raise HRI30Error(f'{printable(str(folder))}: is a link; expected a folder.')
        lines += _restore(root, folder)
    return lines


def _restore(root: Path, folder: Path) -> list[str]:
    manifest = read_json(folder / _MANIFEST, 'a manifest of version 0.4', schema=_Manifest)
    problems = [f'{printable(entry.path)}: {problem}' for check, entries in (
        (_check_clip, manifest.files), (_check_table, manifest.annotations))
        for entry in entries if (problem := check(root, folder, entry))]
    if problems:
        raise HRI30Error(
            f'{printable(str(folder / _MANIFEST))}: {len(problems)} files cannot be moved '
            f'back:\n{first_cases(problems, 10)}\nNothing of it was moved. Correct these, '
            'and call --undo again.')
    lines = [f'Moved {len(manifest.files)} clips back from {printable(str(folder))}']
    try:
        for clip in manifest.files:
            if os.path.lexists(folder / clip.path):
                (root / clip.path).parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder / clip.path, root / clip.path)
        for table in manifest.annotations:
            if (folder / table.path).exists():
                with atomic_path(root / table.path, durable=True) as temporary:
                    temporary.write_bytes((folder / table.path).read_bytes())
            lines.append(f'Put {table.rows} rows back in {table.path}')
        _remove(folder, manifest)
    except OSError as error:
        raise HRI30Error(
            f'{printable(str(error.filename or folder))}: cannot be moved back '
            f'({error.strerror}).\nCorrect this and call --undo again.') from error
    return lines


def _check_clip(root: Path, folder: Path, clip: _Clip) -> str:
    """Returns why a clip cannot be moved back; empty if it can, or is back already."""
    parts = PurePosixPath(clip.path).parts
    if (not parts or '\0' in clip.path or clip.path != '/'.join(parts) or '..' in parts
            or parts[0] == SET_ASIDE
            or PurePosixPath(clip.path).suffix.lower() not in VIDEO_SUFFIXES):
        return 'not the path of a clip'
    aside, target = folder / clip.path, root / clip.path
    try:
        if _is_behind_link(root, clip.path) or _is_behind_link(folder, clip.path):
            return 'a folder of it is a link'
        if not os.path.lexists(aside):
            return '' if clip.is_at(target) else 'is no longer in the folder'
        if os.path.lexists(target):
            return 'another file is in its place'
    except OSError as error:
        return str(error.strerror)
    return '' if clip.is_at(aside) else 'has changed since it was moved'


def _check_table(root: Path, folder: Path, table: _Table) -> str:
    """Returns why an annotation file cannot be restored; empty if it can."""
    current, original = root / table.path, folder / table.path
    if any(file.is_symlink() or _is_behind_link(above, table.path)
           for above, file in ((root, current), (folder, original))):
        return 'is a link, or in a folder that is one'
    try:
        now = sha256_of(current) if current.exists() else table.sha256_after
        if now == table.sha256_before:  # it is restored already
            return ''
        if now != table.sha256_after:
            return 'has changed since rows were removed from it'
        if sha256_of(original) != table.sha256_before:
            return 'its original has changed'
    except OSError as error:
        return str(error.strerror)
    return ''


def _is_behind_link(root: Path, path: str) -> bool:
    return any((root / parent).is_symlink()
               for parent in list(PurePosixPath(path).parents)[:-1])


def _remove(folder: Path, manifest: _Manifest) -> None:
    """Removes what is left of a folder, except files that the manifest does not name."""
    for table in manifest.annotations:
        (folder / table.path).unlink(missing_ok=True)
    for here, _, _ in sorted(os.walk(folder), reverse=True):
        if not os.listdir(here):
            os.rmdir(here)
    (folder / _MANIFEST).unlink()  # last: a restoration that is killed can be repeated
    for empty in (folder, folder.parent):
        if not os.listdir(empty):
            os.rmdir(empty)
