"""Runs mmaction2's own tests on the installed packages, with this project's changes.

    MMACTION2_SOURCE=/path/to/mmaction2 .venv/bin/python tests/nightly/upstream.py --out D

MMACTION2_SOURCE is a clone of the installed release of mmaction2, such as its tag v1.2.0.
Nothing is downloaded: the network is cut off, and TORCH_HOME is empty. Expected failures,
with their reasons, are in upstream_failures.txt. Exit status 0: what fails is what is
expected to; 1: another test failed, or one of those passed; 2: wrong arguments.
"""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

EXPECTED = Path(__file__).with_name('upstream_failures.txt')
#: What classification uses, in the order of the tests.
FOLDERS = ('models/backbones', 'models/common', 'models/data_preprocessors',
           'models/heads', 'models/losses', 'models/necks', 'models/recognizers',
           'models/utils', 'datasets', 'evaluation')


class Outcomes:
    """Gathers which tests failed and passed, as a plugin of pytest."""

    def __init__(self) -> None:
        self.failed, self.passed, self.skipped = set(), set(), set()

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            self.skipped.add(report.nodeid)
        elif report.when == 'call':
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report) -> None:
        if report.failed:  # a file that cannot be imported
            self.failed.add(report.nodeid)


def read_expected(text: str) -> dict[str, str]:
    """Reads lines of ``test: reason``; returns the reason by test.

    >>> read_expected('# why\\ntests/a.py::test_b: needs a network\\n')
    {'tests/a.py::test_b': 'needs a network'}
    """
    lines = [line for line in text.splitlines() if line and line[0] != '#']
    return dict(line.split(': ', 1) for line in lines)


def compare(found: Outcomes, expected: dict[str, str]) -> list[str]:
    """Returns a line for each test whose outcome is not the expected one."""
    others = expected.keys() - found.failed
    return sorted([
        *(f'failed unexpectedly: {test}' for test in found.failed - expected.keys()),
        *(f'passed unexpectedly: {test}, expected to fail: {expected[test]}'
          for test in others & found.passed),
        *(f'not run: {test}, expected to fail: {expected[test]}'
          for test in others - found.passed)])


def find_source(parser: argparse.ArgumentParser) -> Path:
    """Returns the clone; exits with a message where it is none of the installed release."""
    import mmaction
    given = os.environ.get('MMACTION2_SOURCE', '')
    file = Path(given, 'mmaction', 'version.py')
    text = file.read_text('utf-8') if given and file.is_file() else ''
    if f"__version__ = '{mmaction.__version__}'" not in text:
        parser.error(f'MMACTION2_SOURCE={given}: expected a clone of mmaction2 at the tag '
                     f'v{mmaction.__version__}')
    return Path(given).resolve()


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='D',
                        help='folder to run in; holds what tests leave behind')
    out = parser.parse_args().out.resolve()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    source = find_source(parser)
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    os.environ['TORCH_HOME'] = str(out / 'torch')
    sys.dont_write_bytecode = True  # the clone stays as it is

    def refuse(*address, **options):
        raise socket.gaierror(socket.EAI_NONAME, 'no network in these tests')

    socket.getaddrinfo = refuse
    import pytest
    from mmaction.testing import _utils

    import hri30_ext.modules  # noqa: F401
    _utils.__file__ = str(source / 'mmaction' / 'testing' / '_utils.py')  # finds configs
    found = Outcomes()
    pytest.main([*(str(source / 'tests' / folder) for folder in FOLDERS), '-q',
                 f'--rootdir={source}', '-p', 'no:cacheprovider', '--tb=short',
                 '--continue-on-collection-errors', '-W', 'ignore'], [found])
    commit = subprocess.run(['git', '-C', str(source), 'rev-parse', '--short', 'HEAD'],
                            capture_output=True, text=True).stdout.strip()
    lines = compare(found, read_expected(EXPECTED.read_text('utf-8')))
    print(f'\nmmaction2 {commit}: {len(found.passed)} passed, {len(found.failed)} failed, '
          f'{len(found.skipped)} skipped; {len(lines)} not as expected', *lines, sep='\n')
    return int(bool(lines) or not found.passed)


if __name__ == '__main__':
    sys.exit(main())
