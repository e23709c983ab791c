"""Random numbers that depend only on seed, epoch and index."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def entropy(*numbers: int) -> np.random.SeedSequence:
    """Mixes whole numbers, such as seed, epoch and index, modulo 2**64, into a seed:
    (1, 2), (2, 1) and (1, 2, 0) give different ones."""
    words = np.array([number % 2**64 for number in numbers], np.uint64).view(np.uint32)
    return np.random.SeedSequence([len(numbers), *words.tolist()])


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seeds the CPU generators of Python, numpy and torch, and restores them afterwards;
    the numbers, as in :func:`entropy`, alone decide what is drawn within."""
    words = entropy(*numbers).generate_state(16)
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(words[:8].tobytes())
        np.random.seed(words[8:12])
        torch.random.default_generator.manual_seed(int(words[12:14].view(np.int64)[0]))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def get_states() -> dict:
    """Returns the states of all generators of this process, as tensors and plain data."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    states = dict(
        torch=torch.get_rng_state(),
        python=[version, torch.tensor(words), gauss],
        numpy=[name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached])
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_states(states: dict) -> None:
    """Restores the states that :func:`get_states` returned."""
    version, words, gauss = states['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())
