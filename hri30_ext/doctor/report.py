"""Formats the result of an examination, as a table and as JSON."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from ..utils.fileio import atomic_write_text
from ..utils.text import printable
from .examination import Examination
from .findings import ERROR, INFO, KINDS
from .fix import fixable, too_many

WIDTH = 100  # columns
JSON_VERSION = 1


def format_table(found: Examination, cases: int = 5) -> str:
    """Formats findings for a terminal, at most 100 columns wide.

    Args:
        found (Examination): The result.
        cases (int): How many of each kind to name; 0 names all.
    """
    lines = []
    for (severity, kind), group in groupby(
            found.findings, lambda finding: (finding.severity, finding.kind)):
        group = list(group)
        lines.append(f'{severity:8} {kind.replace("_", " "):38} {len(group):6}')
        shown = group[:cases] if cases else group
        for finding in shown:
            lines += textwrap.wrap(
                printable(f'{finding.path}: {finding.detail}'), WIDTH, initial_indent='  ',
                subsequent_indent='      ', break_on_hyphens=False)
        if len(group) > len(shown):
            lines.append(f'  ... and {len(group) - len(shown)} more')
        if severity != INFO:
            lines += textwrap.wrap(KINDS[kind][1], WIDTH, initial_indent='  -> ',
                                   subsequent_indent='     ')
    return '\n'.join([*lines, *[''][:len(lines)], *_summary(found)])


def _summary(found: Examination) -> Iterator[str]:
    splits = list(found.splits.values())
    frames = sum(clip.facts.frames for clip in found.clips.values())
    yield (f'{splits.count("train"):,} training and {splits.count("test"):,} test clips, '
           f'{frames:,} frames, read in {found.seconds:.1f} s ({_rate(found):.1f} clips/s)')
    yield ', '.join(f'{count} {severity}{"s" if count != 1 and severity != INFO else ""}'
                    for severity, count in found.counts.items())
    if not found.exit_code:
        yield 'The data are clean.'
    elif not found.counts[ERROR]:
        yield 'No warning stops a training; check whether each is intended.'
    elif excess := too_many(found):
        yield f'{excess}: look for a common cause.'
    elif count := len(fixable(found)):
        yield f'--fix lists {count} clips for training to leave out, and moves nothing.'


def _rate(found: Examination) -> float:
    return len(found.clips) / found.seconds if found.seconds else 0.


def to_json(found: Examination) -> dict:
    """Returns the result for :func:`json.dumps`.

    .. code-block:: none

        version             1; raised when this changes
        root                absolute path of the data folder
        exit_code           0 clean, 1 warnings, 3 errors
        counts              findings by severity: error, warning, info
        seconds             for reading the clips
        clips_per_second
        findings            list, the worst first
          kind              a key of hri30_ext.doctor.KINDS
          severity          error, warning or info
          path              relative to root, '.' for all of it
          detail
        clips               by path relative to root
          split             train or test
          seconds           its length, 0 if unknown
          ...               sha256, num_bytes, width, height, fps, codec, frames,
                            interlaced, ...: the fields of hri30_ext.video.inspection.Facts

    Bytes of a name that are not UTF-8 are lone surrogates, as in Python's own names.
    """
    splits = found.splits
    return dict(
        version=JSON_VERSION, root=str(found.root), exit_code=found.exit_code,
        counts=found.counts, seconds=round(found.seconds, 3),
        clips_per_second=round(_rate(found), 2),
        findings=[finding._asdict() for finding in found.findings],
        clips={path: dict(split=splits[path], seconds=round(clip.facts.seconds, 3),
                          **asdict(clip.facts)) for path, clip in found.clips.items()})


def write_json(found: Examination, path: str | Path) -> None:
    """Writes :func:`to_json`, whole or not at all.

    Raises:
        HRI30Error: it cannot be written.
    """
    # As ASCII, so that names that are not UTF-8 can be read back.
    atomic_write_text(path, json.dumps(to_json(found), indent=1) + '\n')
