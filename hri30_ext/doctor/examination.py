"""Examines a whole data folder."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..datasets.hri30 import load_labelled_clips, load_test_clips
from ..datasets.layouts import NAMES
from ..datasets.leave_out import read_leave_out
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, canonical_name
from . import labels
from .clips import check_alike, check_clip, find_copies
from .findings import (
    ERROR,
    INFO,
    KINDS,
    SEVERITIES,
    WARNING,
    Finding,
    by_severity_and_kind,
    make_finding,
)
from .fingerprints import FingerprintStore
from .reading import DECODE, SECONDS, Inspected, inspect_clips
from .tree import Tree, read_tree


@dataclass(frozen=True)
class Examination:
    """The result of examining a data folder."""
    root: Path
    findings: list[Finding]  # the worst first
    all_findings: list[Finding]  # as if ``leave_out.csv`` listed nothing
    tree: Tree
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


def examine(root: str | Path, classes: Sequence[str] = HRI30_CLASSES,
            workers: int | None = None, seconds: float = SECONDS, near: bool = True,
            decode: str = DECODE, progress: bool = True, store: str | Path | None = None
            ) -> Examination:
    """Examines a data folder: names, labels, and every clip from end to end.

    Args:
        root (str | Path): As :class:`~hri30_ext.datasets.HRI30Dataset` reads it.
        classes (Sequence[str]): Class names, in the order of the ids.
        workers (int, optional): Clips that are read at once; by default one a core.
        seconds (float): Time limit for each clip.
        near (bool): Whether to look for changed copies.
        decode (str): What reads a clip, see :func:`.reading.inspect_clips`.
        progress (bool): Whether to show a bar.
        store (str | Path, optional): File to add the fingerprints of the clips to, see
            :class:`.fingerprints.FingerprintStore`.

    Raises:
        HRI30Error: no such folder, no clips in it, a ``leave_out.csv`` that cannot be
            read, or no process to read clips in.
    """
    classes = [canonical_name(name) for name in classes]
    tree = read_tree(root)
    read_leave_out(tree.root)  # an invalid list is refused before the clips are read
    names = labels.check_names(tree, classes)
    annotated = labels.check_annotation(tree, 'train', names, classes)
    labels.check_plan(tree, names, annotated or (), classes)
    if labels.check_annotation(tree, 'test', names, classes) is None:
        labels.check_numbers(tree)
    labels.check_class_lists(tree, classes)
    start = time.perf_counter()
    clips = inspect_clips(tree.root, [clip.path for clip in tree.clips], workers, seconds,
                          decode, progress)
    took = time.perf_counter() - start
    if store:
        fingerprints = FingerprintStore(store)
        for path, clip in clips.items():
            fingerprints.add(tree.root / path, clip)
        with contextlib.suppress(HRI30Error):  # without them, only a training is slower
            fingerprints.save()
    own = [finding for path, clip in clips.items() for finding in check_clip(path, clip)]
    faulty = {finding.path for finding in own
              if finding.severity == ERROR or finding.kind == 'short'}
    alike = check_alike({path: clip.facts for path, clip in clips.items()
                         if clip.facts.frames and not clip.facts.problem})
    copies = find_copies(tree.clips, names, clips, near, faulty)
    return apply_list(Examination(tree.root, [], [*tree.findings, *own, *alike, *copies],
                                  tree, clips, classes, took))


def apply_list(found: Examination) -> Examination:
    """Returns the result with regard to ``leave_out.csv`` as it is now.

    Clips that training leaves out have one finding each, and what training refuses of the
    others is an error.
    """
    listed, splits = read_leave_out(found.root), found.splits
    left_out = {path for path in listed if splits.get(path) != 'test'}
    faulty = {finding.path for finding in found.all_findings if finding.severity != INFO}
    findings = [finding for finding in found.all_findings
                if finding.path not in left_out or finding.severity == INFO]
    for path, reason in listed.items():
        severity = WARNING
        if path not in left_out:
            reason = 'a test clip, which is predicted although the list has it'
        elif path not in faulty and reason.split(':')[0] in KINDS:
            reason = f'listed as {reason}; nothing is wrong with it now'
        else:
            severity = INFO
        findings.append(Finding('left_out', severity, path, reason))
    if not any(finding.severity == ERROR and finding.path not in left_out
               for finding in found.tree.findings):
        findings += _check_loading(found)
    return replace(found, findings=sorted(findings, key=by_severity_and_kind))


def _check_loading(found: Examination) -> Iterator[Finding]:
    """Finds what training refuses and no other check has found."""
    tree = found.tree
    for split, load, folder in (('train', load_labelled_clips, tree.train_folder),
                                ('test', load_test_clips, tree.test_folder)):
        if tree.of(split):
            try:
                load(tree.root, found.classes, annotation=NAMES)
            except HRI30Error as error:
                yield make_finding('refused', folder or '.',
                                   ' '.join(str(error).split())[:300])
