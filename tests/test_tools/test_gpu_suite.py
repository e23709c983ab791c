"""The GPU tests where there is no GPU: scripts that can be read, and tests that skip."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from hri30_ext.config import PROJECT_ROOT

FOLDER = PROJECT_ROOT / 'tests' / 'gpu'


def run(*arguments, **environment):
    done = subprocess.run(
        ['bash', str(FOLDER / 'run.sh'), *map(str, arguments)], capture_output=True,
        text=True, timeout=300, env={**os.environ, 'PYTHON': sys.executable, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_without_cuda_all_are_skipped(tmp_path):
    text = run('--out', tmp_path, CUDA_VISIBLE_DEVICES='')
    assert '10 skipped' in text and 'needs CUDA' in text and 'passed' not in text


@pytest.mark.slow
def test_the_tests_can_run(tmp_path):
    """On the CPU; the others, which start processes, take minutes there."""
    run('--out', tmp_path, '-k', 'fp64 or memory or exported or recognizer',
        HRI30_FAKE_GPU='1', CUDA_VISIBLE_DEVICES='')
    suite, = ElementTree.parse(tmp_path / 'gpu.xml').getroot()
    assert (suite.get('tests'), suite.get('failures'), suite.get('errors')) == (
        '6', '0', '0')
    names = [each.get('name') for each in suite.iter('property')]
    assert 'device' in names and names.count('relative error of the gradient') == 3
