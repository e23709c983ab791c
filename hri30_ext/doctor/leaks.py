"""No clip may be in two splits, by name or by content.

Changed copies are found by ``hri30 check``, which decodes the clips.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from ..datasets.digests import digest_clips
from ..datasets.hri30 import NoTestClips, find_test_folder, list_split
from ..datasets.paper import trains_on_all
from ..errors import HRI30Error, first_cases
from ..names import split_part

Splits = Mapping[str, Sequence[Mapping]]


class Leaks(NamedTuple):
    """The result of :func:`find_leaks`."""
    pairs: list[str]  # of clips: split and file of each, and what is the same
    not_compared: list[str]  # files
    shared_groups: list[int]  # of train and val
    counts: dict[str, int]  # clips by split

    def __str__(self) -> str:
        lines = [f'{split:13} {count:6} clips' for split, count in self.counts.items()]
        for title, cases, unit in (('in two splits', self.pairs, 'pairs'),
                                   ('not compared', self.not_compared, 'clips')):
            lines += [f'{title:13} {len(cases):6} {unit}', *(f'  {case}' for case in cases)]
        lines.append(f'{"in train, val":13} {len(self.shared_groups):6} groups')
        return '\n'.join(lines)


def find_leaks(splits: Splits, cache_dir: str | Path | None = None) -> Leaks:
    """Compares the clips of different splits by name and content.

    Clips that cannot be read are listed as not compared.

    Args:
        splits (Mapping): Samples of :class:`HRI30Dataset` by the name of their split.
        cache_dir (str | Path, optional): See :func:`.digests.digest_clips`.
    """
    train, val = ({clip['group'] for clip in splits.get(split, ()) if clip['group'] >= 0}
                  for split in ('train', 'val'))
    parts = {clip['filename']: split_part(clip['filename'])
             for clips in splits.values() for clip in clips}
    paths = [path for path, (_, part) in parts.items() if part is None]
    digests = digest_clips(paths, cache_dir)
    pairs = [
        *_pairs(splits, 'name', lambda clip: clip['video_id'].casefold()),
        *_pairs(splits, 'content', lambda clip: digests.get(clip['filename'])),
        *_pairs(splits, 'content', lambda clip: parts[clip['filename']][0],
                lambda a, b: _overlap(parts[a['filename']][1], parts[b['filename']][1]))]
    return Leaks(pairs, [path for path in paths if path not in digests],
                 sorted(train & val),
                 {split: len(clips) for split, clips in splits.items()})


def _pairs(splits: Splits, what: str, key: Callable,
           condition: Callable = lambda a, b: True) -> list[str]:
    """Names the clips of different splits with the same key; None equals nothing."""
    pairs = []
    for split_a, split_b in combinations(splits, 2):
        by_key = defaultdict(list)
        for clip in splits[split_a]:
            by_key[key(clip)].append(clip)
        pairs += [f'{split_a} {other["filename"]} and {split_b} {clip["filename"]} '
                  f'(same {what})'
                  for clip in splits[split_b] if key(clip) is not None
                  for other in by_key.get(key(clip), ()) if condition(other, clip)]
    return pairs


def _overlap(a: tuple | None, b: tuple | None) -> bool:
    """Whether parts (start, end) of a recording overlap; None is the whole file, and two
    whole files are compared by content."""
    if a is None or b is None:
        return a is not b
    return a[0] < b[1] and b[0] < a[1]


# ---- The data of a config ---------------------------------------------------------------


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
    return find_leaks(splits, cfg.get('cache_dir'))


def check_leaks(splits: Splits, cfg: Config,
                info: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Stops a training before it starts if a clip is in two splits.

    Args:
        splits (Mapping): Samples by split.
        cfg (Config): With ``data_root`` and, where set, ``leak_check``.
        info, warn (Callable): Take a line if no clip is in two splits, and a line for each
            finding that is not an error.

    Raises:
        HRI30Error: a clip is in two splits, or a test clip is trained on; names them.
    """
    _refuse_test_clips(splits, cfg.data_root)
    if not cfg.get('leak_check'):
        return
    leaks = find_leaks(splits, cfg.get('cache_dir'))
    if leaks.shared_groups:
        warn(f'{len(leaks.shared_groups)} groups of recordings are in train and in val: '
             'this split leaks, as clips of a group are near-copies.')
    if leaks.not_compared:
        warn(f'{len(leaks.not_compared)} clips cannot be read, and were not compared '
             f'with other splits, such as {leaks.not_compared[0]}')
    if leaks.pairs:
        raise HRI30Error(
            f'{cfg.data_root}: {len(leaks.pairs)} clips are in two splits:\n'
            f'{first_cases(leaks.pairs, limit=10)}\nExpected every clip in one. Remove one '
            'of each pair, or put both on one side with split.type=file.')
    info('No clip is in two splits, by name and content')


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
