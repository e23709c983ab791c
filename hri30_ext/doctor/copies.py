"""Finds changed copies of clips by perceptual hashes of their frames.

HRI30 has one fixed camera, so single frames of different clips look alike: two clips are
copies only if *every* frame matches, at one shift in time.

Shapes: F frames, W words of 64 bits of a frame's hash (4), N clips.
"""

from collections.abc import Mapping

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

#: Clips are copies if no frame differs from its counterpart by more bits, of 256. Measured
#: by :func:`near_distance` on rendered clips of 720 x 480 and on 27 real ones of another
#: kind (640 x 480, arm gestures of three people in front of one camera):
#:
#: - 324 copies (MPEG-4 with quantizer 25; 360 x 240; 224 x 224 with quantizer 20;
#:   360 x 240 without the first 8 frames): rendered 16 at most, real 14, and one 20
#: - different clips of one group, 1,284 pairs: 22 at least, real 24
#: - clips of different groups, 1,467 pairs: 104 at least, real 84
#:
#: The nearest different clips show a worker who drills in one place. Without the background
#: (the clip's mean frame) hashes are worse: where little moves, they hash encoder noise.
NEAR_BITS = 18
#: Clips with fewer frames are not compared: they would match by chance.
MIN_FRAMES = 8


def near_distance(a: bytes, b: bytes) -> int:
    """Returns how far two clips are from being copies, by the hashes of their frames.

    It is the most bits by which a frame differs from its counterpart, at the shift that
    fits best, which is at most a quarter of the longer clip.

    >>> frames = [bytes([2**i]) + bytes(31) for i in range(8)]
    >>> clip, backwards = b''.join(frames), b''.join(frames[::-1])
    >>> near_distance(clip, clip[2 * 32:]), near_distance(clip, backwards)
    (0, 2)
    """
    a_FW, b_FW = _words(a), _words(b)
    shift, shorter = max(len(a_FW), len(b_FW)) // 4, min(len(a_FW), len(b_FW))
    distances = []
    for offset in range(-shift, shift + 1):
        counterpart_FW = b_FW[max(0, offset):]
        shifted_FW = a_FW[max(0, -offset):]
        count = min(len(shifted_FW), len(counterpart_FW))
        # A shift that leaves few frames to compare would fit by chance.
        if count >= .6 * shorter:
            distances.append(_count_bits(shifted_FW[:count], counterpart_FW[:count]).max())
    return int(min(distances))


def _words(hashes: bytes) -> np.ndarray:
    return np.frombuffer(hashes, np.uint64).reshape(-1, 4)


def _count_bits(a_FW: np.ndarray, b_FW: np.ndarray) -> np.ndarray:
    """Returns Hamming distances between frames, (..., )."""
    return np.bitwise_count(a_FW ^ b_FW).sum(axis=-1, dtype=np.int64)


def near_pairs(a: Mapping[str, bytes], b: Mapping[str, bytes]
               ) -> list[tuple[int, str, str]]:
    """Finds copies in hashes of the frames of clips; short clips, and a clip and itself,
    are ignored.

    Returns:
        list: Distances in bits, and the keys in a and in b, nearest first.
    """
    a, b = ({key: hashes for key, hashes in side.items() if len(hashes) >= 32 * MIN_FRAMES}
            for side in (a, b))
    keys_a, pairs = list(a), []
    middle_N1W = _words(b''.join(hashes[len(hashes) // 64 * 32:][:32]
                                 for hashes in a.values()))[:, None]
    for key_b, hashes in b.items():
        # The middle frame excludes nearly all other clips quickly.
        nearest_N = _count_bits(middle_N1W, _words(hashes)).min(axis=1)
        for i in np.flatnonzero(nearest_N <= NEAR_BITS):
            if keys_a[i] != key_b:
                distance = near_distance(a[keys_a[i]], hashes)
                if distance <= NEAR_BITS:
                    pairs.append((distance, keys_a[i], key_b))
    return sorted(pairs)


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
