"""What was found, as a table and as JSON."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path, PurePosixPath

from ..utils.fileio import atomic_write_text
from ..utils.text import printable
from .aside import Moved
from .examination import Examination
from .findings import ERROR, INFO, KINDS, MOVABLE
from .tree import TEST_FOLDERS

WIDTH = 100  # columns
JSON_VERSION = 1
_PATH_WIDTH = 42


def format_table(found: Examination, cases: int = 5) -> str:
    """Formats findings for a terminal, at most 100 columns wide.

    Args:
        found (Examination): What was found.
        cases (int): How many of each kind to name; 0 names all.
    """
    lines = []
    for (severity, kind), group in groupby(
            found.findings, lambda finding: (finding.severity, finding.kind)):
        group = list(group)
        title = kind.replace('_', ' ')
        lines.append(f'{severity:8} {title:38} {len(group):6}')
        shown = group[:cases] if cases else group
        for finding in shown:
            lines += _case(finding.path, finding.detail)
        if len(group) > len(shown):
            lines.append(f'  ... and {len(group) - len(shown)} more')
        if severity != INFO:
            lines += textwrap.wrap(KINDS[kind], WIDTH, initial_indent='  -> ',
                                   subsequent_indent='     ')
    return '\n'.join([*lines, *_closing(found)])


def _case(path: str, detail: str) -> list[str]:
    """Lays out a case in two columns; a long path has a line of its own."""
    path, detail = printable(path), printable(detail)
    if len(path) > WIDTH - 2:
        half = WIDTH // 2 - 4  # the JSON has all of it
        path = f'{path[:half]}...{path[-half:]}'
    indent = ' ' * (_PATH_WIDTH + 3)
    lines = textwrap.wrap(detail, WIDTH, initial_indent=indent, subsequent_indent=indent)
    if not lines or len(path) > _PATH_WIDTH:
        return [f'  {path}', *lines]
    return [f'  {path:{_PATH_WIDTH}} {lines[0][len(indent):]}', *lines[1:]]


def _closing(found: Examination) -> Iterator[str]:
    if found.findings:
        yield ''
    counts, splits = found.counts, list(found.splits.values())
    frames = sum(clip.facts.frames for clip in found.clips.values())
    text = (f'{splits.count("train"):,} training and {splits.count("test"):,} test clips, '
            f'{frames:,} frames')
    if found.num_read:
        text += f', read in {found.seconds:.1f} s ({_rate(found):.1f} clips/s)'
    yield text
    yield ', '.join(f'{count} {severity}{"s" if count != 1 and severity != INFO else ""}'
                    for severity, count in counts.items())
    yield from _what_next(found)


def _what_next(found: Examination) -> Iterator[str]:
    if not found.exit_code:
        yield 'The data are clean.'
        return
    errors = [finding.kind for finding in found.findings if finding.severity == ERROR]
    movable = sum(kind in MOVABLE or kind == 'missing_clip' for kind in errors)
    if movable:
        yield (f'--fix moves aside what {_errors(movable)} {_is(movable)} about, and '
               '--undo moves it back.')
    if len(errors) > movable:
        left = len(errors) - movable
        yield f'{_errors(left)} {_is(left)} for a person to look at and decide.'
    if not errors:
        yield 'Nothing here stops a training; look at what may be meant.'


def _errors(count: int) -> str:
    return f'{count} error{"s" if count != 1 else ""}'


def _is(count: int) -> str:
    return 'is' if count == 1 else 'are'


def _rate(found: Examination) -> float:
    return found.num_read / found.seconds if found.seconds else 0.


def format_moved(moved: Moved, back: bool = False) -> str:
    """Says what was moved aside, or back.

    Args:
        moved (Moved): What was done.
        back (bool): Whether it was moved back.
    """
    left = [f'Left {len(moved.left)} clips where they are: they cannot be read, or have '
            'changed since they', 'were examined. Call this again:',
            *(f'  {printable(path)}' for path in moved.left)] if moved.left else []
    if moved.folder is None:
        return '\n'.join(left or ['Nothing to move aside.'])
    lines = ['', f'Moved {len(moved.files)} clips ' + (
        f'back from {printable(str(moved.folder))}' if back
        else f'to {printable(str(moved.folder))}') + (':' if moved.files else '')]
    lines += [f'  {printable(path)}' for path in moved.files]
    lines += [f'{"Put" if back else "Took"} {rows} rows {"back in" if back else "out of"} '
              f'{name}' for name, rows in moved.rows.items()]
    if not back:
        lines.append('--undo moves all of it back.')
        if any(PurePosixPath(path).parts[0] in TEST_FOLDERS for path in moved.files):
            lines.append('Test clips among them have no row in a submission now; left in '
                         'place, each has one and is marked as failed.')
    return '\n'.join(lines + left)


def to_json(found: Examination) -> dict:
    """Returns everything that was found, for :func:`json.dumps`.

    .. code-block:: none

        version             1; raised when this changes
        root                absolute path of the data folder
        exit_code           0 clean, 1 warnings, 3 errors
        counts              findings by severity: error, warning, info
        seconds             that reading the clips took
        clips_per_second
        findings            list, the worst first
          kind              a key of hri30_ext.doctor.KINDS
          severity          error, warning or info
          path              relative to root, '.' for all of it
          detail            what was found
        clips               by path relative to root
          split             train or test
          seconds           its length, 0 where unknown
          ...               sha256, num_bytes, width, height, fps, codec, frames,
                            interlaced, ...: the fields of hri30_ext.video.inspection.Facts

    A byte of a name that is not UTF-8 is a lone surrogate, as in Python's own names.
    """
    return dict(
        version=JSON_VERSION, root=str(found.root), exit_code=found.exit_code,
        counts=found.counts, seconds=round(found.seconds, 3),
        clips_per_second=round(_rate(found), 2),
        findings=[finding._asdict() for finding in found.findings],
        clips={path: dict(split=found.splits[path], seconds=round(clip.facts.seconds, 3),
                          **asdict(clip.facts)) for path, clip in found.clips.items()})


def write_json(found: Examination, path: str | Path) -> None:
    """Writes :func:`to_json`, whole or not at all.

    Raises:
        HRI30Error: it cannot be written.
    """
    # As ASCII: every name, also one that is not UTF-8, comes back as it was.
    atomic_write_text(path, json.dumps(to_json(found), indent=1) + '\n')
