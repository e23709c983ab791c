"""Clips that are there twice: the same bytes, or changed copies."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

from ..names import ClipName
from ..utils.text import printable
from .decoding import Inspected
from .findings import ERROR, WARNING, Finding
from .leaks import NEAR_BITS, near_pairs
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
            their ends, as :mod:`hri30_ext.doctor.leaks` compares them.
        faulty (Container[str]): Paths of clips of which too little is there to tell them
            apart: broken, short, black.

    Returns:
        list[Finding]: Changed copies are looked for between training and test clips, and
        between training clips of different groups. Those of one group are known to be
        alike, and come as near as copies do: two who drill and polish in one place were
        16 bits apart. The groups of test clips are not known.
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
    across = _nearest(near_pairs(hashes['train'], hashes['test']), sides['train'],
                      sides['test'], inspected)
    pairs = [(j, i, distance)
             for i, j, distance in near_pairs(hashes['train'], hashes['train'])
             if i < j and _group_number(names, sides['train'][i]) != _group_number(
                 names, sides['train'][j])]
    within = _nearest(pairs, sides['train'], sides['train'], inspected)
    return [Finding('near_duplicate', severity, path, detail)
            for severity, found in ((ERROR, across), (WARNING, within))
            for path, detail in found.items()]


def _group_number(names: Mapping[str, ClipName], path: str) -> int | None:
    return names[path].group if path in names else None


def _nearest(pairs, paths: Sequence[str], others: Sequence[str], inspected
             ) -> dict[str, str]:
    """Describes, by path, the clip that each is nearest to: its like are like the copy."""
    found = {}
    for i, j, distance in sorted(pairs, key=lambda pair: pair[2]):
        path, other = paths[i], others[j]
        if inspected[path].facts.sha256 != inspected[other].facts.sha256:
            found.setdefault(path, f'looks like {printable(other)} ({distance} bits apart, '
                             f'copies are up to {NEAR_BITS})')
    return found
