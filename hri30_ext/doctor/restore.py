"""Moves clips back that version 0.4 moved aside.

.. code-block:: none

    root/set_aside/20300131-120000/
    |-- manifest.json                    what was moved, with sizes and digests
    |-- annotations/train_set_labels.csv as it was before rows were removed
    `-- train_set/CID01_SID01_VID01.avi  where it was, relative to the root

Every file is checked before any is moved, so a restoration that is killed can be repeated.
No other file is overwritten, and links out of the root are not followed, whatever the
manifest says.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES
from ..utils.fileio import sha256_of
from ..utils.reading import read_json
from ..utils.text import printable
from .labels import ANNOTATIONS
from .tree import SET_ASIDE

_MANIFEST = 'manifest.json'


class _Clip(msgspec.Struct):
    path: str
    sha256: str = ''
    link: str | None = None  # the target, if it is a link


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
        manifest = read_json(path, 'a manifest of version 0.4', schema=_Manifest)
        _restore(root, folder, manifest)
        lines.append(f'Moved {len(manifest.files)} clips back from '
                     f'{printable(str(folder))}')
        lines += [f'Put {table.rows} rows back in {table.path}'
                  for table in manifest.annotations]
    return lines


def _restore(root: Path, folder: Path, manifest: _Manifest) -> None:
    # What is moved, what it has to be, and the digest of a file that it may replace.
    moves = [(clip.path, clip.sha256, clip.link, '') for clip in manifest.files]
    moves += [(table.path, table.sha256_before, None, table.sha256_after)
              for table in manifest.annotations]
    problems = [f'{printable(move[0])}: {problem}' for move in moves
                if (problem := _problem(root, folder, *move))]
    if problems:
        raise HRI30Error(
            f'{printable(str(folder / _MANIFEST))}: {len(problems)} files cannot be moved '
            f'back:\n{first_cases(problems, 10)}\nNothing of it was moved. Correct these, '
            'and call --undo again.')
    try:
        for path, sha256, link, _ in moves:
            if not _is_file(root / path, sha256, link):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / path, root / path)
        for table in manifest.annotations:
            (folder / table.path).unlink(missing_ok=True)
        for here, _, _ in sorted(os.walk(folder), reverse=True):
            if not os.listdir(here):
                os.rmdir(here)
        (folder / _MANIFEST).unlink()  # last: until then, all of this can be repeated
        for empty in (folder, folder.parent):
            if not os.listdir(empty):
                os.rmdir(empty)
    except OSError as error:
        raise HRI30Error(
            f'{printable(str(error.filename or folder))}: cannot be moved back '
            f'({error.strerror}).\nCorrect this and call --undo again.') from error


def _problem(root: Path, folder: Path, path: str, sha256: str, link: str | None,
             replaced: str) -> str:
    """Returns why a file cannot be moved back; empty if it can, or is back already."""
    aside, target = folder / path, root / path
    try:
        # A manifest may be forged to lead out of the folder, by its paths or by links.
        if any(not file.is_relative_to(above) or file.parent.resolve() != file.parent
               for above, file in ((root, target), (folder, aside))) or (
                PurePosixPath(path).suffix.lower() not in (*VIDEO_SUFFIXES, '.csv')):
            return 'not a clip in the data folder, or behind a link'
        if _is_file(target, sha256, link):
            return ''
        if os.path.lexists(target) and not (replaced and _is_file(target, replaced)):
            return 'another file is in its place'
        if not os.path.lexists(aside):
            return 'is no longer in the folder'
        return '' if _is_file(aside, sha256, link) else 'has changed since it was moved'
    except (OSError, ValueError) as error:
        return str(error)


def _is_file(file: Path, sha256: str, link: str | None = None) -> bool:
    """Whether a file has a digest, or is a link to a target."""
    if link is not None or file.is_symlink():
        return file.is_symlink() and os.readlink(file) == link
    return file.is_file() and sha256_of(file) == sha256
