"""Which software made a report."""

import platform
import subprocess
from configparser import ConfigParser
from importlib import import_module, metadata

from ..config import PROJECT_ROOT


def versions() -> list[tuple[str, str]]:
    """Returns names and versions of the software that computed the results."""
    # The metadata of an editable installation may be older than the clone.
    settings = ConfigParser()
    settings.read(PROJECT_ROOT / 'setup.cfg', encoding='utf-8')
    own = settings.get('metadata', 'version', fallback='') or metadata.version('hri30_ext')
    return [('Python', platform.python_version()),
            *((name, import_module(name).__version__)
              for name in ('torch', 'mmengine', 'mmcv', 'mmaction', 'av', 'numpy')),
            ('hri30_ext', own), ('Commit', commit() or 'not known')]


def commit() -> str:
    """Returns the commit of the clone, and whether files differ from it; empty if this is
    no clone, or there is no git."""
    # Not any repository that happens to contain the package.
    if not (PROJECT_ROOT / '.git').exists():
        return ''
    try:
        head, changed = (subprocess.run(
            ['git', '--no-optional-locks', '-C', str(PROJECT_ROOT), *arguments], check=True,
            capture_output=True, text=True, timeout=10).stdout.strip()
            for arguments in (('rev-parse', '--short=12', 'HEAD'),
                              ('status', '--porcelain')))
    except (OSError, subprocess.SubprocessError):
        return ''
    return f'{head}, with uncommitted changes' if changed else head
