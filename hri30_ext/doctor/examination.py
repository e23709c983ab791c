"""Examines a whole data folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.hri30 import load_labelled_clips, load_test_clips
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, canonical_name
from .annotations import (
    check_annotation,
    check_class_lists,
    check_numbers,
    check_plan,
)
from .clips import check_alike, check_clip
from .copies import find_copies
from .decoding import DECODE, SECONDS, Inspected, inspect_clips
from .findings import ERROR, SEVERITIES, WARNING, Finding, by_severity_and_kind
from .names import check_names
from .tree import read_tree


@dataclass
class Examination:
    """What was found in a data folder."""
    root: Path
    findings: list[Finding] = field(default_factory=list)  # the worst first
    clips: dict[str, Inspected] = field(default_factory=dict)  # by path, sorted
    splits: dict[str, str] = field(default_factory=dict)  # of every clip, by path
    seconds: float = 0  # that reading the clips took
    num_read: int = 0  # clips that were read in this time

    def count(self, severity: str) -> int:
        """Counts findings."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each severity."""
        return {severity: self.count(severity) for severity in SEVERITIES}

    @property
    def exit_code(self) -> int:
        """0 where all is clean, 1 where there are warnings, 3 where there are errors."""
        return 3 if self.count(ERROR) else 1 if self.count(WARNING) else 0


def examine(root: str | Path, classes: Sequence[str] = HRI30_CLASSES,
            workers: int | None = None, seconds: float = SECONDS, near: bool = True,
            decode: str = DECODE, known: Mapping[str, Inspected] | None = None,
            progress: bool = True) -> Examination:
    """Examines a data folder: names, labels, and every clip from end to end.

    Args:
        root (str | Path): As :class:`~hri30_ext.datasets.HRI30Dataset` reads it.
        classes (Sequence[str]): Class names, in the order of the ids.
        workers (int, optional): Clips that are read at once; by default one a core.
        seconds (float): Time limit for each.
        near (bool): Whether to look for changed copies.
        decode (str): What reads a clip, see :func:`.decoding.inspect_clips`.
        known (Mapping[str, Inspected], optional): Clips that were read before, by path;
            those of another size now are read again.
        progress (bool): Whether to show a bar.

    Raises:
        HRI30Error: no such folder, no clips in it, or no process to read them in.
    """
    classes = [canonical_name(name) for name in classes]
    tree = read_tree(root)
    names = check_names(tree, classes)
    rows = check_annotation(tree, 'train', names, classes)
    check_plan(tree, names, rows, classes)
    if check_annotation(tree, 'test', names, classes) is None:
        check_numbers(tree)
    check_class_lists(tree, classes)
    _check_loading(tree, classes)
    sizes = {clip.path: clip.num_bytes for clip in tree.clips}
    known = {path: clip for path, clip in (known or {}).items()
             if clip.facts.num_bytes == sizes.get(path)}
    new = [clip.path for clip in tree.clips if clip.path not in known]
    start = time.perf_counter()
    read = {**known, **inspect_clips(tree.root, new, workers, seconds, decode, progress)}
    took = time.perf_counter() - start
    clips = {clip.path: read[clip.path] for clip in tree.clips}
    findings = list(tree.findings)
    own = [finding for path, clip in clips.items() for finding in check_clip(path, clip)]
    faulty = {finding.path for finding in own
              if finding.severity == ERROR or finding.kind == 'short'}
    findings += own
    findings += check_alike({path: clip.facts for path, clip in clips.items()
                             if clip.facts.frames and not clip.facts.problem})
    findings += find_copies(tree.clips, names, clips, near, faulty)
    return Examination(tree.root, sorted(findings, key=by_severity_and_kind), clips,
                       {clip.path: clip.split for clip in tree.clips}, took, len(new))


def _check_loading(tree, classes: Sequence[str]) -> None:
    """Makes sure that what training refuses is an error here, whatever it is."""
    if any(finding.severity == ERROR for finding in tree.findings):
        return
    for split, load in (('train', load_labelled_clips), ('test', load_test_clips)):
        if not tree.of(split):
            continue
        try:
            load(tree.root, classes)
        except HRI30Error as error:
            folder = tree.train_folder if split == 'train' else tree.test_folder
            tree.report('refused', ERROR, folder or '.', ' '.join(str(error).split())[:300])
