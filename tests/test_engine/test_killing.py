"""A small run of tests/nightly/stress/kill.py."""

import sys

import pytest
from conftest import PROJECT_ROOT

sys.path.append(str(PROJECT_ROOT / 'tests' / 'nightly' / 'stress'))

from kill import stress


@pytest.mark.slow
def test_two_killed_trainings_come_to_the_same(tmp_path):
    said = []
    assert stress(tmp_path / 'out', kills=2, jobs=1, epochs=4, seed=3,
                  say=said.append), said
    assert '2 of 2 equal to the uninterrupted training, bit for bit; 2 kills' in said[-1]
