"""No clip may stand in two splits: by name, by content, or as a changed copy.

A changed copy, re-encoded, rescaled or cut at its ends, is found by perceptual hashes of
its frames. HRI30 has one fixed camera, so single frames of different clips look alike:
two clips are copies only if *every* frame fits, at one shift in time.

Shapes: T frames, B bits of a frame's hash, F frames of all clips, N clips.
"""

import base64
import contextlib
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
from mmaction.registry import DATASETS
from mmengine.config import Config
from PIL import Image
from tqdm import tqdm

from ..config import PROJECT_ROOT
from ..datasets.hri30 import find_test_folder, list_clips
from ..errors import HRI30Error, first_cases
from ..utils.fileio import atomic_write_text, sha256_of
from ..utils.parallel import FEW, available_cores, process_pool
from ..utils.progress import refresh_seconds
from ..utils.reading import read_json
from ..video.decode import Video

#: The largest distance, in bits of 256, of any frame of a clip from the frame of its copy.
#: Measured as :func:`near_distance`, on rendered clips (720 x 480) and on 27 real clips of
#: another kind (640 x 480, arm gestures of three people before one camera):
#:
#: ================================================== =============== ==============
#: pairs                                              rendered        real
#: ================================================== =============== ==============
#: copies, 324 of them: MPEG-4 with plain blocks       16 at most      20 (one), else
#: (quantiser 25), 360 x 240, 224 x 224 at quantiser                   14 at most
#: 20, 360 x 240 without the first 8 frames
#: different clips of one group, 1,284 pairs           22 at least     24 at least
#: clips of different groups, 1,467 pairs              104 at least    84 at least
#: ================================================== =============== ==============
#:
#: Nearest are two clips of a worker who drills in one place. Hashes of what differs from
#: the clip's mean frame, which leave the still background out, were tried and are worse:
#: where the worker hardly moves they hash the encoder's noise. Copies came to 116, and
#: different clips down to 56.
NEAR_BITS = 18

_VERSION = 1
_HASH_SIDE = 16  # so B = 256
_FRAME_SIDE = 64  # pixels; what a hash of that side is computed from
_NO_FRAMES = np.zeros((0, _HASH_SIDE**2), bool)
_ANCHORS = (0.25, 0.5, 0.75)  # of a clip's length
_KEPT_VERDICTS = 20


class Fingerprint(NamedTuple):
    """What of a clip is compared."""
    sha256: str
    hashes_TB: np.ndarray  # bool; no frames where the clip cannot be decoded
    problem: str  # why not; empty where it can be


@dataclass
class Leaks:
    """What :func:`find_leaks` found; pairs are texts that name split and file."""
    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    shared_groups: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0

    @property
    def found(self) -> bool:
        """Whether any clip stands in two splits."""
        return bool(self.names or self.contents or self.copies)

    def __str__(self) -> str:
        lines = [f'{split:13} {count:6} clips' for split, count in self.counts.items()]
        for title, cases in (('same name', self.names), ('same content', self.contents),
                             ('changed copy', self.copies)):
            lines.append(f'{title:13} {len(cases):6} pairs')
            lines += [f'  {case}' for case in cases]
        lines.append(f'{"not compared":13} {len(self.not_compared):6} clips')
        lines += [f'  {case}' for case in self.not_compared]
        lines.append(f'{"in train, val":13} {len(self.shared_groups):6} groups')
        return '\n'.join(lines)


# ---- One clip ---------------------------------------------------------------------------


def fingerprint(path: str | Path) -> Fingerprint:
    """Reads a clip once: its SHA-256, and a perceptual hash of every frame.

    A clip that cannot be read has a ``problem`` instead.
    """
    try:
        sha256 = sha256_of(path)
        frames_THW = Video(path).read_gray(_FRAME_SIDE)
    except (HRI30Error, OSError) as error:
        problem = str(error).strip().splitlines()[0].removeprefix(f'{path}: ')
        return Fingerprint('', _NO_FRAMES, problem[:120])
    return Fingerprint(sha256, hash_frames(frames_THW), '')


