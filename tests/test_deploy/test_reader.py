"""The reader of exported folders: where neither torch nor MMAction2 is installed."""

import json
import os
import subprocess
import sys

import pytest

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets.hri30 import list_split

# As if nothing but Python and the packages named in docs/deploy.md were installed.
ALONE = """
import importlib.abc, runpy, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] not in {'hri30_ext', 'numpy', 'av', 'msgspec', RUNTIME,
                                      *sys.stdlib_module_names}:
            raise ModuleNotFoundError(name + ' is blocked')
sys.meta_path.insert(0, Blocker())
sys.argv[0] = 'run'
runpy.run_module(MODULE, run_name='__main__', alter_sys=True)
"""


def run_alone(runtime, *arguments, cwd, module='hri30_ext.cli'):
    """Runs the reader; nothing of this process's environment is imported."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith('PYTHON')}
    program = ALONE.replace('RUNTIME', repr(runtime)).replace('MODULE', repr(module))
    return subprocess.run(
        [sys.executable, '-c', program, *map(str, arguments)], capture_output=True,
        text=True, cwd=cwd, env={**environment, 'PYTHONPATH': str(PROJECT_ROOT)},
        timeout=120)


def validation_files(trained):
    cfg = load_config(trained.config, trained.options)
    return [clip['filename'] for clip in list_split(cfg.test_dataloader, subset='val')]


@pytest.mark.parametrize('runtime, other', [
    ('openvino', 'onnx'),
    pytest.param('onnxruntime', 'openvino', marks=pytest.mark.slow)])
def test_without_torch(runtime, other, trained, request, tmp_path):
    folder = request.getfixturevalue(f'{runtime.removesuffix("runtime")}_folder')
    files = validation_files(trained)
    run = run_alone(runtime, 'predict', folder, *files, '--json', 'p.json', cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / 'p.json').read_text())
    assert [result['file'] for result in results] == files
    # The scores are compared in test_one_way.py.
    assert [result['class'] for result in results] == trained.options['classes']
    run = run_alone(runtime, 'predict', request.getfixturevalue(f'{other}_folder'),
                    files[0], cwd=tmp_path)
    assert run.returncode == 2 and 'is not installed' in run.stderr
    run = run_alone(runtime, cwd=tmp_path, module='hri30_ext.modules')
    assert run.returncode == 1 and 'is blocked' in run.stderr
