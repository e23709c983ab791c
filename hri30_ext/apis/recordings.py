"""Long recordings and tables of what happens in them: cutting, and scoring a timeline."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from ..datasets import layouts
from ..datasets.layouts import Row
from ..deploy.runtime.live import Timeline
from ..deploy.runtime.video_io import find_videos
from ..errors import HRI30Error, first_cases
from ..evaluation.segments import Segment, score_segments
from ..names import name_part
from ..utils.fileio import atomic_path, atomic_write_json, atomic_write_text
from ..utils.progress import refresh_seconds
from ..utils.text import format_csv, format_table
from ..video.decode import ClipError, call, check_file, time_limit
from ..video.sandbox import IsolatedProcess

#: Encoding a clip takes longer than decoding it, by this factor at most.
_SLOWER = 20


def cut_table(table: str, root: str | None, out: str, overwrite: bool = False,
              report=print) -> int:
    """Cuts the parts of a table out of recordings, see :mod:`hri30_ext.video.cutting`.

    Args:
        table (str): With path, label, start and end, see :func:`.layouts.read_layout`.
        root (str, optional): The folder of the recordings; by default that of the table.
        out (str): Gets ``<label>/<recording>_<start>-<end>.mp4``, with folders of the
            recording as ``<folder>_``, and ``clips.csv`` with path, label, group (by
            default the recording) and split.
        overwrite (bool): Whether to replace clips and ``clips.csv``.
        report (Callable): Gets lines of text.

    Returns:
        int: Number of clips that cannot be read, which are left out.

    Raises:
        HRI30Error: a wrong table, or files that exist; nothing is written then.
    """
    path, folder = Path(table).expanduser().absolute(), Path(out).expanduser().absolute()
    data = Path(root).expanduser().resolve() if root else path.parent.resolve()
    rows = layouts.read_rows(data, annotation := os.path.relpath(path, data))
    layouts.find_files(data, rows)
    layouts.refuse_repeated(rows)
    _check_parts(rows)
    names, labels, _ = layouts.number_labels(rows, layouts.find_classes(data, annotation))
    clips = _name_clips(data, rows, [names[labels[row.label]] for row in rows], folder)
    listing = folder / 'clips.csv'  # of other recordings, perhaps
    exist = [file for file in (*clips, listing) if file.exists()]
    if exist and not overwrite:
        raise HRI30Error(f'{folder}: {len(exist)} files exist:\n{first_cases(exist)}\n'
                         'Choose another --out, or add --overwrite.')
    listed, failed = [], []
    with IsolatedProcess() as process:
        for clip, row in tqdm(clips.items(), 'cutting', mininterval=refresh_seconds()):
            part = name_part(str(row.file), *row.part)
            try:
                _, (content,) = call(
                    process, part, 'hri30_ext.video.cutting:cut_part', part,
                    seconds=_SLOWER * time_limit())
            except ClipError as error:
                failed.append(f'{row.where}: {error.reason}')
                continue
            with atomic_path(clip) as temporary:
                temporary.write_bytes(content)
            listed.append((clip.relative_to(folder).as_posix(), clip.parent.name,
                           row.group or row.file.relative_to(data).as_posix(), row.split))
    atomic_write_text(listing, format_csv(
        ('path', 'label', 'group', 'split'), listed))
    report(f'{folder}: {len(listed)} clips, without sound')
    if failed:
        report(f'{len(failed)} clips could not be cut:\n{first_cases(failed)}')
    return len(failed)


def read_truth(table: str, source: str, classes: Sequence[str]
               ) -> dict[str, list[Segment]]:
    """Reads what happens in a recording, or in those of a folder, by their names.

    A path in the table is that of a recording whose own path ends with it, with or without
    the ending. Raises an HRI30Error for a wrong table, a recording that it does not
    mention, another class than those of the model, or rows that overlap.
    """
    path, files = Path(table).expanduser().absolute(), Path(source).expanduser().resolve()
    listed, truth = layouts.read_rows(path.parent, path.name), {}
    for file in find_videos(files) if files.is_dir() else [check_file(files)]:
        rows = [row for row in listed if any(
            name.endswith(f'/{os.path.normpath(row.path).lstrip("./")}')
            for name in (str(file), str(file.with_suffix(''))))]
        if not rows:
            raise HRI30Error(f'{path}: does not mention {file.name}.\nExpected rows for '
                             f'each of {source}.')
        for row in rows:
            row.file = file
        _check_parts(rows)
        labels = layouts.number_labels(rows, classes)[1]
        rows.sort(key=lambda row: row.part)
        for one, other in pairwise(rows):
            if other.part[0] < one.part[1]:
                raise HRI30Error(f'{other.where}: {other.label} begins at '
                                 f'{other.part[0]:g} s, before {one.label} ends at '
                                 f'{one.part[1]:g} s ({one.where}).\nExpected one action '
                                 'at a time.')
        truth[file.name] = [Segment(*row.part, classes[labels[row.label]]) for row in rows]
    return truth


def score_timeline(path: str, timeline: Timeline, truth: dict[str, list[Segment]],
                   **about: str) -> str:
    """Scores a timeline, see :func:`read_truth`; returns a table of the scores.

    They are also written beside it, as ``.json``, together with ``about``.
    """
    scores = score_segments([
        ([Segment(row['start'], row['end'], row['label']) for row in timeline.rows
          if row['path'] == name], segments) for name, segments in truth.items()],
        [timeline.lengths.get(name, 0.) for name in truth])
    atomic_write_json(Path(path).with_suffix('.json'), {**about, **scores})
    return format_table([[*scores], [
        '' if value is None else f'{value:.4g}' for value in scores.values()]])


def _check_parts(rows: Sequence[Row]) -> None:
    """Refuses rows without a label or a part, and parts that end after the recording."""
    for row in rows:
        if row.part is None or not row.label:
            raise HRI30Error(f'{row.where}: {row.path} has no '
                             f'{"start and end" if row.label else "label"}.\nExpected '
                             'label, and start and end in seconds, in each row.')
    layouts.refuse_outside((row.where, name_part(str(row.file), *row.part)) for row in rows)


def _name_clips(root: Path, rows: Sequence[Row], labels: Sequence[str], folder: Path
                ) -> dict[Path, Row]:
    """Returns rows by the path of their clip."""
    clips: dict[Path, Row] = {}
    for row, label in zip(rows, labels, strict=True):
        if Path(label).name != label or label[0] == '.' or not label.isprintable():
            raise HRI30Error(f'{row.where}: the label {label!r} cannot name a folder.\n'
                             'Expected letters, digits, spaces, - and _.')
        stem = '_'.join(row.file.relative_to(root).with_suffix('').parts)
        clip = folder / label / f'{stem}_{name_part("", *row.part).strip("[]")}.mp4'
        if clips.setdefault(clip, row) is not row:
            raise HRI30Error(f'{row.where}: its clip has the name of another, {clip.name}.'
                             '\nRename one of the recordings.')
    return clips
