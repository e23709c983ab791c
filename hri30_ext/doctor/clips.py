"""Judges clips, one by one and compared with each other."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence

from ..names import ClipName
from ..utils.text import printable
from ..video.inspection import STILL_WINDOW, Facts
from .findings import ERROR, INFO, WARNING, Finding
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
HRI30_SIZE, HRI30_RATE = (720, 480), 30

# Other formats have no number of frames in their header.
_COUNTING_CONTAINERS = ('avi', 'mov,mp4')


def check_clip(path: str, clip: Inspected) -> list[Finding]:
    """Returns the findings of a clip.

    Args:
        path (str): Relative to the root.
        clip (Inspected): The result of reading it.
    """
    facts = clip.facts
    if clip.died:
        found = [(clip.died, ERROR, facts.problem)]
    elif not facts.num_bytes:
        found = [('empty', ERROR, 'it has no bytes')]
    elif facts.problem:
        found = [('truncated', ERROR, f'{_bytes_left(facts)}; {facts.problem}')
                 if facts.ends_early else ('undecodable', ERROR, facts.problem)]
    else:
        found = list(_check_damage(facts))
        # A damaged clip has no other findings, which would say nothing more.
        if not any(severity == ERROR for _, severity, _ in found):
            found += [*_check_length(facts), *_check_frames(facts)]
    return [Finding(kind, severity, path, detail) for kind, severity, detail in found]


def _bytes_left(facts: Facts) -> str:
    if facts.promised_bytes:
        return f'{facts.num_bytes:,} of {facts.promised_bytes:,} bytes are there'
    return 'the file ends prematurely'


def _check_damage(facts: Facts) -> Iterator[tuple]:
    if facts.ends_early:
        if facts.announced:
            frames = f'{facts.frames} of {facts.announced} frames'
            lost = 1 - facts.frames / facts.announced
        else:
            frames = f'{facts.frames} frames'
            lost = 1 - facts.num_bytes / (facts.promised_bytes or facts.num_bytes)
        yield ('truncated', ERROR if lost > LOST_SHARE else WARNING,
               f'{_bytes_left(facts)}, {frames}')
    elif not facts.damaged and not facts.cut_off:
        yield from _check_counts(facts)
    # The last packet of a file that was cut short is incomplete.
    if facts.damaged > facts.ends_early:
        much = (facts.before_damage < (1 - LOST_SHARE) * facts.packets
                or facts.damaged > LOST_SHARE * facts.packets)
        yield ('corrupt', ERROR if much else WARNING, f'{facts.damaged} of '
               f'{facts.packets} frames are damaged: {facts.first_damage}')


def _check_counts(facts: Facts) -> Iterator[tuple]:
    """Compares numbers of frames, which may differ by one between decoders."""
    if facts.frames < (1 - LOST_SHARE) * facts.packets:
        yield ('corrupt', ERROR, f'{facts.packets} packets give {facts.frames} frames')
    elif facts.container.startswith(_COUNTING_CONTAINERS):
        header = f'header says {facts.announced}' if facts.announced else (
            'header has no number of')
        for count, source in ((facts.announced, header),
                              (facts.index_frames, f'index lists {facts.index_frames}')):
            if count is not None and abs(count - facts.frames) > 1:
                yield ('frame_count', WARNING,
                       f'the {source} frames; there are {facts.frames}')
                return


def _check_length(facts: Facts) -> Iterator[tuple]:
    if facts.cut_off:
        yield ('long', ERROR, f'more than {facts.frames - 1:,} frames, which are not read')
        return
    if facts.frames < MIN_FRAMES:
        yield ('short', WARNING, f'{facts.frames} frames, expected {MIN_FRAMES} or more')
    seconds = facts.seconds or facts.frames / HRI30_RATE
    if seconds > MAX_SECONDS:
        yield ('long', WARNING, f'{seconds:.1f} s, expected {MAX_SECONDS} or less')


def _check_frames(facts: Facts) -> Iterator[tuple]:
    counts = dict(black=facts.black, green=facts.green, blank=facts.blank)
    for kind, count in counts.items():
        if count:
            yield (kind, ERROR if count >= BAD_SHARE * facts.frames else WARNING,
                   f'{count} of {facts.frames} frames')
    pairs = facts.frames - 1
    if pairs < 1 or sum(counts.values()) >= BAD_SHARE * facts.frames:
        return
    repeats = f'{facts.still} of {pairs} frames repeat the previous one'
    if facts.still >= FROZEN_SHARE * pairs:
        yield 'frozen', ERROR, repeats
    elif facts.most_still >= FROZEN_MOST or facts.still >= BAD_SHARE * pairs:
        yield ('frozen', WARNING,
               f'{repeats}, {facts.most_still} of {STILL_WINDOW} in a row')


# ---- Clips that differ from most --------------------------------------------------------


def check_alike(clips: Mapping[str, Facts]) -> list[Finding]:
    """Finds clips that differ from most in size, rate or interlacing.

    Args:
        clips (Mapping[str, Facts]): Clips that can be decoded, by path.
    """
    if not clips:
        return []
    sizes = {path: f'{facts.width} x {facts.height}' for path, facts in clips.items()}
    # Half frames a second: 29.97 is 30, 23.98 is 24.
    rates = {path: f'{round(2 * facts.fps) / 2:g}' if facts.fps else 'unknown'
             for path, facts in clips.items()}
    scans = {path: 'interlaced' if facts.interlaced > facts.frames / 2 else 'progressive'
             for path, facts in clips.items()}
    found = []
    for kind, unit, values in (('odd_size', ' pixels', sizes),
                               ('odd_rate', ' frames a second', rates),
                               ('odd_interlacing', ' frames', scans)):
        counts = Counter(values.values())
        usual, count = counts.most_common(1)[0]
        if kind != 'odd_interlacing' and count <= len(clips) / 2:
            listed = ', '.join(f'{value} ({number} clips)'
                               for value, number in counts.most_common(4))
            found.append(Finding(kind, WARNING, '.', f'no usual{unit}: {listed}'))
            continue
        found += [Finding(kind, WARNING, path, f'{value}{unit}; {count} of {len(clips)} '
                          f'clips have {usual}{unit}') for path, value in values.items()
                  if value != usual]
    if set(scans.values()) == {'interlaced'}:
        found.append(Finding('interlaced', INFO, '.', f'all {len(clips)} clips'))
    size, rate = (Counter(values.values()).most_common(1)[0][0]
                  for values in (sizes, rates))
    hri30 = '{} x {}'.format(*HRI30_SIZE)
    if (size, rate) != (hri30, str(HRI30_RATE)):
        found.append(Finding('unlike_hri30', INFO, '.', f'{size} pixels and {rate} frames '
                             f'a second; HRI30 has {hri30} and {HRI30_RATE}'))
    return found


# ---- Copies -----------------------------------------------------------------------------


def find_copies(clips: Sequence[ClipFile], names: Mapping[str, ClipName],
                inspected: Mapping[str, Inspected], near: bool = True,
                faulty: Container[str] = ()) -> list[Finding]:
    """Finds copies of clips, within a split and across splits.

    Args:
        clips (Sequence[ClipFile]): All clips.
        names (Mapping[str, ClipName]): Parsed names, by path.
        inspected (Mapping[str, Inspected]): The results of reading them, by path.
        near (bool): Whether to look for changed copies: re-encoded, scaled, or cut at
            their ends.
        faulty (Container[str]): Paths of clips with too little content to tell them apart:
            broken, short, black.

    Returns:
        list[Finding]: Changed copies are searched between training and test clips, and
        between training clips of different groups. Clips of one group are as near as
        copies are (a drill and a polisher in one place: 16 bits). The groups of test
        clips are unknown.
    """
    found = list(_find_equal(clips, names, inspected))
    if not near:
        return found
    train, test = ([clip.path for clip in clips if clip.split == split
                    and inspected[clip.path].hashes and clip.path not in faulty]
                   for split in ('train', 'test'))

    train_hashes, test_hashes = ([inspected[path].hashes for path in paths]
                                 for paths in (train, test))
    pairs = [(distance, train[i], test[j], ERROR)
             for i, j, distance in near_pairs(train_hashes, test_hashes)]
    pairs += [(distance, train[j], train[i], WARNING)
              for i, j, distance in near_pairs(train_hashes, train_hashes)
              if i < j and _group(names, train[i])[1:] != _group(names, train[j])[1:]]
    seen = set()
    # Only the nearest: clips that are like the original are near to the copy as well.
    for distance, path, other, severity in sorted(pairs):
        if (path, severity) not in seen and _digest(inspected, path) != _digest(
                inspected, other):
            seen.add((path, severity))
            found.append(Finding(
                'near_duplicate', severity, path, f'looks like {printable(other)} '
                f'({distance} bits apart, copies are up to {NEAR_BITS})'))
    return found


def _digest(inspected: Mapping[str, Inspected], path: str) -> str:
    return inspected[path].facts.sha256


def _group(names: Mapping[str, ClipName], path: str) -> tuple:
    return names[path][:2] if path in names else ()


def _find_equal(clips: Sequence[ClipFile], names: Mapping[str, ClipName],
                inspected: Mapping[str, Inspected]) -> Iterator[Finding]:
    same = defaultdict(list)
    for clip in clips:
        digest = _digest(inspected, clip.path)
        if digest and clip.num_bytes:
            same[digest].append(clip)
    for copies in same.values():
        first, *others = sorted(copies, key=lambda clip: clip.split)  # test before train
        for clip in others:
            kind, severity, note = 'duplicate', WARNING, ''
            if (first.split, clip.split) == ('test', 'train'):
                kind, severity = 'test_clip_in_training', ERROR
            elif _group(names, clip.path) != _group(names, first.path):
                severity, note = ERROR, ', of another class or group'
            yield Finding(kind, severity, clip.path,
                          f'the same file as {printable(first.path)}{note}')
