"""Examines a whole data folder, and formats the result as a table and as JSON."""

import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from ..datasets.hri30 import load_labelled_clips, load_test_clips
from ..datasets.layouts import NAMES
from ..datasets.leave_out import read_leave_out
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, ClipName, canonical_name
from ..utils.text import printable
from .clips import check_clips
from .findings import ERROR, FIXABLE, INFO, KINDS, SEVERITIES, WARNING, Finding
from .labels import check_labels
from .reading import DECODE, SECONDS, Inspected, inspect_clips
from .tree import Tree, read_tree

WIDTH = 100  # columns of a table


@dataclass(frozen=True)
class Examination:
    """The result of examining a data folder."""
    findings: list[Finding]  # the worst first
    all_findings: list[Finding]  # as if ``leave_out.csv`` listed nothing
    tree: Tree
    names: dict[str, ClipName]  # of training clips, by path
    clips: dict[str, Inspected]  # by path, sorted
    classes: list[str]
    seconds: float  # for reading the clips

    @property
    def splits(self) -> dict[str, str]:
        """The split of every clip, by path."""
        return {clip.path: clip.split for clip in self.tree.clips}

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each severity."""
        severities = [finding.severity for finding in self.findings]
        return {severity: severities.count(severity) for severity in SEVERITIES}

    @property
    def exit_code(self) -> int:
        """0 if the data are clean, 1 if there are warnings, 3 if there are errors."""
        return 3 if self.counts[ERROR] else 1 if self.counts[WARNING] else 0

    @property
    def fixable(self) -> dict[str, str]:
        """The clips that ``--fix`` lists, and why."""
        splits = self.splits
        return {finding.path: f'{finding.kind}: {finding.detail}'
                for finding in sorted(self.all_findings, key=Finding.order, reverse=True)
                if finding.severity == ERROR and finding.kind in FIXABLE
                and splits.get(finding.path) != 'test'}

    @property
    def too_many(self) -> str:
        """Describes a split from which ``--fix`` takes most clips; empty if none."""
        # Clips that are missing are in no split.
        test = self.tree.folders['test']
        splits = {path: 'test' if test and path.startswith(f'{test}/') else 'train'
                  for path in self.fixable} | self.splits
        clips = Counter(splits.values())
        for split, bad in Counter(splits[path] for path in self.fixable).items():
            if bad > clips[split] / 2:
                return f'{bad} of {clips[split]} {split} clips are bad or missing'
        return ''


def examine(root: str | Path, classes: Sequence[str] = HRI30_CLASSES,
            workers: int | None = None, seconds: float = SECONDS, near: bool = True,
            decode: str = DECODE, progress: bool = True) -> Examination:
    """Examines a data folder: names, labels, and every clip from end to end.

    Args:
        root (str | Path): As :class:`~hri30_ext.datasets.HRI30Dataset` reads it.
        classes (Sequence[str]): Class names, in the order of the ids.
        workers, seconds, decode, progress: See :func:`.reading.inspect_clips`.
        near (bool): Whether to look for changed copies.

    Raises:
        HRI30Error: no such folder, no clips in it, a ``leave_out.csv`` that cannot be
            read, or no process to read clips in.
    """
    classes = [canonical_name(name) for name in classes]
    tree = read_tree(root)
    read_leave_out(tree.root)  # an invalid list is refused before the clips are read
    names, findings = check_labels(tree, classes)
    start = time.perf_counter()
    clips = inspect_clips(tree.root, [clip.path for clip in tree.clips], workers, seconds,
                          decode, progress)
    took = time.perf_counter() - start
    groups = {path: name[:2] for path, name in names.items()}
    findings += check_clips(tree.clips, groups, clips, near)
    return apply_list(Examination([], findings, tree, names, clips, classes, took))


def apply_list(examination: Examination) -> Examination:
    """Returns the result with regard to ``leave_out.csv`` as it is now.

    Clips that training leaves out have one finding each. If there is no error, but training
    refuses the data, that is one.
    """
    splits = examination.splits
    left_out = {path: reason for path, reason in read_leave_out(
        examination.tree.root).items() if splits.get(path) != 'test'}
    findings = [finding for finding in examination.all_findings
                if finding.path not in left_out]
    findings += [Finding.of('left_out', path, reason) for path, reason in left_out.items()]
    if not any(finding.severity == ERROR for finding in findings):
        findings += _check_loading(examination)
    return replace(examination, findings=sorted(findings, key=Finding.order))


def _check_loading(examination: Examination) -> Iterator[Finding]:
    """Finds what training and testing refuse, and no other check has found."""
    tree = examination.tree
    for split, load in (('train', load_labelled_clips), ('test', load_test_clips)):
        if tree.of(split):
            try:
                with warnings.catch_warnings():  # of clips that are left out
                    warnings.simplefilter('ignore')
                    load(tree.root, examination.classes, annotation=NAMES)
            except HRI30Error as error:
                yield Finding.of('refused', tree.folders[split] or '.',
                                 ' '.join(str(error).split())[:300])


# ---- Table and JSON ---------------------------------------------------------------------


def format_table(examination: Examination, cases: int = 5) -> str:
    """Formats findings for a terminal, at most 100 columns wide.

    Args:
        examination (Examination): The result.
        cases (int): How many of each kind to name; 0 names all.
    """
    lines = []
    for (kind, severity), group in groupby(examination.findings,
                                           lambda finding: finding[:2]):
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
    return '\n'.join([*lines, *[''][:len(lines)], *_summary(examination)])


def _summary(examination: Examination) -> Iterator[str]:
    splits = Counter(examination.splits.values())
    frames = sum(clip.facts.frames for clip in examination.clips.values())
    yield (f'{splits["train"]:,} training and {splits["test"]:,} test clips, {frames:,} '
           f'frames, read in {examination.seconds:.1f} s')
    if names := examination.names.values():
        of_class = Counter(name.class_id for name in names).values()
        of_group = Counter(name.group for name in names).values()
        yield (f'{len(of_class)} classes of {min(of_class)} to {max(of_class)} training '
               f'clips, {len(of_group)} groups of {min(of_group)} to {max(of_group)}')
    yield ', '.join(f'{count} {severity}{"s" if count != 1 and severity != INFO else ""}'
                    for severity, count in examination.counts.items())
    if not examination.exit_code:
        yield 'The data are clean.'
    elif not examination.counts[ERROR]:
        yield 'No warning stops a training; check whether each is intended.'
    elif examination.too_many:
        yield f'{examination.too_many}: look for a common cause.'
    elif count := len(examination.fixable):
        yield f'--fix lists {count} clips for training to leave out, and moves nothing.'


def to_json(examination: Examination) -> dict:
    """Returns the result as plain values.

    ``version`` is raised when this changes; ``counts`` are those of findings by severity;
    ``findings`` begin with the worst and have kind, severity, path ('.' for all) and
    detail; ``clips`` have, by path relative to root, their split, seconds (0 if unknown)
    and the fields of :class:`hri30_ext.video.inspection.Facts`. Bytes of a name that are
    not UTF-8 are lone surrogates, as in Python's own names.
    """
    splits = examination.splits
    return dict(
        version=1, root=str(examination.tree.root), exit_code=examination.exit_code,
        counts=examination.counts, seconds=round(examination.seconds, 3),
        findings=[finding._asdict() for finding in examination.findings],
        clips={path: dict(split=splits[path], seconds=round(clip.facts.seconds, 3),
                          **asdict(clip.facts))
               for path, clip in examination.clips.items()})