def hash_frames(frames_THW: np.ndarray) -> np.ndarray:
    """Returns perceptual hashes of frames.

    Args:
        frames_THW (np.ndarray): Their luma, uint8, of 64 x 64 pixels.

    Returns:
        np.ndarray: (T, B) bool.
    """
    if not len(frames_THW):
        return _NO_FRAMES
    return np.stack([imagehash.phash(Image.fromarray(gray_HW), hash_size=_HASH_SIDE)
                     .hash.ravel() for gray_HW in frames_THW])


# ---- All clips, remembered --------------------------------------------------------------


class LeakCache:
    """Fingerprints and verdicts of earlier runs, in one JSON file.

    An entry is keyed by the clip's path, size and time, and by the version of this
    module, so a changed clip is read again. A file that cannot be read is begun anew.

    Args:
        path (str | Path): The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.clips: dict[str, list] = {}
        self.verdicts: dict[str, list[str]] = {}
        self.changed = False
        try:
            kept = read_json(self.path, 'what is known of clips', most=256 << 20)
            if kept['version'] == _VERSION:
                self.clips, self.verdicts = dict(kept['clips']), dict(kept['verdicts'])
        except (HRI30Error, ValueError, KeyError, TypeError):
            pass

    def get(self, path: str, stat: list[int]) -> Fingerprint | None:
        """Returns what is known of a file with this size and time."""
        try:
            *known, sha256, packed, problem = self.clips[path]
            if known != stat:
                return None
            bits = np.frombuffer(base64.b64decode(packed), np.uint8)
            hashes_TB = np.unpackbits(bits).reshape(-1, _HASH_SIDE**2).astype(bool)
            return Fingerprint(str(sha256), hashes_TB, str(problem))
        except (KeyError, ValueError, TypeError):
            return None

    def put(self, path: str, stat: list[int], found: Fingerprint) -> None:
        """Remembers a clip."""
        packed = base64.b64encode(np.packbits(found.hashes_TB).tobytes()).decode()
        self.clips[path] = [*stat, found.sha256, packed, found.problem]
        self.changed = True

    def save(self) -> None:
        """Writes the file whole, without clips that are gone, if anything is new."""
        if not self.changed:
            return
        self.clips = {path: entry for path, entry in self.clips.items()
                      if Path(path).exists()}
        self.verdicts = dict(list(self.verdicts.items())[-_KEPT_VERDICTS:])
        atomic_write_text(self.path, json.dumps(dict(
            version=_VERSION, clips=self.clips, verdicts=self.verdicts)))


def _stat(path: str) -> list[int]:
    try:
        stat = Path(path).stat()
        return [stat.st_size, stat.st_mtime_ns]
    except OSError:  # reading it will say what is wrong
        return [-1, -1]


def read_fingerprints(paths: Iterable[str], cache: LeakCache) -> dict[str, Fingerprint]:
    """Reads clips that the cache does not know, in parallel, with a progress bar.

    About 6 s of one core per 100 clips of 720 x 480 and 30-60 frames.
    """
    stats = {path: _stat(path) for path in paths}
    found = {path: cache.get(path, stat) for path, stat in stats.items()}
    new = [path for path, known in found.items() if known is None]
    with contextlib.ExitStack() as stack:
        if len(new) < FEW:
            read = map(fingerprint, new)
        else:
            pool = stack.enter_context(process_pool(min(8, available_cores())))
            read = pool.map(fingerprint, new, chunksize=4)
        bar = tqdm(read, 'Comparing clips', len(new), unit='clip', disable=not new,
                   mininterval=refresh_seconds())
        for path, result in zip(new, bar, strict=True):
            found[path] = result
            if not result.problem:  # a machine that is busy may have taken too long
                cache.put(path, stats[path], result)
    return found


def read_contents(paths: Iterable[str], cache: LeakCache) -> dict[str, Fingerprint]:
    """Reads what clips contain, without decoding those that the cache does not know."""
    found = {}
    for path in paths:
        found[path] = cache.get(path, _stat(path))
        if found[path] is None:
            try:
                sha256 = sha256_of(path)
                found[path] = Fingerprint(sha256, _NO_FRAMES, '')
            except OSError as error:
                found[path] = Fingerprint('', _NO_FRAMES, str(error))
    return found


# ---- Pairs ------------------------------------------------------------------------------


def near_distance(a_TB: np.ndarray, b_TB: np.ndarray) -> int:
    """Returns how far two clips are from being copies of each other.

    >>> clip = np.eye(8, dtype=bool)
    >>> near_distance(clip, clip[2:]), near_distance(clip, clip[::-1])
    (0, 2)

    Args:
        a_TB (np.ndarray): Hashes of the frames of one clip, bool.
        b_TB (np.ndarray): Of the other; its T may differ.

    Returns:
        int: The most bits by which a frame differs from its counterpart, at the shift
        that fits best, of those by a quarter of the longer clip at most.
    """
    distances = _distances(_as_signs(a_TB), _as_signs(b_TB))
    shift = max(distances.shape) // 4
    diagonals = (distances.diagonal(offset) for offset in range(-shift, shift + 1))
    # A shift that leaves a few frames to compare would fit by chance.
    least = 0.6 * min(distances.shape)
    return int(min(diagonal.max() for diagonal in diagonals if len(diagonal) >= least))


def _as_signs(bits_FB: np.ndarray) -> np.ndarray:
    return bits_FB.astype(np.float32) * 2 - 1


def _distances(a_FB: np.ndarray, b_FB: np.ndarray) -> np.ndarray:
    """Returns Hamming distances of rows of +-1, (frames of a, frames of b)."""
    return (a_FB.shape[1] - a_FB @ b_FB.T) / 2


def near_pairs(a: Sequence[np.ndarray], b: Sequence[np.ndarray]
               ) -> list[tuple[int, int, int]]:
    """Returns positions in a and in b of copies, and their distance.

    Args:
        a (Sequence[np.ndarray]): Hashes of the frames of clips, (T, B) bool, T not 0.
        b (Sequence[np.ndarray]): Of others.
    """
    if not a or not b:
        return []
    b_FB = _as_signs(np.concatenate(b))
    starts = np.cumsum([0, *map(len, b[:-1])])
    pairs = []
    for first in range(0, len(a), 256):  # bounds the memory
        some = a[first:first + 256]
        # Three frames of a clip decide quickly that nearly all other clips are no copies.
        possible = np.ones((len(some), len(b)), bool)
        for anchor in _ANCHORS:
            a_NB = _as_signs(np.stack([hashes[int(anchor * len(hashes))]
                                       for hashes in some]))
            nearest = np.minimum.reduceat(_distances(a_NB, b_FB), starts, axis=1)
            possible &= nearest <= NEAR_BITS
        for i, j in zip(*np.nonzero(possible), strict=True):
            distance = near_distance(some[i], b[j])
            if distance <= NEAR_BITS:
                pairs.append((first + int(i), int(j), distance))
    return pairs


def _pair(split_a: str, a: Mapping, split_b: str, b: Mapping) -> str:
    return f'{split_a} {a["filename"]} and {split_b} {b["filename"]}'


def _equal_pairs(splits: Mapping[str, Sequence[Mapping]], key: Callable) -> list[str]:
    """Names the clips of different splits that have the same key; None has none."""
    pairs = []
    for split_a, split_b in combinations(splits, 2):
        by_key = defaultdict(list)
        for clip in splits[split_a]:
            by_key[key(clip)].append(clip)
        pairs += [_pair(split_a, other, split_b, clip) for clip in splits[split_b]
                  if key(clip) is not None for other in by_key.get(key(clip), ())]
    return pairs


def _find_copies(splits: Mapping[str, Sequence[Mapping]],
                 prints: Mapping[str, Fingerprint]) -> list[str]:
    found = []
    readable = {split: [clip for clip in clips if not prints[clip['filename']].problem]
                for split, clips in splits.items()}
    for split_a, split_b in combinations(readable, 2):
        clips_a, clips_b = readable[split_a], readable[split_b]
        hashes_a, hashes_b = ([prints[clip['filename']].hashes_TB for clip in clips]
                              for clips in (clips_a, clips_b))
        for i, j, distance in near_pairs(hashes_a, hashes_b):
            a, b = clips_a[i], clips_b[j]
            # Of one group, they are known to be alike; of one content, known as that.
            same_group = a['group'] == b['group'] >= 0
            if same_group or prints[a['filename']].sha256 == prints[b['filename']].sha256:
                continue
            found.append(f'{_pair(split_a, a, split_b, b)} ({distance} of '
                         f'{_HASH_SIDE**2} bits)')
    return found


def find_leaks(splits: Mapping[str, Sequence[Mapping]], mode: bool | str | None,
               cache_file: str | Path) -> Leaks:
    """Compares the clips of different splits.

    Args:
        splits (Mapping): Samples of :class:`HRI30Dataset` by the name of their split.
        mode (bool | str, optional): What to compare: True for names, contents and
            changed copies, ``exact`` for names and contents, ``names`` for names, False
            or None for nothing.
        cache_file (str | Path): What is known of clips is kept there.

    Returns:
        Leaks: Clips that cannot be decoded are listed in it as not compared. Clips of
        one group of recordings (a random split has them on both sides) are compared by
        name and content only.

    Raises:
        HRI30Error: an unknown mode.
    """
    if not isinstance(mode, bool | None) and mode not in ('exact', 'names'):
        raise HRI30Error(f'leak_check={mode!r}: expected True, exact, names or False.')
    start = time.perf_counter()
    leaks = Leaks(counts={split: len(clips) for split, clips in splits.items()})
    if not mode:
        return leaks
    groups = [{clip['group'] for clip in splits.get(split, ()) if clip['group'] >= 0}
              for split in ('train', 'val')]
    leaks.shared_groups = sorted(groups[0] & groups[1])
    leaks.names = _equal_pairs(splits, lambda clip: clip['video_id'].casefold())
    if mode != 'names':
        cache = LeakCache(cache_file)
        paths = dict.fromkeys(
            clip['filename'] for clips in splits.values() for clip in clips)
        prints = (read_fingerprints(paths, cache) if mode is True
                  else read_contents(paths, cache))
        leaks.not_compared = [f'{path}: {found.problem}' for path, found
                              in sorted(prints.items()) if found.problem]
        leaks.contents = _equal_pairs(
            splits, lambda clip: prints[clip['filename']].sha256 or None)
        if mode is True:
            question = _digest(splits, prints)
            if question not in cache.verdicts:
                cache.verdicts[question] = _find_copies(splits, prints)
                cache.changed = True
            leaks.copies = cache.verdicts[question]
        cache.save()
    leaks.seconds = time.perf_counter() - start
    return leaks


def _digest(splits: Mapping[str, Sequence[Mapping]],
            prints: Mapping[str, Fingerprint]) -> str:
    """Names a question: which clips, with which contents, are on which side."""
    rows = [(split, clip['filename'], clip['group'], prints[clip['filename']].sha256)
            for split, clips in splits.items() for clip in clips]
    return hashlib.sha256(json.dumps([NEAR_BITS, rows]).encode()).hexdigest()


# ---- A config's data --------------------------------------------------------------------


def cache_file(cfg: Config) -> Path:
    """Returns where a config keeps what is known of its clips."""
    folder = cfg.get('cache_dir') or PROJECT_ROOT / 'work_dirs' / 'cache'
    return Path(folder) / 'leaks.json'


def load_splits(cfg: Config) -> dict[str, list[dict]]:
    """Lists the clips of a config's loaders, and the test clips where there are any."""
    splits = {split: list_clips(DATASETS.build(
        {**cfg[f'{split}_dataloader'].dataset, 'pipeline': []}))
        for split in ('train', 'val')}
    return {**splits, **load_test_split(cfg)}


