"""Moves bad clips aside, with a manifest by which they are moved back.

.. code-block:: none

    root/set_aside/20300131-120000/
    |-- manifest.json                    what was moved, and why; written first
    |-- annotations/train_set_labels.csv as it was before rows were taken out
    `-- train_set/CID01_SID01_VID01.avi  where it was, below the root

The manifest is on the disk before anything moves, and going back looks at each file: a
call that is killed at any moment can be undone. Nothing is ever overwritten, and no link
is followed out of the root, whatever a manifest says.
"""

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import HRI30Error, first_cases
from ..names import VIDEO_SUFFIXES
from ..utils.fileio import atomic_path, atomic_write_text, sha256_of
from ..utils.reading import read_json
from ..utils.text import printable
from .annotations import ANNOTATIONS
from .examination import Examination
from .findings import ERROR, MOVABLE
from .tree import SET_ASIDE

MANIFEST = 'manifest.json'
_VERSION = 1
_MAX_SHARE = .5


class Moved(NamedTuple):
    """What :func:`set_aside` or :func:`undo` did."""
    folder: Path | None  # None where there was nothing to do
    files: list[str]  # relative to the root
    rows: dict[str, int]  # taken out of, or back in, annotation files
    left: Sequence[str] = ()  # stay: not, or no longer, as they were examined


# ---- Aside ------------------------------------------------------------------------------


def set_aside(found: Examination) -> Moved:
    """Moves bad clips aside, and takes their rows out of the annotation files.

    So are the rows of clips that are missing: the rest can be trained on. What is moved is
    said by :data:`.findings.MOVABLE`; other errors stay, and so do files that are others
    than those that were examined.

    Args:
        found (Examination): Of the folder as it is now.

    Raises:
        HRI30Error: more than half of the clips of a split would go or are missing, or a
            file cannot be moved.
    """
    root = found.root
    kinds = {finding.path: finding.kind for finding in reversed(found.findings)
             if finding.severity == ERROR and finding.kind in MOVABLE}
    kinds = {path: kind for path, kind in sorted(kinds.items())
             if _stays_inside(root, path)}
    missing = [finding.path for finding in found.findings if finding.kind == 'missing_clip'
               and not os.path.lexists(root / finding.path)]
    _check_share(found, kinds, missing)
    files, left = [], []
    for path, kind in kinds.items():
        entry = _describe(found, path, kind)
        left.append(path) if entry is None else files.append(entry)
    moved = [entry['path'] for entry in files]
    rewritten = _rewrite_annotations(found, moved, missing)
    if not moved and not rewritten:
        return Moved(None, [], {}, left)
    folder = _new_folder(root)
    try:
        _write_manifest(folder, files, rewritten)
        for name, (before, _, _) in rewritten.items():
            _write(folder / name, before)
        for entry in files:
            _move(root / entry['path'], folder / entry['path'])
        for name, (_, after, _) in rewritten.items():
            _write(root / name, after)
    except OSError as error:
        raise HRI30Error(
            f'{printable(str(error.filename or folder))}: cannot be moved '
            f'({error.strerror}).\nWhat was moved before it lies in {folder}; --undo moves '
            'it back.') from error
    return Moved(folder, moved, {name: rows for name, (_, _, rows) in rewritten.items()},
                 left)


def _check_share(found: Examination, moved: Iterable[str], missing: Sequence[str]) -> None:
    """Refuses where a person should look first: most clips are bad, or not there."""
    for split in ANNOTATIONS:
        bad = sum(_split_of(found, path) == split for path in moved)
        absent = sum(_split_of(found, path) == split for path in missing)
        # Links to nowhere are moved and are no clips.
        count = absent + sum(_split_of(found, path) == split
                             for path in {*found.splits, *moved})
        if bad + absent > max(1, _MAX_SHARE * count):
            raise HRI30Error(
                f'{printable(str(found.root))}: {bad} of {count} {split} clips would be '
                f'moved aside, and {absent} are missing.\nExpected at most half: this '
                'looks like another fault, such as a decoder or a disk that is not there, '
                'or data that are not copied yet. Nothing was moved.')


