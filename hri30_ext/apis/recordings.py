"""Long recordings and tables of what happens in them: cutting, and scoring a timeline."""

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from ..datasets.layouts import (
    Row,
    find_classes,
    find_files,
    number_labels,
    read_rows,
    refuse_repeated,
)
from ..deploy.runtime.video_io import find_videos
from ..errors import HRI30Error, first_cases
from ..evaluation.segments import Segment, format_scores, score_segments
from ..names import name_part
from ..utils.fileio import atomic_path, atomic_write_json, atomic_write_text
from ..utils.progress import refresh_seconds
from ..utils.text import format_csv
from ..video.decode import ClipError, call, check_file, time_limit
from ..video.sandbox import IsolatedProcess

_CUTTING = 'hri30_ext.video.cutting'
#: Encoding a clip takes longer than decoding it, by this factor at most.
_SLOWER = 20


def cut_table(table: str, root: str | None, out: str, overwrite: bool = False,
              report=print) -> int:
    """Cuts the parts of a table out of their recordings, without sound.

    A clip has exactly the frames that reading the part gives. Packets are copied where the
    first frame is a keyframe; other clips are encoded, with little loss.

    Args:
        table (str): With path, label, start and end, see :func:`.layouts.read_layout`.
        root (str, optional): The folder of the recordings; by default that of the table.
        out (str): Gets ``<label>/<recording>_<start>-<end>.<ending>``, and ``clips.csv``
            with path, label, group, which is the recording where the table has none, and
            split.
        overwrite (bool): Whether to replace clips.
        report (Callable): Gets lines of text.

    Returns:
        int: Number of clips that cannot be read, which are left out.

    Raises:
        HRI30Error: a wrong table, or clips that exist; nothing is written then.
    """
    path, folder = Path(table).expanduser().absolute(), Path(out).expanduser().absolute()
    data = Path(root).expanduser().resolve() if root else path.parent.resolve()
    annotation = os.path.relpath(path, data)
    rows = read_rows(data, annotation)
    find_files(data, rows)
    refuse_repeated(rows)
    names, labels, _ = number_labels(rows, find_classes(data, annotation))
    listed, copied, failed = [], 0, []
    with IsolatedProcess() as process:
        _check_parts(rows, process)
        clips = _name_clips(data, rows, [names[labels[row.label]] for row in rows], folder,
                            overwrite)
        for clip, row in tqdm(clips.items(), 'cutting', unit='clip',
                              mininterval=refresh_seconds()):
            part = name_part(str(row.file), *row.part)
            try:
                (ending, is_copy), (content,) = call(
                    process, part, f'{_CUTTING}:cut_part', part,
                    seconds=_SLOWER * time_limit())
            except ClipError as error:
                failed.append(f'{row.where}: {error.reason}')
                continue
            clip = clip.with_name(clip.name + ending)
            with atomic_path(clip) as temporary:
                temporary.write_bytes(content)
            copied += is_copy
            listed.append((clip.relative_to(folder).as_posix(), clip.parent.name,
                           row.group or row.file.relative_to(data).as_posix(), row.split))
    atomic_write_text(folder / 'clips.csv', format_csv(
        ('path', 'label', 'group', 'split'), listed))
    report(f'{folder}: {len(listed)} clips, {copied} copied and {len(listed) - copied} '
           're-encoded; without sound')
    if failed:
        report(f'{len(failed)} clips could not be cut:\n{first_cases(failed)}')
    return len(failed)


