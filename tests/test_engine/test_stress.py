"""Small runs of tests/nightly/stress/kill.py and two_hosts.py."""

import subprocess
import sys

import pytest
from conftest import PROJECT_ROOT

sys.path.append(str(PROJECT_ROOT / 'tests' / 'nightly' / 'stress'))

import two_hosts
from kill import stress

pytestmark = pytest.mark.slow


def test_three_killed_trainings_come_to_the_same(tmp_path):
    said = []
    assert stress(tmp_path / 'out', kills=3, jobs=1, epochs=4, seed=3,
                  say=said.append), said


def test_two_hosts_agree_and_miss_each_other(tmp_path):
    if not two_hosts.can_run():
        pytest.skip('needs root and iproute2, to make network namespaces')
    done = subprocess.run(
        [sys.executable, two_hosts.__file__, '--folder', str(tmp_path)],
        capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the same bytes' in done.stdout
    for what in ('a killed process', 'a pulled cable'):
        assert done.stdout.count(f'{what}: host-') == 2
