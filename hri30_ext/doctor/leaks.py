"""No clip may be in two splits: by name, by content, or as a changed copy.

A changed copy, re-encoded, rescaled or cut at its ends, is found by the perceptual hashes
of its frames, see :mod:`.fingerprints`.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from mmengine.config import Config
from scipy.cluster.hierarchy import DisjointSet

from ..datasets.digests import CACHE_DIR, digest_clips
from ..datasets.hri30 import NoTestClips, find_test_folder, list_split
from ..datasets.paper import trains_on_all
from ..errors import HRI30Error, first_cases
from ..names import split_part
from .fingerprints import Fingerprint, FingerprintStore, near_pairs

STORE = 'fingerprints.json'

Splits = Mapping[str, Sequence[Mapping]]


@dataclass
class Leaks:
    """The result of :func:`find_leaks`; pairs are texts that name split and file."""
    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    shared_groups: list[int] = field(default_factory=list)
    proposed: list[list[str]] = field(default_factory=list)  # see propose_groups
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0

    @property
    def found(self) -> bool:
        """Whether any clip is in two splits."""
        return bool(self.names or self.contents or self.copies)

    def __str__(self) -> str:
        lines = [f'{split:13} {count:6} clips' for split, count in self.counts.items()]
        for title, cases, unit in (('same name', self.names, 'pairs'),
                                   ('same content', self.contents, 'pairs'),
                                   ('changed copy', self.copies, 'pairs'),
                                   ('not compared', self.not_compared, 'clips')):
            lines += [f'{title:13} {len(cases):6} {unit}', *(f'  {case}' for case in cases)]
        lines.append(f'{"in train, val":13} {len(self.shared_groups):6} groups')
        if self.proposed:
            lines += [f'{"proposed":13} {len(self.proposed):6} groups of near-copies',
                      first_cases(map(', '.join, self.proposed))]
        return '\n'.join(lines)


def find_leaks(splits: Splits, mode: bool | str | None, cache_file: str | Path) -> Leaks:
    """Compares the clips of different splits.

    Clips that cannot be decoded are listed as not compared. Clips of one group of
    recordings (a random split has them on both sides) are compared by name and content.

    Args:
        splits (Mapping): Samples of :class:`HRI30Dataset` by the name of their split.
        mode (bool | str, optional): True compares names, contents and changed copies,
            ``exact`` names and contents, ``names`` names, False or None nothing.
        cache_file (str | Path): Where fingerprints are stored.
    """
    start = time.perf_counter()
    leaks = Leaks(counts={split: len(clips) for split, clips in splits.items()})
    if not mode:
        return leaks
    train, val = ({clip['group'] for clip in splits.get(split, ()) if clip['group'] >= 0}
                  for split in ('train', 'val'))
    leaks.shared_groups = sorted(train & val)
    leaks.names = _pairs(splits, lambda clip: clip['video_id'].casefold())
    if mode != 'names':
        parts = {clip['filename']: split_part(clip['filename'])
                 for clips in splits.values() for clip in clips}
        paths = sorted(path for path, (_, part) in parts.items() if part is None)
        digests = digest_clips(paths, Path(cache_file).parent)
        leaks.not_compared = [f'{path}: cannot be read' for path in paths
                              if path not in digests]
        leaks.contents = _pairs(splits, lambda clip: digests.get(clip['filename']))
        leaks.contents += _pairs(
            splits, lambda clip: parts[clip['filename']][0],
            lambda a, b: _overlap(parts[a['filename']][1], parts[b['filename']][1]))
        if mode is True:
            prints, problems = FingerprintStore(cache_file).read(digests)
            leaks.not_compared += [f'{path}: {why}' for path, why in problems.items()]
            leaks.copies = _find_copies(splits, prints)
            if all(clip['group'] < 0 for clips in splits.values() for clip in clips):
                leaks.proposed = propose_groups(
                    {path: clip.hashes for path, clip in prints.items()})
    leaks.seconds = time.perf_counter() - start
    return leaks


def _pairs(splits: Splits, key: Callable, condition: Callable = lambda a, b: True
           ) -> list[str]:
    """Names the clips of different splits with the same key; None equals nothing."""
    pairs = []
    for split_a, split_b in combinations(splits, 2):
        by_key = defaultdict(list)
        for clip in splits[split_a]:
            by_key[key(clip)].append(clip)
        pairs += [f'{split_a} {other["filename"]} and {split_b} {clip["filename"]}'
                  for clip in splits[split_b] if key(clip) is not None
                  for other in by_key.get(key(clip), ()) if condition(other, clip)]
    return pairs


def _overlap(a: tuple | None, b: tuple | None) -> bool:
    """Whether parts (start, end) of a recording overlap; None is the whole file, and two
    whole files are compared by content."""
    if a is None or b is None:
        return a is not b
    return a[0] < b[1] and b[0] < a[1]


def propose_groups(hashes: Mapping[str, bytes]) -> list[list[str]]:
    """Proposes groups of recordings where none are known.

    Args:
        hashes (Mapping[str, bytes]): Of the frames of each clip, by path.

    Returns:
        list[list[str]]: Clips that are connected by near-copies, of two or more.
    """
    groups = DisjointSet(hashes)
    for _, a, b in near_pairs(hashes, hashes):
        groups.merge(a, b)
    return [sorted(group) for group in groups.subsets() if len(group) > 1]


def _find_copies(splits: Splits, prints: Mapping[str, Fingerprint]) -> list[str]:
    copies = []
    for names in combinations(splits, 2):
        groups_a, groups_b = groups = [
            {clip['filename']: clip['group'] for clip in splits[name]
             if clip['filename'] in prints} for name in names]
        for distance, a, b in near_pairs(*(
                {path: prints[path].hashes for path in side} for side in groups)):
            # Clips of one group are alike; files of one content are already reported.
            same_group = groups_a[a] == groups_b[b] >= 0
            if not same_group and prints[a].sha256 != prints[b].sha256:
                copies.append(f'{names[0]} {a} and {names[1]} {b} '
                              f'({distance} of 256 bits)')
    return copies


# ---- The data of a config ---------------------------------------------------------------


def cache_file(cfg: Config) -> Path:
    """Returns the file in which a config stores fingerprints of its clips."""
    return Path(cfg.get('cache_dir') or CACHE_DIR) / STORE


def load_splits(cfg: Config) -> dict[str, list[dict]]:
    """Lists the clips of a config's loaders, and the test clips where there are any."""
    names = ['train'] if trains_on_all(cfg.get('split', {})) else ['train', 'val']
    return {split: list_split(cfg[f'{split}_dataloader'])
            for split in names} | load_test_split(cfg)