def read_truth(table: str, source: str, classes: Sequence[str]
               ) -> dict[str, list[Segment]]:
    """Reads what happens in recordings.

    Args:
        table (str): With path, label, start and end. A path is that of a recording if the
            recording's path ends with it, with or without its ending.
        source (str): A recording, or a folder of them.
        classes (Sequence[str]): Those of the model.

    Returns:
        dict[str, list[Segment]]: True segments by the name of the recording, sorted.

    Raises:
        HRI30Error: a wrong table, a recording that it does not mention, an unknown class,
            or rows that overlap.
    """
    path, files = Path(table).expanduser().absolute(), Path(source).expanduser().resolve()
    files = find_videos(files) if files.is_dir() else [check_file(files)]
    listed, truth = read_rows(path.parent, path.name), {}
    with IsolatedProcess() as process:
        for file in files:
            rows = [row for row in listed if _is_path_of(row.path, file)]
            if not rows:
                near = difflib.get_close_matches(file.name, [
                    row.path for row in listed], 1, 0)
                raise HRI30Error(f'{path}: does not mention {file.name}; nearest: '
                                 f'{near[0]}.\nExpected rows for each of {source}.')
            for row in rows:
                row.file = file
            _check_parts(rows, process)
            labels = number_labels(rows, classes)[1]
            rows.sort(key=lambda row: row.part)
            for one, other in pairwise(rows):
                if other.part[0] < one.part[1]:
                    raise HRI30Error(f'{other.where}: {other.label} begins at '
                                     f'{other.part[0]:g} s, before {one.label} ends at '
                                     f'{one.part[1]:g} s ({one.where}).\nExpected one '
                                     'action at a time.')
            truth[file.name] = [Segment(*row.part, classes[labels[row.label]])
                                for row in rows]
    return truth


def score_timeline(path: str, timeline: Sequence[Mapping], truth: dict[str, list[Segment]],
                   **about) -> str:
    """Scores a timeline, and writes the scores beside it, as ``.json``.

    Args:
        path (str): Of the timeline.
        timeline (Sequence[Mapping]): Rows of ``path``, ``label``, ``start`` and ``end``.
        truth (dict[str, list[Segment]]): Of :func:`read_truth`.
        **about: What else the file is to say.

    Returns:
        str: A table.
    """
    scores = score_segments([
        ([Segment(row['start'], row['end'], row['label']) for row in timeline
          if row['path'] == name], segments) for name, segments in truth.items()])
    atomic_write_json(Path(path).with_suffix('.json'), {**about, **scores})
    return format_scores(scores)


def _is_path_of(text: str, file: Path) -> bool:
    parts = [part for part in Path(text).parts if part != '..']
    return bool(parts) and list(file.parts[-len(parts):]) in (
        parts, [*parts[:-1], parts[-1] + file.suffix])


def _check_parts(rows: Sequence[Row], process: IsolatedProcess) -> None:
    """Refuses rows without a label or a part, and parts that end after the recording."""
    ends = {}
    for row in rows:
        if row.part is None or not row.label:
            raise HRI30Error(f'{row.where}: {row.path} has no '
                             f'{"start and end" if row.label else "label"}.\nExpected '
                             'label, and start and end in seconds, in each row.')
        if row.file not in ends:
            file = str(row.file)
            ends[row.file] = call(process, file, f'{_CUTTING}:find_end', file,
                                  seconds=time_limit())[0]
        if row.part[1] > ends[row.file]:
            raise HRI30Error(f'{row.where}: end {row.part[1]:g} s is past the end of '
                             f'{row.file}, {ends[row.file]:.2f} s.\nExpected seconds in '
                             'the recording.')


def _name_clips(root: Path, rows: Sequence[Row], labels: Sequence[str], folder: Path,
                overwrite: bool) -> dict[Path, Row]:
    """Returns rows by the path of their clip, without its ending; refuses those that exist
    and labels that are no folder."""
    stems = Counter(file.stem for file in {row.file for row in rows})
    clips: dict[Path, Row] = {}
    for row, label in zip(rows, labels, strict=True):
        if Path(label).name != label or label[0] == '.' or not label.isprintable():
            raise HRI30Error(f'{row.where}: the label {label!r} cannot name a folder.\n'
                             'Expected letters, digits, spaces, - and _.')
        parts = row.file.relative_to(root).parts
        stem = row.file.stem if stems[row.file.stem] == 1 else '_'.join(parts)
        clip = folder / label / f'{stem}_{name_part("", *row.part).strip("[]")}'
        if (other := clips.setdefault(clip, row)) is not row:
            raise HRI30Error(f'{row.where}: its clip has the name of that of '
                             f'{other.where}, {clip.name}.\nRename one of the recordings.')
    exist = [file for clip, row in clips.items() for ending in ('.mp4', row.file.suffix)
             if (file := clip.with_name(clip.name + ending.lower())).exists()]
    if exist and not overwrite:
        raise HRI30Error(f'{folder}: {len(exist)} clips exist:\n{first_cases(exist)}\n'
                         'Choose another --out, or add --overwrite.')
    return clips