def _rewrite_annotations(found: Examination, moved: Sequence[str], missing: Sequence[str]
                         ) -> dict[str, tuple[bytes, bytes, int]]:
    """Returns annotation files that change: as they are, without the rows, how many go."""
    # A row is that of a clip that stays as well, if they differ by their ending alone.
    staying = [*found.splits, *(finding.path for finding in found.findings
                                if finding.kind in ('unreadable', 'broken_link'))]
    stay = _names_of(found, set(staying) - set(moved))
    gone = _names_of(found, [*moved, *missing])
    gone = {split: gone[split] - stay[split] for split in ANNOTATIONS}
    rewritten = {}
    for split, name in ANNOTATIONS.items():
        path = found.root / name
        if not gone[split] or not path.is_file() or not _stays_inside(found.root, name) or (
                path.is_symlink()):
            continue
        try:
            before = path.read_bytes()
        except OSError as error:
            raise HRI30Error(f'{printable(str(path))}: cannot be read ({error.strerror}).\n'
                             'Rows have to be taken out of it. Nothing was moved.'
                             ) from error
        after, rows = _without_rows(before, gone[split], split)
        if rows:
            rewritten[name] = before, after, rows
    return rewritten


def _names_of(found: Examination, paths: Iterable[str]) -> dict[str, set[str]]:
    """Returns what rows of clips are known by, by split."""
    names = {split: set() for split in ANNOTATIONS}
    for path in paths:
        split = _split_of(found, path)
        names[split].add(_name(PurePosixPath(path).stem, split))
    return names


def _name(stem: str, split: str) -> str:
    # The names of training clips are read in any case, those of test clips are not.
    return stem.upper() if split == 'train' else stem


def _split_of(found: Examination, path: str) -> str:
    # A clip that is not there has no split of its own, but a folder.
    folder = path.split('/')[0]
    return found.splits.get(path) or ('test' if folder in ('test_set', 'test') else 'train')


def _without_rows(content: bytes, names: set[str], split: str) -> tuple[bytes, int]:
    """Takes rows out of an annotation file, and leaves each other byte as it is."""
    kept, taken = [], 0
    for line in content.splitlines(keepends=True):
        first = _first_field(line.decode('utf-8-sig', errors='replace'))
        name = PurePosixPath(first).stem if '.' in first else first
        if first and _name(name, split) in names:
            taken += 1
        else:
            kept.append(line)
    return b''.join(kept), taken


def _first_field(line: str) -> str:
    try:
        return next(iter(next(csv.reader([line]), [])), '').strip()
    except csv.Error:  # a field of 131,073 characters or more, or a byte 0
        return ''


def _new_folder(root: Path) -> Path:
    above = root / SET_ASIDE
    if above.is_symlink():
        raise HRI30Error(f'{printable(str(above))}: is a link; expected a folder.')
    start = time.strftime('%Y%m%d-%H%M%S')
    try:
        above.mkdir(exist_ok=True)
        for number in range(1, 1000):
            folder = above / (start if number == 1 else f'{start}-{number:03d}')
            if not folder.exists():
                folder.mkdir()
                return folder
    except OSError as error:
        raise HRI30Error(f'{printable(str(above))}: cannot be written '
                         f'({error.strerror}).') from error
    raise HRI30Error(f'{printable(str(above))}: too many folders of one second.')


def _describe(found: Examination, path: str, kind: str) -> dict | None:
    """Returns an entry of the manifest; None where it is not the file that was examined."""
    file, clip = found.root / path, found.clips.get(path)
    entry = dict(path=path, kind=kind)
    try:
        if file.is_symlink():
            entry['link'] = os.readlink(file)
        if clip is None:  # a link that led nowhere
            return entry if 'link' in entry and not os.path.exists(file) else None
        size = file.stat().st_size
        if not file.is_file() or size != clip.facts.num_bytes:
            return None  # nor is a pipe, which would be waited for, read
        digest = sha256_of(file)
    except OSError:
        return None
    if clip.facts.sha256 not in ('', digest):
        return None
    return entry if 'link' in entry else dict(entry, bytes=size, sha256=digest)