def load_test_split(cfg: Config) -> dict[str, list[dict]]:
    """Lists the test clips under ``test``, or nothing where there are none."""
    with contextlib.suppress(NoTestClips):
        return dict(test=list_split(cfg.test_dataloader, subset='test'))
    return {}


def check_config(cfg: Config) -> Leaks:
    """Compares all clips of a config's splits, whatever its ``leak_check``."""
    splits = load_splits(cfg)
    _refuse_test_clips(splits, cfg.data_root)
    return find_leaks(splits, True, cache_file(cfg))


def check_leaks(splits: Splits, cfg: Config,
                info: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Stops a training before it starts if a clip is in two splits.

    Args:
        splits (Mapping): Samples by split.
        cfg (Config): With ``data_root`` and, where set, ``leak_check`` and ``cache_dir``.
        info, warn (Callable): Take a line if no clip is in two splits, and a line for each
            finding that is not an error.

    Raises:
        HRI30Error: a clip is in two splits, or a test clip is trained on; names them.
    """
    _refuse_test_clips(splits, cfg.data_root)
    mode = cfg.get('leak_check')
    leaks = find_leaks(splits, mode, cache_file(cfg))
    if leaks.shared_groups:
        warn(f'{len(leaks.shared_groups)} groups of recordings are in train and in val: '
             'this split leaks, as clips of a group are near-copies.')
    if leaks.not_compared:
        warn(f'{len(leaks.not_compared)} clips cannot be decoded, and were not compared '
             f'with other splits, such as {leaks.not_compared[0]}')
    exact = [f'{pair} (same name)' for pair in leaks.names]
    exact += [f'{pair} (same content)' for pair in leaks.contents]
    if exact:
        raise HRI30Error(
            f'{cfg.data_root}: {len(exact)} clips are in two splits:\n'
            f'{first_cases(exact, limit=10)}\nExpected every clip in one. Remove one of '
            'each pair, or put both on one side with split.type=file.')
    if leaks.copies:
        groups = ('\nThe clips have no groups; proposed, from near-copies:\n'
                  + first_cases(map(', '.join, leaks.proposed)) if leaks.proposed else '')
        raise HRI30Error(
            f'{cfg.data_root}: {len(leaks.copies)} clips are changed copies of clips of '
            f'another split:\n{first_cases(leaks.copies, limit=10)}{groups}\n'
            'Expected every clip in one split. Look at the pairs and remove one of each. '
            'If they are different clips, continue with --cfg-options leak_check=exact.')
    if mode:
        info(f'No clip is in two splits ({leaks.seconds:.1f} s, leak_check={mode})')


def _refuse_test_clips(splits: Splits, data_root: str | Path) -> None:
    """Refuses to train on or validate with a clip, or a link to one, of the test folder."""
    folder = find_test_folder(data_root)
    if folder is None:
        return
    folder = folder.resolve()
    wrong = [f'{split} {clip["filename"]}' for split in ('train', 'val')
             for clip in splits.get(split, ())
             if Path(clip['filename']).resolve().is_relative_to(folder)]
    if wrong:
        raise HRI30Error(
            f'{folder}: {len(wrong)} of its clips are trained on or validated with:\n'
            f'{first_cases(wrong)}\nExpected test clips to be used once, at the end. Move '
            'them out of the training folder, or remove the links.')
