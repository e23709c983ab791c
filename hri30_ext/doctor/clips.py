"""Judges clips, one by one and compared with each other."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from ..video.inspection import Facts
from .copies import NEAR_BITS, near_pairs
from .findings import ERROR, WARNING, Finding
from .reading import Inspected
from .tree import ClipFile

#: Share of a clip's frames that may be lost; training refuses a clip that lost more.
LOST_SHARE = .1
#: Share of frames that show nothing, or repeat the previous one, from which little is left
#: to learn from.
BAD_SHARE = .5
#: Share of frames that repeat the previous one, in a clip in which nothing moves.
STILL_SHARE = .9
#: A clip has an unusual length if it is so many times longer or shorter than the median.
ODD_TIMES = 4


def check_clips(clips: Sequence[ClipFile], groups: Mapping[str, tuple[int, int]],
                inspected: Mapping[str, Inspected], near: bool = True) -> list[Finding]:
    """Returns the findings of clips, from the results of reading them.

    Args:
        clips (Sequence[ClipFile]): All clips.
        groups (Mapping[str, tuple[int, int]]): Class and group of training clips, by path.
        inspected (Mapping[str, Inspected]): By path.
        near (bool): Whether to look for changed copies.
    """
    findings = [finding for clip in clips
                for finding in _check_clip(clip.path, inspected[clip.path].facts)]
    # Broken and black clips have too little content to compare.
    faulty = {finding.path for finding in findings if finding.severity == ERROR}
    sound = [clip for clip in clips if clip.path not in faulty]
    findings += _check_alike({clip.path: inspected[clip.path].facts for clip in sound})
    findings += _find_duplicates(clips, groups, inspected)
    return findings + list(_find_near(sound, groups, inspected) if near else ())


def _check_clip(path: str, facts: Facts) -> Iterator[Finding]:
    """Finds damage, and frames that show nothing, in one clip."""
    problem = facts.problem or (
        f'more than {facts.frames - 1:,} frames' if facts.cut_off else '')
    if problem:
        yield Finding.of('undecodable', path,
                         problem if facts.num_bytes else f'it has no bytes; {problem}')
        return
    expected = max(facts.packets, facts.announced if facts.ends_early else 0)
    intact = min(facts.before_damage, facts.packets - facts.damaged)
    is_lost = intact < (1 - LOST_SHARE) * expected
    if is_lost or facts.ends_early or facts.damaged:
        detail = f'{intact} of {expected} frames are intact'
        if facts.ends_early:
            detail += f'; the file is cut short, {facts.num_bytes:,} bytes are left'
        yield Finding('damaged', ERROR if is_lost else WARNING, path,
                      f'{detail}; {facts.first_damage}'.removesuffix('; '))
    if is_lost:  # other findings would say nothing more
        return
    empty, pairs = facts.blank, facts.frames - 1
    if empty:
        yield Finding('black', ERROR if empty >= BAD_SHARE * facts.frames else WARNING,
                      path, f'{empty} of {facts.frames} frames')
    elif pairs and facts.still >= BAD_SHARE * pairs:
        yield Finding('still', ERROR if facts.still >= STILL_SHARE * pairs else WARNING,
                      path, f'{facts.still} of {pairs} frames repeat the previous one')


def _check_alike(clips: Mapping[str, Facts]) -> Iterator[Finding]:
    """Finds clips that differ from most in size or rate, or much from the median length."""
    if not clips:
        return
    # Half frames a second: 29.97 is 30, 23.98 is 24.
    for kind, values in (
            ('odd_size', {path: f'{facts.width} x {facts.height} pixels'
                          for path, facts in clips.items()}),
            ('odd_rate', {path: f'{round(2 * facts.fps) / 2:g} frames a second'
                          for path, facts in clips.items()})):
        usual, count = Counter(values.values()).most_common(1)[0]
        if count > len(clips) / 2:
            for path, value in values.items():
                if value != usual:
                    yield Finding.of(kind, path, f'{value}; {count} of {len(clips)} clips '
                                     f'have {usual}')
    middle = median(facts.frames for facts in clips.values())
    for path, facts in clips.items():
        if not middle / ODD_TIMES <= facts.frames <= middle * ODD_TIMES:
            yield Finding.of('odd_length', path, f'{facts.frames} frames; the median is '
                             f'{middle:g}')


# ---- Copies -----------------------------------------------------------------------------


def _find_duplicates(clips: Sequence[ClipFile], groups: Mapping[str, tuple[int, int]],
                     inspected: Mapping[str, Inspected]) -> Iterator[Finding]:
    """Finds clips that are the same file; an error across splits, classes or groups."""
    first = {}
    for clip in sorted(clips, key=lambda clip: clip.split):  # test before train
        sha256 = inspected[clip.path].facts.sha256
        other = first.setdefault(sha256, clip)
        if sha256 and other is not clip:
            differs = (clip.split, groups.get(clip.path)) != (
                other.split, groups.get(other.path))
            yield Finding('duplicate', ERROR if differs else WARNING, clip.path,
                          f'the same file as {other.path}'
                          + ', of another split, class or group' * differs)


def _find_near(clips: Sequence[ClipFile], groups: Mapping[str, tuple[int, int]],
               inspected: Mapping[str, Inspected]) -> Iterator[Finding]:
    """Finds changed copies of clips: encoded again, scaled, or cut at their ends.

    They are searched between training and test clips, and between training clips of
    different groups. Clips of one group are as near as copies are (a drill and a polisher
    in one place: 16 bits). The groups of test clips are unknown.
    """
    train, test = ({clip.path: inspected[clip.path].hashes for clip in clips
                    if clip.split == split} for split in ('train', 'test'))
    pairs = [(*pair, ERROR) for pair in near_pairs(train, test)]
    pairs += [(distance, later, path, WARNING)
              for distance, later, path in near_pairs(train, train)
              if later > path and groups.get(later, ())[1:] != groups.get(path, ())[1:]]
    nearest = {}
    # Only the nearest: clips that are like the original are near to the copy as well.
    for distance, path, other, severity in pairs:
        if inspected[path].facts.sha256 != inspected[other].facts.sha256:
            nearest.setdefault((path, severity), (distance, other))
    for (path, severity), (distance, other) in nearest.items():
        yield Finding('near_duplicate', severity, path, f'looks like {other} ({distance} '
                      f'bits apart, copies: {NEAR_BITS} at most)')
