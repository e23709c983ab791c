"""Clips that are there twice: the same bytes, or changed copies."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

from ...naming import ClipName
from ...utils.text import printable
from ..leaks import NEAR_BITS, near_pairs
from .decoding import Inspected
from .findings import ERROR, INFO, WARNING, Finding
from .tree import ClipFile


def find_copies(clips: Sequence[ClipFile], names: Mapping[str, ClipName],
                inspected: Mapping[str, Inspected], near: bool = True,
                faulty: Container[str] = ()) -> list[Finding]:
    """Finds copies of clips, within a split and across.

    Args:
        clips (Sequence[ClipFile]): All of them.
        names (Mapping[str, ClipName]): What names say, by path.
        inspected (Mapping[str, Inspected]): What was read, by path.
        near (bool): Whether to look for changed copies: encoded anew, scaled, or cut at
            their ends, as :mod:`hri30_ext.datasets.leaks` compares them.
        faulty (Container[str]): Paths of clips of which too little is there to tell them
            apart: broken, short, black.

    Returns:
        list[Finding]: Of changed copies, clips of one class and group are left out: they
        are known to be alike.
    """
    found = _find_equal(clips, names, inspected)
    return found + _find_near(clips, names, inspected, faulty) if near else found


def _find_equal(clips, names, inspected) -> list[Finding]:
    same = defaultdict(list)
    for clip in clips:
        digest = inspected[clip.path].facts.sha256 if clip.path in inspected else ''
        if digest and clip.num_bytes:
            same[digest].append(clip)
    found = []
    for copies in same.values():
        tested = [clip.path for clip in copies if clip.split == 'test']
        trained = [clip.path for clip in copies if clip.split == 'train']
        found += [Finding('duplicate', WARNING, path, f'the same file as '
                          f'{printable(tested[0])}') for path in tested[1:]]
        if tested:
            found += [Finding('test_clip_in_training', ERROR, path, f'the same file as '
                              f'{printable(tested[0])}') for path in trained]
            continue
        for path in trained[1:]:
            contradict = _group(names, path) != _group(names, trained[0])
            found.append(Finding(
                'duplicate', ERROR if contradict else WARNING, path,
                f'the same file as {printable(trained[0])}'
                + (', of another class or group' if contradict else '')))
    return found


def _group(names: Mapping[str, ClipName], path: str) -> tuple | None:
    name = names.get(path)
    return name and (name.class_id, name.group)


def _find_near(clips, names, inspected, faulty) -> list[Finding]:
    sides = {'train': [], 'test': []}
    for clip in clips:
        seen = inspected.get(clip.path)
        if seen and len(seen.hashes_TB) and clip.path not in faulty:
            sides[clip.split].append(clip.path)
    hashes = {split: [inspected[path].hashes_TB for path in paths]
              for split, paths in sides.items()}
    found = []
    for split_a, split_b in (('train', 'test'), ('train', 'train'), ('test', 'test')):
        for i, j, distance in near_pairs(hashes[split_a], hashes[split_b]):
            a, b = sides[split_a][i], sides[split_b][j]
            if (split_a == split_b and i >= j) or (
                    inspected[a].facts.sha256 == inspected[b].facts.sha256):
                continue
            if split_a != split_b:
                path, other, severity = a, b, ERROR
            elif split_a == 'test':  # their groups are not known: it may be one
                path, other, severity = b, a, INFO
            elif _group(names, a) == _group(names, b):
                continue
            else:
                path, other, severity = b, a, WARNING
            found.append(Finding(
                'near_duplicate', severity, path, f'looks like {printable(other)} '
                f'({distance} of {NEAR_BITS} bits apart)'))
    return found
