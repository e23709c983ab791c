"""Mutated checkpoint archives: what is accepted must be the same to every reader.

``python tests/archive_mutants.py --mutants 10000`` counts for long; tests/test_hostile runs
a few hundred.
"""

import argparse
import io
import random
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hri30_ext.modules  # noqa: F401
from hri30_ext.checkpoints.archive import check_checkpoint
from hri30_ext.checkpoints.unpickling import (
    STAND_INS,
    DamagedContent,
    RefusedContent,
    restore,
)

#: What a checker raises for a damaged archive, besides its own errors.
_DAMAGE = (RefusedContent, DamagedContent, zipfile.BadZipFile, RuntimeError, ValueError,
           KeyError, IndexError, EOFError, NotImplementedError, OverflowError, TypeError,
           AttributeError)


def make_archives() -> list[bytes]:
    """Makes archives as torch and as Python's zipfile write them."""
    content = {'state_dict': OrderedDict(a=torch.rand(4, 3), b=torch.ones(2)),
               'history': HistoryBuffer([1., 2.], [1, 1]), 'best': np.float64(0.5)}
    file = io.BytesIO()
    torch.save(content, file)
    repacked = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(repacked, 'w') as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return [file.getvalue(), repacked.getvalue()]


def read_by_zipfile(data: bytes) -> dict[str, bytes]:
    """Reads all records with Python, by name without the folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}


def read_by_torch(data: bytes) -> dict[str, bytes]:
    """Reads all records with torch."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


def count_accepted(mutants: int, seed: int = 0) -> int:
    """Mutates a byte of an archive each time, headers and directory more often.

    Returns:
        int: How many mutants were accepted.

    Raises:
        AssertionError: an accepted one is not the same to both readers.
    """
    rng = random.Random(seed)
    archives = make_archives()
    # Bytes of headers and of the directory: outside them checksums find most mutants.
    places = []
    for data in archives:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            headers = [i for entry in archive.infolist()
                       for i in range(entry.header_offset, entry.header_offset + 60)]
            places.append(headers + list(range(archive.start_dir, len(data))))
    accepted = 0
    for _ in range(mutants):
        which = rng.randrange(len(archives))
        data = bytearray(archives[which])
        place = (rng.choice(places[which]) if rng.random() < 0.8
                 else rng.randrange(len(data)))
        data[place] ^= rng.randrange(1, 256)
        data = bytes(data)
        try:
            with torch.serialization.safe_globals(STAND_INS):
                check_checkpoint(io.BytesIO(data))
                restore(torch.load(io.BytesIO(data), 'cpu', weights_only=True))
        except _DAMAGE:
            continue
        accepted += 1
        assert read_by_zipfile(data) == read_by_torch(data), (which, place, data[place])
    return accepted


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--mutants', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    start = time.monotonic()
    accepted = count_accepted(args.mutants, args.seed)
    print(f'{args.mutants:,} mutants in {time.monotonic() - start:.0f} s, {accepted:,} '
          'accepted, all the same to zipfile and to torch')