def _write_manifest(folder: Path, files: list[dict], rewritten: dict) -> None:
    annotations = [dict(path=name, rows=rows, sha256_before=_sha256(before),
                        sha256_after=_sha256(after))
                   for name, (before, after, rows) in rewritten.items()]
    atomic_write_text(folder / MANIFEST, json.dumps(
        dict(version=_VERSION, created=time.strftime('%Y-%m-%dT%H:%M:%S%z'), files=files,
             annotations=annotations), indent=1) + '\n', durable=True)


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path, durable=True) as temporary:
        temporary.write_bytes(content)


def _move(source: Path, target: Path) -> None:
    """Renames a file or a link; never over another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise FileExistsError(17, 'something stands there already', str(target))
    os.rename(source, target)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _stays_inside(root: Path, path: str) -> bool:
    """Whether no folder on the way from the root to a file is a link."""
    parents = list(PurePosixPath(path).parents)[:-1]
    return not any((root / parent).is_symlink() for parent in parents)


# ---- And back ---------------------------------------------------------------------------


def undo(root: str | Path, manifest: str | Path | None = None) -> Moved:
    """Moves back what :func:`set_aside` moved, byte for byte.

    Everything is looked at first: where one file cannot go back, none is moved. A call
    that was killed is taken up where it stopped.

    Args:
        root (str | Path): The data folder.
        manifest (str | Path, optional): In a folder of ``root/set_aside``; by default the
            newest there.

    Raises:
        HRI30Error: no manifest, one that is not of this folder, a file that has changed,
            or a place that is taken.
    """
    root = Path(root).expanduser().resolve()
    folder = _find_folder(root, manifest)
    files, annotations = _read_manifest(root, folder)
    problems: list[str] = []
    moves = [entry['path'] for entry in files if _can_move(root, folder, entry, problems)]
    restores = {entry['path']: entry['rows'] for entry in annotations
                if _can_restore(root, folder, entry, problems)}
    if problems:
        raise HRI30Error(
            f'{printable(str(folder))}: {len(problems)} files cannot be moved back:\n'
            f'{first_cases(problems, 10)}\nNothing was moved. Put these right, and undo '
            'what was set aside later first.')
    try:
        for path in moves:
            _move(folder / path, root / path)
        for path in restores:
            _write(root / path, (folder / path).read_bytes())
        _remove(folder, [entry['path'] for entry in annotations])
    except OSError as error:
        raise HRI30Error(
            f'{printable(str(error.filename or folder))}: cannot be moved back '
            f'({error.strerror}).\nCall --undo again when that is mended.') from error
    return Moved(folder, moves, restores)


def _find_folder(root: Path, manifest: str | Path | None) -> Path:
    above = root / SET_ASIDE
    if manifest is None:
        found = sorted(above.glob(f'*/{MANIFEST}'))
        if not found:
            raise HRI30Error(f'{printable(str(above))}: nothing was set aside.')
        folder = found[-1].parent
    else:
        given = Path(manifest).expanduser()
        folder = Path(os.path.abspath(given.parent if given.name == MANIFEST else given))
        # The folder as it is spelt may be reached through a link; what counts is where.
        if folder.parent.resolve() != above or not (folder / MANIFEST).is_file():
            raise HRI30Error(f'{printable(str(manifest))}: expected '
                             f'{printable(str(above))}/*/{MANIFEST}.')
        folder = above / folder.name
    if above.is_symlink() or folder.is_symlink() or (folder / MANIFEST).is_symlink():
        raise HRI30Error(f'{printable(str(folder))}: is a link; expected a folder.')
    return folder


def _read_manifest(root: Path, folder: Path) -> tuple[list[dict], list[dict]]:
    path = folder / MANIFEST
    manifest = read_json(path, 'a manifest of clips that were set aside')
    try:
        if manifest['version'] != _VERSION:
            raise ValueError(f'version {manifest["version"]}, expected {_VERSION}')
        files = [_checked_file(root, folder, entry) for entry in manifest['files']]
        annotations = [_checked_annotation(entry) for entry in manifest['annotations']]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError
            ) as error:
        raise HRI30Error(f'{printable(str(path))}: is no manifest of this program '
                         f'({type(error).__name__}: {printable(str(error))[:200]}).\n'
                         'Nothing was moved.') from error
    return files, annotations


def _checked_file(root: Path, folder: Path, entry: dict) -> dict:
    """Makes sure that an entry is of a clip inside the root; a manifest may be forged."""
    path = entry['path']
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if (not parts or '\0' in path or path != '/'.join(parts) or '..' in parts
            or parts[0] == SET_ASIDE
            or PurePosixPath(path).suffix.lower() not in VIDEO_SUFFIXES):
        raise ValueError(f'no path of a clip: {path!r:.100}')
    if not (_stays_inside(root, path) and _stays_inside(folder, path)):
        raise ValueError(f'a folder of it is a link: {path!r:.100}')
    if 'link' in entry:
        return dict(path=path, link=str(entry['link']))
    return dict(path=path, bytes=int(entry['bytes']), sha256=str(entry['sha256']))


def _checked_annotation(entry: dict) -> dict:
    if entry['path'] not in ANNOTATIONS.values():
        raise ValueError(f'no annotation file: {entry["path"]!r:.100}')
    return dict(path=entry['path'], rows=int(entry['rows']),
                before=str(entry['sha256_before']), after=str(entry['sha256_after']))


def _can_move(root: Path, folder: Path, entry: dict, problems: list[str]) -> bool:
    path = entry['path']
    aside, target = folder / path, root / path
    if not os.path.lexists(aside):
        if not _is_same(target, entry):
            problems.append(f'{printable(path)}: is no longer in the folder')
        return False  # it is back already, or was not moved when the call was killed
    if os.path.lexists(target):
        problems.append(f'{printable(path)}: another file stands in its place')
    elif not _is_same(aside, entry):
        problems.append(f'{printable(path)}: has changed since it was set aside')
    else:
        return True
    return False


def _is_same(file: Path, entry: dict) -> bool:
    try:
        if file.is_symlink() or 'link' in entry:
            return os.readlink(file) == entry.get('link')
        return (file.is_file() and file.stat().st_size == entry['bytes']
                and sha256_of(file) == entry['sha256'])
    except OSError:
        return False


def _can_restore(root: Path, folder: Path, entry: dict, problems: list[str]) -> bool:
    path = entry['path']
    current, original = root / path, folder / path
    if not _stays_inside(root, path) or not _stays_inside(folder, path) or (
            current.is_symlink() or original.is_symlink()):
        problems.append(f'{path}: is a link, or in a folder that is one')
        return False
    try:
        digest = sha256_of(current) if current.exists() else entry['after']
        if digest == entry['before']:
            return False
        if digest != entry['after']:
            problems.append(f'{path}: has changed since rows were taken out of it')
            return False
        if sha256_of(original) != entry['before']:
            problems.append(f'{path}: its original has changed')
            return False
    except OSError as error:
        problems.append(f'{path}: {error.strerror}')
        return False
    return True


def _remove(folder: Path, annotations: list[str]) -> None:
    """Removes what is left of a folder, except files that are not of this program."""
    for path in annotations:
        (folder / path).unlink(missing_ok=True)
        # What was being written when a call was killed.
        for left in (folder / path).parent.glob(f'.{PurePosixPath(path).stem}-*.csv'):
            left.unlink()
    for here, _, _ in sorted(os.walk(folder), reverse=True):
        if here != str(folder) and not os.listdir(here):
            os.rmdir(here)
    (folder / MANIFEST).unlink()
    for empty in (folder, folder.parent):
        if not os.listdir(empty):
            os.rmdir(empty)
