"""Judges clips, one by one and compared with each other."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ..video.inspection import STILL_WINDOW, Facts
from .findings import ERROR, WARNING, Finding
from .fingerprints import NEAR_BITS, near_pairs
from .reading import Inspected
from .tree import ClipFile

#: Share of a clip's frames that may be lost; training refuses a clip that lost more.
LOST_SHARE = .1
#: Share of black, green or blank frames that leaves little to learn from.
BAD_SHARE = .5
#: Share of frames that repeat the previous one, in a clip in which nothing moves.
FROZEN_SHARE = .9
#: Frames of 20 in a row that repeat the previous one: a camera or a copy that hung.
FROZEN_MOST = 16
#: Fewer frames than models here sample.
MIN_FRAMES = 8
#: Clips of HRI30 last 1 to 3 seconds.
MAX_SECONDS = 10
HRI30_RATE = 30
HRI30_LOOKS = '720 x 480 pixels and 30 frames a second'

# Other formats have no number of frames in their header.
_COUNTING_CONTAINERS = ('avi', 'mov,mp4')


def check_clips(clips: Sequence[ClipFile], names: Mapping[str, tuple],
                inspected: Mapping[str, Inspected], near: bool = True) -> list[Finding]:
    """Returns the findings of clips, from the results of reading them.

    Args:
        clips (Sequence[ClipFile]): All clips.
        names (Mapping[str, tuple]): Class, group and more of training clips, by path.
        inspected (Mapping[str, Inspected]): By path.
        near (bool): Whether to look for changed copies.
    """
    found = [finding for clip in clips
             for finding in _check_clip(clip.path, inspected[clip.path])]
    # They have too little content to tell them apart: broken, short, black.
    faulty = {finding.path for finding in found
              if finding.severity == ERROR or finding.kind == 'short'}
    found += _check_alike({path: clip.facts for path, clip in inspected.items()
                           if clip.facts.frames and not clip.facts.problem})
    groups = {path: name[:2] for path, name in names.items()}
    found += _find_duplicates(clips, groups, inspected)
    if near:
        found += _find_near_duplicates([clip for clip in clips if clip.path not in faulty],
                                       groups, inspected)
    return found


def _check_clip(path: str, clip: Inspected) -> list[Finding]:
    """Returns the findings of a clip, from the result of reading it."""
    facts = clip.facts
    if clip.died:
        found = [(clip.died, True, facts.problem)]
    elif not facts.num_bytes:
        found = [('empty', True, 'it has no bytes')]
    elif facts.problem:
        found = [('truncated', True, f'{_bytes_left(facts)}; {facts.problem}')
                 if facts.ends_early else ('undecodable', True, facts.problem)]
    else:
        found = list(_check_damage(facts))
        # A badly damaged clip has no other findings, which would say nothing more.
        if not any(bad for _, bad, _ in found):
            found += [*_check_length(facts), *_check_frames(facts)]
    return [Finding(kind, ERROR if bad else WARNING, path, detail)
            for kind, bad, detail in found]


def _bytes_left(facts: Facts) -> str:
    if facts.promised_bytes:
        return f'{facts.num_bytes:,} of {facts.promised_bytes:,} bytes are there'
    return 'the file ends prematurely'


def _check_damage(facts: Facts) -> Iterator[tuple[str, bool, str]]:
    """Yields kinds, whether they are errors, and details; so do those that follow."""
    if facts.ends_early:
        if facts.announced:
            lost = 1 - facts.frames / facts.announced
        else:
            lost = 1 - facts.num_bytes / (facts.promised_bytes or facts.num_bytes)
        yield ('truncated', lost > LOST_SHARE, f'{_bytes_left(facts)}, {facts.frames} of '
               f'{facts.announced or "an unknown number of"} frames')
    elif not facts.damaged and not facts.cut_off:
        yield from _check_counts(facts)
    # The last packet of a file that was cut short is incomplete.
    if facts.damaged > facts.ends_early:
        yield ('corrupt', facts.before_damage < (1 - LOST_SHARE) * facts.packets
               or facts.damaged > LOST_SHARE * facts.packets,
               f'{facts.damaged} of {facts.packets} frames are damaged: '
               f'{facts.first_damage}')


def _check_counts(facts: Facts) -> Iterator[tuple[str, bool, str]]:
    # Decoders may count one frame more or less.
    if facts.frames < (1 - LOST_SHARE) * facts.packets:
        yield 'corrupt', True, f'{facts.packets} packets give {facts.frames} frames'
    elif facts.container.startswith(_COUNTING_CONTAINERS):
        for count, source in ((facts.announced, 'header'), (facts.index_frames, 'index')):
            if count is not None and abs(count - facts.frames) > 1:
                yield ('frame_count', False, f'the {source} says {count or "no number of"} '
                       f'frames; there are {facts.frames}')
                return


def _check_length(facts: Facts) -> Iterator[tuple[str, bool, str]]:
    seconds = facts.seconds or facts.frames / HRI30_RATE
    if facts.cut_off:
        yield 'long', True, f'more than {facts.frames - 1:,} frames, which are not read'
    elif seconds > MAX_SECONDS:
        yield 'long', False, f'{seconds:.1f} s, expected {MAX_SECONDS} or less'
    elif facts.frames < MIN_FRAMES:
        yield 'short', False, f'{facts.frames} frames, expected {MIN_FRAMES} or more'


def _check_frames(facts: Facts) -> Iterator[tuple[str, bool, str]]:
    counts = dict(black=facts.black, green=facts.green, blank=facts.blank)
    for kind, count in counts.items():
        if count:
            yield (kind, count >= BAD_SHARE * facts.frames,
                   f'{count} of {facts.frames} frames')
    pairs = facts.frames - 1
    if pairs and sum(counts.values()) < BAD_SHARE * facts.frames and (
            facts.most_still >= FROZEN_MOST or facts.still >= BAD_SHARE * pairs):
        yield ('frozen', facts.still >= FROZEN_SHARE * pairs, f'{facts.still} of {pairs} '
               f'frames repeat the previous one, {facts.most_still} of {STILL_WINDOW} in '
               'a row')


# ---- Clips that differ from most --------------------------------------------------------


def _looks(facts: Facts) -> dict[str, str]:
    # Half frames a second: 29.97 is 30, 23.98 is 24.
    rate = f'{round(2 * facts.fps) / 2:g}' if facts.fps else 'unknown'
    interlaced = facts.interlaced > facts.frames / 2
    return dict(odd_size=f'{facts.width} x {facts.height} pixels',
                odd_rate=f'{rate} frames a second',
                odd_interlacing='interlaced frames' if interlaced else 'progressive frames')


def _check_alike(clips: Mapping[str, Facts]) -> Iterator[Finding]:
    """Finds clips that differ from most in size, rate or interlacing."""
    if not clips:
        return
    looks = {path: _looks(facts) for path, facts in clips.items()}
    usual = {}
    for kind in _looks(Facts()):
        counts = Counter(look[kind] for look in looks.values())
        usual[kind], count = counts.most_common(1)[0]
        if count <= len(clips) / 2:
            yield Finding.of(kind, '.', 'none is usual: ' + ', '.join(
                f'{look} ({number} clips)' for look, number in counts.most_common(4)))
        else:
            for path, look in looks.items():
                if look[kind] != usual[kind]:
                    yield Finding.of(kind, path, f'{look[kind]}; {count} of {len(clips)} '
                                     f'clips have {usual[kind]}')
    if counts.keys() == {'interlaced frames'}:
        yield Finding.of('interlaced', '.', f'all {len(clips)} clips')
    looks = f'{usual["odd_size"]} and {usual["odd_rate"]}'
    if looks != HRI30_LOOKS:
        yield Finding.of('unlike_hri30', '.', f'{looks}; HRI30 has {HRI30_LOOKS}')


# ---- Copies -----------------------------------------------------------------------------


def _find_duplicates(clips: Sequence[ClipFile], groups: Mapping[str, tuple],
                     inspected: Mapping[str, Inspected]) -> Iterator[Finding]:
    """Finds clips that are the same file; groups are classes and groups by path."""
    same = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.split):  # test before train
        facts = inspected[clip.path].facts
        if facts.sha256 and facts.num_bytes:
            same[facts.sha256].append(clip)
    for first, *others in same.values():
        for clip in others:
            kind, severity, note = 'duplicate', WARNING, ''
            if (first.split, clip.split) == ('test', 'train'):
                kind, severity = 'test_clip_in_training', ERROR
            elif groups.get(clip.path) != groups.get(first.path):
                severity, note = ERROR, ', of another class or group'
            yield Finding(kind, severity, clip.path, f'the same file as {first.path}{note}')


def _find_near_duplicates(clips: Sequence[ClipFile], groups: Mapping[str, tuple],
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