def load_test_split(cfg: Config) -> dict[str, list[dict]]:
    """Lists the test clips under ``test``, or nothing where there are none."""
    if find_test_folder(cfg.data_root) is None:
        return {}
    return dict(test=list_clips(DATASETS.build(
        {**cfg.val_dataloader.dataset, 'pipeline': [], 'subset': 'test'})))


def refuse_test_clips(splits: Mapping[str, Sequence[Mapping]],
                      data_root: str | Path) -> None:
    """Makes sure that nothing is trained on or chosen by a clip of the test folder.

    Args:
        splits (Mapping): Samples by split; ``train`` and ``val`` are looked at.
        data_root (str | Path): The data folder.

    Raises:
        HRI30Error: a clip lies in the test folder, or is a link into it.
    """
    folder = find_test_folder(data_root)
    if folder is None:
        return
    folder = folder.resolve()
    # As many look-ups as there are folders, not clips, unless clips are links.
    resolve = lru_cache(None)(Path.resolve)
    wrong = []
    for split in ('train', 'val'):
        for clip in splits.get(split, ()):
            path = Path(clip['filename'])
            path = path.resolve() if path.is_symlink() else resolve(path.parent) / path.name
            if path.is_relative_to(folder):
                wrong.append(f'{split} {clip["filename"]}')
    if wrong:
        raise HRI30Error(
            f'{folder}: {len(wrong)} of its clips are trained on or validated with:\n'
            f'{first_cases(wrong)}\nExpected test clips to be used once, at the end. Move '
            'them out of the training folder, or remove the links.')


