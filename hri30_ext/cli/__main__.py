"""The command line: ``hri30 VERB ...``. Each verb is a module of this folder."""

import difflib
import importlib
import os
import sys
from pathlib import Path

from ..names import PROJECT_ROOT
from . import fail, run

GROUPS = {
    'model': ('train', 'test', 'predict'),
    'data': ('check', 'download', 'cache', 'new-dataset', 'cut', 'splits', 'embedded',
             'leaks'),
    'analyse': ('compare', 'crossval', 'sweep', 'ensemble', 'views', 'early', 'robustness',
                'unknown', 'complexity', 'report', 'submission', 'reproduce', 'curves',
                'reversed'),
    'deploy': ('export', 'stream', 'serve', 'teach', 'convert-weights'),
}
#: Options of a call that runs in this process, whatever GPUS and NNODES say; the launcher
#: adds the first.
ALONE = {'--launcher', '-h', '--help', '--dry-run', '--print-work-dir'}
VERBS = [verb for verbs in GROUPS.values() for verb in verbs]


def load(verb: str):
    """Imports the module of a verb, which has ``parser`` and ``main``."""
    return importlib.import_module(f'.{verb.replace("-", "_")}', __package__)


def describe() -> str:
    """Returns the help: all verbs with the first line of their own help."""
    lines = ['usage: hri30 VERB ...', '       hri30 VERB --help']
    for group, verbs in GROUPS.items():
        lines.append(f'\n{group}')
        for verb in verbs:
            lines.append(f'  {verb:<16} {load(verb).__doc__.splitlines()[0].rstrip(".")}')
    return '\n'.join(lines)


def main() -> None:
    """Runs the verb of ``sys.argv``."""
    verb = sys.argv[1] if sys.argv[1:] else '--help'
    if verb in ('-h', '--help'):
        print(describe())
        return
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=3)
        fail(f'hri30 {verb}: no such verb; the nearest: {", ".join(near) or "none"}.\n'
             'hri30 --help lists all.')
    several = verb in ('train', 'test') and (os.getenv('GPUS') or os.getenv('NNODES'))
    if several and not ALONE & set(sys.argv):
        launcher = str(PROJECT_ROOT / 'tools' / '_launch.py')
        program = str(Path(sys.executable).with_name('hri30'))
        os.execv(sys.executable, [sys.executable, launcher, program, *sys.argv[1:]])
    sys.argv[:2] = [f'hri30 {verb}']
    module = load(verb)
    run(module.main, module.parser)


if __name__ == '__main__':
    main()
