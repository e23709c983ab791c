"""Fingerprints of clips, by which copies are found, and the file that stores them.

A fingerprint is the SHA-256 of the file and a perceptual hash of every frame. HRI30 has one
fixed camera, so single frames of different clips look alike: two clips are copies only if
*every* frame matches, at one shift in time.

Shapes: T frames, F frames of several clips, B bits of a frame's hash, N clips.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_json, sha256_of
from ..utils.reading import read_json
from ..video.decode import time_limit
from ..video.inspection import HASH_SIDE
from .reading import Inspected, inspect_clips

#: Clips are copies if no frame differs from its counterpart by more bits, of 256.
#: Measured by :func:`near_distance` on rendered clips (720 x 480) and on 27 real clips of
#: another kind (640 x 480, arm gestures of three people in front of one camera):
#:
#: ================================================== =============== ==============
#: pairs                                              rendered        real
#: ================================================== =============== ==============
#: copies, 324 of them: MPEG-4 with coarse blocks     16 at most      20 (one), else
#: (quantizer 25), 360 x 240, 224 x 224 at quantizer                  14 at most
#: 20, 360 x 240 without the first 8 frames
#: different clips of one group, 1,284 pairs          22 at least     24 at least
#: clips of different groups, 1,467 pairs             104 at least    84 at least
#: ================================================== =============== ==============
#:
#: The nearest different clips show a worker who drills in one place. Hashes of the
#: difference from the clip's mean frame, without the background, are worse: where the
#: worker hardly moves they hash encoder noise (copies up to 116, different clips from 56).
NEAR_BITS = 18


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
        self.path, self._changed = Path(path), False
        try:
            self.clips = read_json(self.path, 'fingerprints of clips', 256 << 20,
                                   _Stored).clips
        except HRI30Error:
            self.clips: dict[str, Fingerprint] = {}

    def get(self, path: str | Path) -> Fingerprint | None:
        """Returns the fingerprint of a file that has not changed since."""
        stored = self.clips.get(os.path.realpath(path))
        return stored if stored and _status(path) == (stored.size, stored.mtime) else None

    def add(self, path: str | Path, clip: Inspected) -> Fingerprint:
        """Stores the fingerprint of a clip, if it could be read."""
        added = Fingerprint(*_status(path), clip.facts.sha256, clip.hashes)
        # A machine that is busy may have taken too long.
        if not clip.facts.problem and added.size == clip.facts.num_bytes:
            self.clips[os.path.realpath(path)] = added
            self._changed = True
        return added

    def read(self, paths: Iterable[str], decode: bool = True
             ) -> tuple[dict[str, Fingerprint], dict[str, str]]:
        """Returns fingerprints, computes those that are not stored, and saves them.

        Args:
            paths (Iterable[str]): The clips.
            decode (bool): Whether hashes of frames are needed, beside the SHA-256.

        Returns:
            tuple: The fingerprints of clips that can be read, and the problems of the
            others, both by path.
        """
        found = {path: self.get(path) for path in paths}
        new = [path for path, stored in found.items() if stored is None]
        problems = {}
        if decode:
            for path, clip in inspect_clips('', new, seconds=time_limit()).items():
                found[path] = self.add(path, clip)
                if clip.facts.problem:
                    problems[path] = clip.facts.problem
        else:
            for path in new:
                try:
                    found[path] = Fingerprint(*_status(path), sha256_of(path))
                except OSError as error:
                    problems[path] = str(error)
        self.save()
        return {path: found[path] for path in found if path not in problems}, problems

    def save(self) -> None:
        """Writes the file if something is new, without clips that are gone."""
        if self._changed:
            self.clips = {path: clip for path, clip in self.clips.items()
                          if os.path.exists(path)}
            # json, unlike msgspec, writes names that are not UTF-8.
            atomic_write_json(self.path, msgspec.to_builtins(_Stored(2, self.clips)), None)
            self._changed = False


def _status(path: str | Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # reading it will tell what is wrong
        return -1, -1
    return status.st_size, status.st_mtime_ns


# ---- Changed copies ---------------------------------------------------------------------


def near_distance(a_TB: np.ndarray, b_TB: np.ndarray) -> int:
    """Returns how far two clips are from being copies, by the hashes of their frames, bool.

    It is the most bits by which a frame differs from its counterpart, at the shift that
    fits best, which is at most a quarter of the longer clip.

    >>> clip = np.eye(8, dtype=bool)
    >>> near_distance(clip, clip[2:]), near_distance(clip, clip[::-1])
    (0, 2)
    """
    distances = _distances(_as_signs(a_TB), _as_signs(b_TB))
    shift = max(distances.shape) // 4
    diagonals = (distances.diagonal(offset) for offset in range(-shift, shift + 1))
    # A shift that leaves few frames to compare would fit by chance.
    least = 0.6 * min(distances.shape)
    return int(min(diagonal.max() for diagonal in diagonals if len(diagonal) >= least))


def _as_signs(bits_FB: np.ndarray) -> np.ndarray:
    return bits_FB.astype(np.float32) * 2 - 1


def _distances(a_FB: np.ndarray, b_FB: np.ndarray) -> np.ndarray:
    """Returns Hamming distances between rows of +-1, (frames of a, frames of b)."""
    return (a_FB.shape[1] - a_FB @ b_FB.T) / 2


def near_pairs(a: Mapping[str, bytes], b: Mapping[str, bytes]
               ) -> list[tuple[int, str, str]]:
    """Finds copies in hashes of the frames of clips; those without hashes are ignored.

    Returns:
        list: Distances in bits, and the keys in a and in b, nearest first.
    """
    a_NTB, b_NTB = ({key: unpack_hashes(hashes) for key, hashes in side.items() if hashes}
                    for side in (a, b))
    if not a_NTB or not b_NTB:
        return []
    b_FB = _as_signs(np.concatenate(list(b_NTB.values())))
    starts = np.cumsum([0, *map(len, b_NTB.values())])[:-1]
    keys_a, keys_b = list(a_NTB), list(b_NTB)
    pairs = []
    for first in range(0, len(keys_a), 256):  # limits the memory
        some = keys_a[first:first + 256]
        # The middle frame excludes nearly all other clips quickly.
        middle_NB = np.stack([a_NTB[key][len(a_NTB[key]) // 2] for key in some])
        nearest = np.minimum.reduceat(_distances(_as_signs(middle_NB), b_FB), starts,
                                      axis=1)
        for i, j in np.argwhere(nearest <= NEAR_BITS):
            distance = near_distance(a_NTB[some[i]], b_NTB[keys_b[j]])
            if distance <= NEAR_BITS:
                pairs.append((distance, some[i], keys_b[j]))
    return sorted(pairs)


def unpack_hashes(hashes: bytes) -> np.ndarray:
    """Returns the hashes of a clip as (T, B) bool."""
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8))
    return bits.reshape(-1, HASH_SIDE**2).astype(bool)