def check_config(cfg: Config) -> Leaks:
    """Compares all that a config's splits hold, whatever its ``leak_check`` says."""
    splits = load_splits(cfg)
    refuse_test_clips(splits, cfg.data_root)
    return find_leaks(splits, True, cache_file(cfg))


def check_leaks(splits: Mapping[str, Sequence[Mapping]], cfg: Config,
                info: Callable[[str], None], warn: Callable[[str], None]) -> Leaks:
    """Ends a training on clips that stand in two splits, before it begins.

    Args:
        splits (Mapping): Samples by split.
        cfg (Config): With ``data_root`` and, where set, ``leak_check`` and ``cache_dir``.
        info (Callable): Gets a line where all is well.
        warn (Callable): Gets a line a finding that is no error.

    Returns:
        Leaks: What was found, none of it an error.

    Raises:
        HRI30Error: a clip stands in two splits; names the pairs.
    """
    refuse_test_clips(splits, cfg.data_root)
    mode = cfg.get('leak_check')
    leaks = find_leaks(splits, mode, cache_file(cfg))
    if leaks.shared_groups:
        warn(f'{len(leaks.shared_groups)} groups of recordings stand in train and in val: '
             'this split leaks, as clips of a group are near-copies.')
    if leaks.not_compared:
        warn(f'{len(leaks.not_compared)} clips cannot be decoded, and were not compared '
             f'with other splits, such as {leaks.not_compared[0]}')
    exact = [f'{pair} (same {what})' for what, pairs in
             (('name', leaks.names), ('content', leaks.contents)) for pair in pairs]
    if exact:
        raise HRI30Error(
            f'{cfg.data_root}: {len(exact)} clips stand in two splits:\n'
            f'{first_cases(exact, limit=10)}\nExpected every clip in one. Remove one of '
            'each pair, or put both on one side with split.type=file.')
    if leaks.copies:
        raise HRI30Error(
            f'{cfg.data_root}: {len(leaks.copies)} clips are changed copies of clips of '
            f'another split:\n{first_cases(leaks.copies, limit=10)}\nExpected every clip '
            'in one split. Look at the pairs and remove one of each; if they are '
            'different clips, go on with --cfg-options leak_check=exact.')
    if mode:
        info(f'No clip stands in two splits ({leaks.seconds:.1f} s, leak_check={mode})')
    return leaks
