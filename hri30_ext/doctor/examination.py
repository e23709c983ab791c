"""Examines a whole data folder."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.hri30 import load_labelled_clips, load_test_clips
from ..datasets.leave_out import read_leave_out
from ..errors import HRI30Error
from ..names import HRI30_CLASSES, canonical_name
from .clips import check_alike, check_clip, find_copies
from .findings import ERROR, INFO, KINDS, SEVERITIES, WARNING, Finding, by_severity_and_kind
from .fingerprints import FingerprintStore
from .labels import (
    check_annotation,
    check_class_lists,
    check_names,
    check_numbers,
    check_plan,
)
from .reading import DECODE, SECONDS, Inspected, inspect_clips
from .tree import Tree, read_tree


@dataclass
class Examination:
    """The result of examining a data folder."""
    root: Path
    findings: list[Finding] = field(default_factory=list)  # the worst first
    clips: dict[str, Inspected] = field(default_factory=dict)  # by path, sorted
    splits: dict[str, str] = field(default_factory=dict)  # of every clip, by path
    seconds: float = 0  # for reading the clips
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
        """0 if the data are clean, 1 if there are warnings, 3 if there are errors."""
        return 3 if self.count(ERROR) else 1 if self.count(WARNING) else 0


def examine(root: str | Path, classes: Sequence[str] = HRI30_CLASSES,
            workers: int | None = None, seconds: float = SECONDS, near: bool = True,
            decode: str = DECODE, known: Mapping[str, Inspected] | None = None,
            progress: bool = True, store: str | Path | None = None,
            honor_list: bool = True) -> Examination:
    """Examines a data folder: names, labels, and every clip from end to end.

    Args:
        root (str | Path): As :class:`~hri30_ext.datasets.HRI30Dataset` reads it.
        classes (Sequence[str]): Class names, in the order of the ids.
        workers (int, optional): Clips that are read at once; by default one a core.
        seconds (float): Time limit for each clip.
        near (bool): Whether to look for changed copies.
        decode (str): What reads a clip, see :func:`.reading.inspect_clips`.
        known (Mapping[str, Inspected], optional): Clips that were read before, by path;
            those whose size has changed are read again.
        progress (bool): Whether to show a bar.
        store (str | Path, optional): File to add the fingerprints of the clips to, see
            :class:`.fingerprints.FingerprintStore`.
        honor_list (bool): Whether findings of clips that ``leave_out.csv`` lists count
            only as information.

    Raises:
        HRI30Error: no such folder, no clips in it, a ``leave_out.csv`` that cannot be
            read, or no process to read clips in.
    """
    classes = [canonical_name(name) for name in classes]
    tree = read_tree(root)
    listed = read_leave_out(tree.root) if honor_list else {}
    names = check_names(tree, classes)
    annotated = check_annotation(tree, 'train', names, classes)
    check_plan(tree, names, annotated or (), classes)
    if check_annotation(tree, 'test', names, classes) is None:
        check_numbers(tree)
    check_class_lists(tree, classes)
    sizes = {clip.path: clip.num_bytes for clip in tree.clips}
    known = {path: clip for path, clip in (known or {}).items()
             if clip.facts.num_bytes == sizes.get(path)}
    new = [path for path in sizes if path not in known]
    start = time.perf_counter()
    read = {**known, **inspect_clips(tree.root, new, workers, seconds, decode, progress)}
    took = time.perf_counter() - start
    clips = {path: read[path] for path in sizes}
    _store_fingerprints(store, tree.root, clips)
    own = [finding for path, clip in clips.items() for finding in check_clip(path, clip)]
    faulty = {finding.path for finding in own
              if finding.severity == ERROR or finding.kind == 'short'}
    alike = check_alike({path: clip.facts for path, clip in clips.items()
                         if clip.facts.frames and not clip.facts.problem})
    copies = find_copies(tree.clips, names, clips, near, faulty)
    findings = [*tree.findings, *own, *alike, *copies]
    if not any(finding.severity == ERROR and finding.path not in listed
               for finding in tree.findings):
        findings += _check_loading(tree, classes)
    splits = {clip.path: clip.split for clip in tree.clips}
    findings = sorted(_apply_list(listed, findings, splits), key=by_severity_and_kind)
    return Examination(tree.root, findings, clips, splits, took, len(new))


def _apply_list(listed: Mapping[str, str], findings: Sequence[Finding],
                splits: Mapping[str, str]) -> Iterator[Finding]:
    """Replaces the findings of clips that are left out by one for each of them."""
    left_out = {path for path in listed if splits.get(path) != 'test'}
    faulty = {finding.path for finding in findings if finding.severity != INFO}
    yield from (finding for finding in findings
                if finding.path not in left_out or finding.severity == INFO)
    for path, reason in listed.items():
        if path not in left_out:
            yield Finding('left_out', WARNING, path, 'a test clip, which is predicted '
                          'although the list has it')
        elif path not in faulty and reason.split(':')[0] in KINDS:
            yield Finding('left_out', WARNING, path,
                          f'listed as {reason}; nothing is wrong with it now')
        else:
            yield Finding('left_out', INFO, path, reason)


def _store_fingerprints(store: str | Path | None, root: Path,
                        clips: Mapping[str, Inspected]) -> None:
    if store is None:
        return
    fingerprints = FingerprintStore(store)
    for path, clip in clips.items():
        fingerprints.add(root / path, clip)
    with contextlib.suppress(HRI30Error):  # only a training is slower without them
        fingerprints.save()


def _check_loading(tree: Tree, classes: Sequence[str]) -> list[Finding]:
    """Makes sure that whatever training refuses is an error here."""
    findings = []
    for split, load, folder in (('train', load_labelled_clips, tree.train_folder),
                                ('test', load_test_clips, tree.test_folder)):
        if tree.of(split):
            try:
                load(tree.root, classes)
            except HRI30Error as error:
                findings.append(Finding('refused', ERROR, folder or '.',
                                        ' '.join(str(error).split())[:300]))
    return findings
