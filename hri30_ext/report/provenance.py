"""Which software made a report."""

import platform
import subprocess
from importlib import import_module, metadata

from ..config import PROJECT_ROOT


def versions() -> list[tuple[str, str]]:
    """Returns names and versions of the software that computed the results."""
    return [('Python', platform.python_version()),
            *((name, import_module(name).__version__)
              for name in ('torch', 'mmengine', 'mmcv', 'mmaction', 'av', 'numpy')),
            ('hri30_ext', metadata.version('hri30_ext')),
            ('Commit', commit() or 'not known')]


def commit() -> str:
    """Returns the commit of the clone, ``-dirty`` if files differ from it; empty if this is
    no clone, or there is no git."""
    # Not any repository that happens to contain the package.
    if not (PROJECT_ROOT / '.git').exists():
        return ''
    try:
        return subprocess.run(
            ['git', '-C', str(PROJECT_ROOT), 'describe', '--always', '--abbrev=12',
             '--exclude=*', '--dirty'], check=True, capture_output=True, text=True,
            timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ''
