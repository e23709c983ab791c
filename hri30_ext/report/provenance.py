"""What a report was made with."""

import platform
import subprocess
from configparser import ConfigParser
from importlib import metadata

from ..config import PROJECT_ROOT

# mmcv may be there with its compiled operators, or without.
_PACKAGES = {'torch': ['torch'], 'mmengine': ['mmengine'], 'mmcv': ['mmcv', 'mmcv-lite'],
             'mmaction2': ['mmaction2'], 'decord': ['decord'], 'numpy': ['numpy']}


def versions() -> list[tuple[str, str]]:
    """Returns names and versions of what computed the results."""
    found = [('Python', platform.python_version())]
    for name, distributions in _PACKAGES.items():
        known = filter(None, map(_version, distributions))
        found.append((name, next(known, 'not known')))
    return [*found, ('hri30_ext', _own_version())]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


def _own_version() -> str:
    # A clone that is installed in place has moved on since; its setup.cfg knows.
    settings = ConfigParser()
    settings.read(PROJECT_ROOT / 'setup.cfg', encoding='utf-8')
    return settings.get('metadata', 'version', fallback='') or (
        _version('hri30_ext') or 'not known')


def commit() -> str:
    """Returns the commit of the clone, and whether files differ from it.

    Returns:
        str: Empty where this is no clone, or there is no git.
    """
    # Not any repository that the package happens to lie in.
    if not (PROJECT_ROOT / '.git').exists():
        return ''
    try:
        head = _git('rev-parse', '--short=12', 'HEAD')
        changed = _git('status', '--porcelain')
    except (OSError, subprocess.SubprocessError):
        return ''
    return f'{head}, with changes that are not committed' if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(
        ['git', '--no-optional-locks', '-C', str(PROJECT_ROOT), *arguments], check=True,
        capture_output=True, text=True, timeout=10).stdout.strip()
