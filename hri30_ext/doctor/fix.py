"""Lists bad clips for training to leave out, and undoes that.

Nothing is moved, deleted or edited: :mod:`hri30_ext.datasets.leave_out` describes the list.
Version 0.4 moved clips into folders such as ``set_aside/20300131-120000/``, under their
paths, with the annotation as it was before and a ``manifest.json`` of digests. These are
moved back: every file is checked before any is moved, so that a restoration that is killed
can be repeated. No other file is overwritten, and links out of the root are not followed,
whatever the manifest says.
"""

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from ..datasets.leave_out import LEAVE_OUT, read_leave_out, write_leave_out
from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES
from ..utils.fileio import sha256_of
from ..utils.reading import read_json
from ..utils.text import printable
from .examination import Examination
from .findings import ERROR, KINDS
from .labels import ANNOTATIONS
from .tree import SET_ASIDE


def leave_out(found: Examination) -> str:
    """Writes the list of clips that training leaves out; returns a text for the terminal.

    It has the clips with an error of a kind in :data:`.findings.FIXABLE`, and those of the
    earlier list that were not written by this function. Of the test clips, only those that
    are annotated but missing are listed.

    Raises:
        HRI30Error: more than half of the clips of a split are bad or missing, or the list
            cannot be written.
    """
    if found.too_many:
        raise HRI30Error(
            f'{found.tree.root}: {found.too_many}.\nExpected at most half: this looks like '
            'another fault, such as a decoder or a disk that is not available, or data '
            'that are not copied yet. Nothing was changed.')
    root, splits = found.tree.root, found.splits
    clips = found.fixable | {path: reason for path, reason in read_leave_out(root).items()
                             if reason.split(':')[0] not in KINDS}
    if clips or (root / LEAVE_OUT).exists():
        write_leave_out(root, clips)
    lines = [f'{root / LEAVE_OUT}: training leaves out {len(clips)} clips; --undo deletes '
             'the list.' if clips else 'There is no clip to leave out.',
             *(f'  {clip}' for clip in sorted(clips))]
    if bad := {finding.path for finding in found.all_findings
               if finding.severity == ERROR and splits.get(finding.path) == 'test'}:
        lines += [f'{len(bad)} bad test clips are not in it: each keeps its row in a '
                  'submission,', 'marked as failed if it cannot be read.']
    return '\n'.join(map(printable, lines))


def undo(root: str | Path) -> str:
    """Deletes the list, and moves back what version 0.4 moved into ``set_aside/``, last
    first; returns a text for the terminal.

    Raises:
        HRI30Error: there is nothing to undo; or a manifest is invalid, a file has changed,
            or a place is taken: then no file of that manifest is moved.
    """
    root, done = Path(root).expanduser().resolve(), []
    for path in sorted(root.glob(f'{SET_ASIDE}/*/{_MANIFEST}'), reverse=True):
        folder = path.parent
        if any(part.is_symlink() for part in (root / SET_ASIDE, folder, path)):
            raise HRI30Error(f'{folder}: is a link; expected a folder.')
        manifest = read_json(path, 'a manifest of version 0.4', schema=_Manifest)
        _restore(root, folder, manifest)
        done.append(f'Moved {len(manifest.files)} clips back from {folder}')
        done += [f'Put {table.rows} rows back in {table.path}'
                 for table in manifest.annotations]
    path = root / LEAVE_OUT
    try:
        if path.exists():
            path.unlink()
            done.append(f'Deleted {path}')
    except OSError as error:
        raise HRI30Error(f'{path}: cannot be deleted ({error.strerror}).') from error
    if not done:
        raise HRI30Error(f'{root}: nothing to undo.\nExpected {LEAVE_OUT}, which --fix '
                         'writes, or a folder set_aside/.')
    return '\n'.join(map(printable, done))


# ---- Folders of version 0.4 -------------------------------------------------------------

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


def _restore(root: Path, folder: Path, manifest: _Manifest) -> None:
    tables = {table.path: table for table in manifest.annotations}
    moves = [*manifest.files, *(_Clip(path, table.sha256_before)
                                for path, table in tables.items())]
    problems = [f'{move.path}: {problem}' for move in moves if (
        problem := _problem(root, folder, move, tables.get(move.path)))]
    if problems:
        raise HRI30Error(
            f'{folder / _MANIFEST}: {len(problems)} files cannot be moved '
            f'back:\n{first_cases(problems, 10)}\nNothing of it was moved. Correct these, '
            'and call --undo again.')
    try:
        for move in moves:
            if not _is_file(root / move.path, move.sha256, move.link):
                os.renames(folder / move.path, root / move.path)
        (folder / _MANIFEST).unlink()  # last: until then, all of this can be repeated
    except OSError as error:
        raise HRI30Error(
            f'{printable(str(error.filename or folder))}: cannot be moved back '
            f'({error.strerror}).\nCorrect this and call --undo again.') from error
    with contextlib.suppress(OSError):  # other files are in it
        folder.rmdir()
        folder.parent.rmdir()


def _problem(root: Path, folder: Path, move: _Clip, table: _Table | None) -> str:
    """Returns why a file cannot be moved back; empty if it can, or is back already."""
    aside, target = folder / move.path, root / move.path
    try:
        # A manifest may be forged to lead out of the folder, by its paths or by links.
        if any(not file.is_relative_to(above) or file.parent.resolve() != file.parent
               for above, file in ((root, target), (folder, aside))) or (
                PurePosixPath(move.path).suffix.lower() not in (*VIDEO_SUFFIXES, '.csv')):
            return 'not a clip in the data folder, or behind a link'
        if _is_file(target, move.sha256, move.link):
            return ''
        if os.path.lexists(target) and not (
                table and _is_file(target, table.sha256_after)):
            return 'another file is in its place'
        if not os.path.lexists(aside):
            return 'is no longer in the folder'
        return ('' if _is_file(aside, move.sha256, move.link)
                else 'has changed since it was moved')
    except (OSError, ValueError) as error:
        return str(error)


def _is_file(file: Path, sha256: str, link: str | None = None) -> bool:
    """Whether a file has a digest, or is a link to a target."""
    if link is not None or file.is_symlink():
        return file.is_symlink() and os.readlink(file) == link
    return file.is_file() and sha256_of(file) == sha256
