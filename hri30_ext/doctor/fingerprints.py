"""Fingerprints of clips, by which copies are found, and the file that stores them.

A fingerprint is the SHA-256 of the file and a perceptual hash of every frame. HRI30 has one
fixed camera, so single frames of different clips look alike: two clips are copies only if
*every* frame matches, at one shift in time.

Shapes: T frames of a clip, F frames, B bits of a frame's hash, N clips.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_json
from ..utils.reading import read_json
from ..video.decode import time_limit
from ..video.inspection import HASH_SIDE
from .reading import Inspected, inspect_clips

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

_BLOCK = 1024  # frames of a clip that are compared at once: long ones take gigabytes


class Fingerprint(msgspec.Struct):
    """What is compared of a clip, and the size and time of the file it was made from."""
    size: int
    mtime: int  # ns
    sha256: str
    hashes: bytes = b''  # 32 for each frame; empty if they were not computed


class _Stored(msgspec.Struct):
    version: Literal[2]
    clips: dict[str, Fingerprint]


class FingerprintStore:
    """Fingerprints of earlier runs in a JSON file, shared by doctor and leak check.

    A clip whose size or time has changed is read again. A file that cannot be read, or is
    of another version, counts as empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.clips = Path(path), {}
        with contextlib.suppress(HRI30Error):
            self.clips = read_json(self.path, 'fingerprints of clips', 256 << 20,
                                   _Stored).clips

    def get(self, path: str | Path) -> Fingerprint | None:
        """Returns the fingerprint of a file that has not changed since."""
        stored = self.clips.get(os.path.realpath(path))
        return stored if stored and _status(path) == (stored.size, stored.mtime) else None

    def add(self, path: str | Path, clip: Inspected) -> Fingerprint:
        """Returns the fingerprint of a clip, and stores it if the clip could be read."""
        added = Fingerprint(*_status(path), clip.facts.sha256, clip.hashes)
        # A machine that is busy may have taken too long.
        if not clip.facts.problem and added.size == clip.facts.num_bytes:
            self.clips[os.path.realpath(path)] = added
        return added

    def read(self, paths: Iterable[str]) -> tuple[dict[str, Fingerprint], dict[str, str]]:
        """Returns fingerprints, computes those that are not stored, and saves them.

        Returns:
            tuple: The fingerprints of clips that can be read, and the problems of the
            others, both by path.
        """
        found = {path: self.get(path) for path in paths}
        new = [path for path, stored in found.items() if stored is None]
        problems = {}
        if new:
            for path, clip in inspect_clips('', new, seconds=time_limit()).items():
                found[path] = self.add(path, clip)
                if clip.facts.problem:
                    problems[path] = clip.facts.problem
            self.save()
        return {path: found[path] for path in found if path not in problems}, problems

    def save(self) -> None:
        """Writes the file, without clips that are gone.

        If it cannot be written, the next comparison decodes the clips again.
        """
        kept = {path: clip for path, clip in self.clips.items() if os.path.exists(path)}
        # json, unlike msgspec, writes names that are not UTF-8.
        with contextlib.suppress(HRI30Error):
            atomic_write_json(self.path, msgspec.to_builtins(_Stored(2, kept)), None)


def _status(path: str | Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # reading it will tell what is wrong
        return -1, -1
    return status.st_size, status.st_mtime_ns


# ---- Changed copies ---------------------------------------------------------------------


def near_distance(a: bytes, b: bytes) -> int:
    """Returns how far two clips are from being copies, by the hashes of their frames.

    It is the most bits by which a frame differs from its counterpart, at the shift that
    fits best, which is at most a quarter of the longer clip.

    >>> frames = [bytes([2**i]) + bytes(31) for i in range(8)]
    >>> clip, backwards = b''.join(frames), b''.join(frames[::-1])
    >>> near_distance(clip, clip[2 * 32:]), near_distance(clip, backwards)
    (0, 2)
    """
    a_FB, b_FB = _signs(a), _signs(b)
    lengths = len(a_FB), len(b_FB)
    shift = max(lengths) // 4
    # A shift that leaves few frames to compare would fit by chance.
    worst = {offset: 0 for offset in range(-shift, shift + 1) if (
        min(lengths[0], lengths[1] - offset) - max(0, -offset) >= .6 * min(lengths))}
    for first in range(0, len(a_FB), _BLOCK):
        distances = _distances(a_FB[first:first + _BLOCK], b_FB)
        for offset in worst:
            worst[offset] = max(worst[offset],
                                distances.diagonal(first + offset).max(initial=0))
    return int(min(worst.values()))


def _signs(hashes: bytes) -> np.ndarray:
    """Returns the bits of frames as -1 and 1, (F, B) float32."""
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8)).reshape(-1, HASH_SIDE**2)
    return bits.astype(np.float32) * 2 - 1


def _distances(a_FB: np.ndarray, b_FB: np.ndarray) -> np.ndarray:
    """Returns Hamming distances between rows of signs, (frames of a, frames of b)."""
    return (a_FB.shape[1] - a_FB @ b_FB.T) / 2


def near_pairs(a: Mapping[str, bytes], b: Mapping[str, bytes]
               ) -> list[tuple[int, str, str]]:
    """Finds copies in hashes of the frames of clips; those without hashes, and a clip and
    itself, are ignored.

    Returns:
        list: Distances in bits, and the keys in a and in b, nearest first.
    """
    a, b = ({key: hashes for key, hashes in side.items() if hashes} for side in (a, b))
    if not a:
        return []
    keys_a, pairs = list(a), []
    middle_NB = _signs(b''.join(hashes[len(hashes) // 64 * 32:][:32]
                                for hashes in a.values()))
    for key_b, hashes in b.items():
        # The middle frame excludes nearly all other clips quickly.
        nearest_N = _distances(middle_NB, _signs(hashes)).min(axis=1)
        for i in np.flatnonzero(nearest_N <= NEAR_BITS):
            if keys_a[i] != key_b:
                distance = near_distance(a[keys_a[i]], hashes)
                if distance <= NEAR_BITS:
                    pairs.append((distance, keys_a[i], key_b))
    return sorted(pairs)
