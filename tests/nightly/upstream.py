"""Runs mmaction2's own tests on the installed packages, with this project's changes.

    MMACTION2_SOURCE=/path/to/mmaction2 .venv/bin/python tests/nightly/upstream.py --out D

MMACTION2_SOURCE is a clone of the installed release of mmaction2, such as its tag v1.2.0.
Nothing is downloaded: the network is cut off, and TORCH_HOME is empty. Expected failures,
with their reasons, are in upstream_failures.txt. Exit status 0: what fails is what is
expected to; 1: another test failed, or one of those passed; 2 or more: pytest could not
run, or wrong arguments.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

EXPECTED = Path(__file__).with_name('upstream_failures.txt')
#: Needs mmpretrain to be imported.
NOT_IMPORTED = 'tests/models/backbones/test_mobileone_tsm.py'
#: What classification uses, in the order of the tests.
FOLDERS = ('models/backbones', 'models/common', 'models/data_preprocessors',
           'models/heads', 'models/losses', 'models/necks', 'models/recognizers',
           'models/utils', 'datasets', 'evaluation')


class ExpectedFailures:
    """A plugin of pytest: a test that is listed must fail, and no other one may.

    Args:
        lines (list[str]): ``test: reason``.
    """

    def __init__(self, lines: list[str]) -> None:
        self.reasons = dict(line.split(': ', 1) for line in lines if line[0] != '#')

    def pytest_collection_modifyitems(self, items) -> None:
        """Marks the tests."""
        import pytest
        for item in items:
            if reason := self.reasons.pop(item.nodeid, None):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if self.reasons:
            raise pytest.UsageError(f'no such tests: {", ".join(self.reasons)}')


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
    expected = ExpectedFailures(EXPECTED.read_text('utf-8').splitlines())
    return pytest.main([*(str(source / 'tests' / folder) for folder in FOLDERS), '-q',
                        f'--rootdir={source}', '-p', 'no:cacheprovider', '--tb=short',
                        f'--ignore={source / NOT_IMPORTED}', '-W', 'ignore'], [expected])


if __name__ == '__main__':
    sys.exit(main())
