"""Runs every seed of the fuzzers, whole and damaged."""

import importlib
import random
import sys

import pytest
from conftest import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / 'tests' / 'nightly' / 'fuzz'))
from mutate import mutate, seed_videos
from run import TARGETS, seeds  # tests/nightly/fuzz/run.py

CORPORA = [target for target in TARGETS if target != 'videos']


@pytest.mark.parametrize('target', CORPORA)
def test_seeds_are_no_faults_and_damaged_neither(target):
    module, inputs = importlib.import_module(target), seeds(target)
    assert len(inputs) >= 12
    for number, (data, _) in enumerate(inputs):
        module.one_input(data)
        rng = random.Random(number)
        for _ in range(10):
            module.one_input(mutate(data, rng))


def test_videos_that_were_faults_are_refused(tmp_path):
    """A DV file whose sound begins in its midst, which PyAV did not know."""
    path, = (path for path in seed_videos(tmp_path) if path.suffix == '.dv')
    rng = random.Random('2-18092')
    rng.choice(range(6))
    importlib.import_module('videos').one_input(mutate(path.read_bytes(), rng), '.dv')
