"""What is wrong with single clips, by what was read of them."""

from collections import Counter
from collections.abc import Iterator, Mapping

from ..video.inspection import STILL_WINDOW, Facts
from .decoding import Inspected
from .findings import ERROR, INFO, WARNING, Finding

#: Share of a clip's frames that may be lost; training refuses a clip that has lost more.
LOST_SHARE = .1
#: Share of black, green or blank frames from which little is left to learn.
BAD_SHARE = .5
#: Share of frames that repeat the one before, in a clip in which nothing moves.
FROZEN_SHARE = .9
#: Frames of 20 in a row that repeat the one before: a camera or a copy that hung.
FROZEN_MOST = 16
#: Fewer frames than models here look at.
MIN_FRAMES = 8
#: Clips of HRI30 last 1 to 3 seconds.
MAX_SECONDS = 10
HRI30_SIZE, HRI30_RATE = (720, 480), 30

# Others say in no header how many frames they have.
_COUNTING_CONTAINERS = ('avi', 'mov,mp4')


def check_clip(path: str, clip: Inspected) -> list[Finding]:
    """Says what is wrong with a clip.

    Args:
        path (str): Relative to the root.
        clip (Inspected): What was read of it.
    """
    facts = clip.facts
    if clip.died:
        found = [(clip.died, ERROR, facts.problem)]
    elif not facts.num_bytes:
        found = [('empty', ERROR, 'it has no bytes')]
    elif facts.problem:
        cut = _missing_bytes(facts)
        found = [('truncated', ERROR, f'{_bytes_left(facts)}; {facts.problem}') if cut
                 else ('undecodable', ERROR, facts.problem)]
    else:
        found = list(_check_damage(facts))
        # How a clip looks of which much is lost says nothing more.
        if not any(severity == ERROR for _, severity, _ in found):
            found += [*_check_length(facts), *_check_pictures(facts)]
    return [Finding(kind, severity, path, detail) for kind, severity, detail in found]


def _missing_bytes(facts: Facts) -> int:
    missing = (facts.promised_bytes or 0) - facts.num_bytes
    return missing if missing > 1 else 0  # the last byte may be one that fills up a pair


def _bytes_left(facts: Facts) -> str:
    return f'{facts.num_bytes:,} of {facts.promised_bytes:,} bytes are there'


def _check_damage(facts: Facts) -> Iterator[tuple]:
    lost = facts.announced - facts.frames
    cut = _missing_bytes(facts)
    if cut:
        much = (lost > LOST_SHARE * facts.announced if facts.announced
                else cut > LOST_SHARE * facts.promised_bytes)
        frames = f'{facts.frames} of {facts.announced}' if facts.announced else (
            f'{facts.frames}')
        yield ('truncated', ERROR if much else WARNING,
               f'{_bytes_left(facts)}, {frames} frames')
    elif not facts.damaged and not facts.cut_off:
        yield from _check_counts(facts)
    # Of a clip that was cut off, the last packet is a part of one.
    if facts.damaged > bool(cut):
        refused = facts.before_damage < (1 - LOST_SHARE) * facts.packets
        much = refused or facts.damaged > LOST_SHARE * facts.packets
        yield ('corrupt', ERROR if much else WARNING,
               f'{facts.damaged} of {facts.packets} frames are damaged: '
               f'{facts.first_damage}')


def _check_counts(facts: Facts) -> Iterator[tuple]:
    """Compares numbers of frames; one more or less is how decoders count."""
    if facts.frames < (1 - LOST_SHARE) * facts.packets:
        yield ('corrupt', ERROR, f'{facts.packets} packets give {facts.frames} frames')
    elif facts.container.startswith(_COUNTING_CONTAINERS) and not facts.announced:
        yield ('frame_count', WARNING,
               f'the header has no number of frames; there are {facts.frames}')
    elif facts.announced and abs(facts.announced - facts.frames) > 1:
        yield ('frame_count', WARNING, f'the header says {facts.announced} frames; there '
               f'are {facts.frames}')
    elif facts.index_frames is not None and abs(facts.index_frames - facts.frames) > 1:
        yield ('frame_count', WARNING, f'the index lists {facts.index_frames} frames; '
               f'there are {facts.frames}')


