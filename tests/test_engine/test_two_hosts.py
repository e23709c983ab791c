"""A small run of tests/nightly/stress/two_hosts.py: two network namespaces."""

import subprocess
import sys

import pytest

from hri30_ext.config import PROJECT_ROOT

sys.path.append(str(PROJECT_ROOT / 'tests' / 'nightly' / 'stress'))

import two_hosts


@pytest.mark.slow
def test_two_hosts_agree_and_miss_each_other(tmp_path):
    if not two_hosts.can_run():
        pytest.skip('needs root and iproute2, to make network namespaces')
    done = subprocess.run(
        [sys.executable, two_hosts.__file__, '--folder', str(tmp_path), '--steps', '4'],
        capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the same bytes' in done.stdout
    for what in ('a killed process', 'a pulled cable'):
        assert done.stdout.count(f'{what}: host-') == 2