def _check_length(facts: Facts) -> Iterator[tuple]:
    if facts.cut_off:
        yield ('long', ERROR, f'more than {facts.frames - 1:,} frames, which are not read')
        return
    if facts.frames < MIN_FRAMES:
        yield ('short', WARNING, f'{facts.frames} frames, expected {MIN_FRAMES} or more')
    seconds = facts.seconds or facts.frames / HRI30_RATE
    if seconds > MAX_SECONDS:
        yield ('long', WARNING, f'{seconds:.1f} s, expected {MAX_SECONDS} or less')


def _check_pictures(facts: Facts) -> Iterator[tuple]:
    for kind in ('black', 'green', 'blank'):
        count = getattr(facts, kind)
        if count:
            much = count >= BAD_SHARE * facts.frames
            yield (kind, ERROR if much else WARNING, f'{count} of {facts.frames} frames')
    nothing_seen = facts.black + facts.green + facts.blank >= BAD_SHARE * facts.frames
    if nothing_seen or facts.frames < 2:
        return
    pairs = facts.frames - 1
    if facts.still >= FROZEN_SHARE * pairs:
        yield ('frozen', ERROR, f'{facts.still} of {pairs} frames repeat the one before')
    elif facts.most_still >= FROZEN_MOST or facts.still >= BAD_SHARE * pairs:
        yield ('frozen', WARNING, f'{facts.still} of {pairs} frames repeat the one before, '
               f'{facts.most_still} of {STILL_WINDOW} in a row')


# ---- Clips against each other -----------------------------------------------------------


def check_alike(clips: Mapping[str, Facts]) -> list[Finding]:
    """Finds clips of another size, rate or kind of frames than most.

    Args:
        clips (Mapping[str, Facts]): Clips that can be decoded, by path.
    """
    if not clips:
        return []
    found, usual = [], {}
    for kind, what, key, show in (
            ('odd_size', 'pixels', lambda facts: (facts.width, facts.height),
             lambda size: f'{size[0]} x {size[1]}'),
            # Half frames a second: 29.97 is 30, 23.98 is 24.
            ('odd_rate', 'frames a second', lambda facts: round(2 * facts.fps) / 2,
             lambda rate: f'{rate:g}' if rate else 'unknown')):
        counts = Counter(map(key, clips.values()))
        most, count = counts.most_common(1)[0]
        usual[kind] = most
        if count <= len(clips) / 2:
            listed = ', '.join(f'{show(value)} ({number} clips)'
                               for value, number in counts.most_common(4))
            found.append(Finding(kind, WARNING, '.', f'no {what} are usual: {listed}'))
            continue
        found += [Finding(kind, WARNING, path, f'{show(key(facts))} {what}, where '
                          f'{count} of {len(clips)} clips have {show(most)}')
                  for path, facts in clips.items() if key(facts) != most]
    size, rate = usual['odd_size'], usual['odd_rate']
    if (size, rate) != (HRI30_SIZE, HRI30_RATE):
        found.append(Finding(
            'unlike_hri30', INFO, '.', f'{size[0]} x {size[1]} pixels and {rate:g} frames '
            f'a second, where HRI30 has {HRI30_SIZE[0]} x {HRI30_SIZE[1]} and '
            f'{HRI30_RATE}'))
    return found + _check_interlacing(clips)


def _check_interlacing(clips: Mapping[str, Facts]) -> list[Finding]:
    interlaced = {path for path, facts in clips.items()
                  if facts.interlaced > facts.frames / 2}
    if len(interlaced) == len(clips):
        return [Finding('interlaced', INFO, '.', f'all {len(clips)} clips are interlaced')]
    many = len(interlaced) > len(clips) / 2
    odd = clips.keys() - interlaced if many else interlaced
    return [Finding('odd_interlacing', WARNING, path,
                    'progressive, where most are interlaced' if many
                    else 'interlaced, where most are not') for path in sorted(odd)]
