"""The reader of exported folders: where neither torch nor MMAction2 is installed."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.deploy.run import main
from hri30_ext.deploy.torch_backend import TorchBackend

HEAVY = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmaction', 'decord', 'cv2', 'scipy')

BLOCKED = f"""
import importlib.abc, runpy, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name + ' is blocked')
sys.meta_path.insert(0, Blocker())
sys.argv[0] = 'run'
runpy.run_module('hri30_ext.deploy.run', run_name='__main__', alter_sys=True)
"""


def run_reader(python, *arguments, program=None, cwd):
    """Runs the reader with a Python; nothing of this process's environment is imported."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith('PYTHON')}
    command = ['-c', program] if program else ['-m', 'hri30_ext.deploy.run']
    return subprocess.run(
        [str(python), *command, *map(str, arguments)], capture_output=True, text=True,
        cwd=cwd, env={**environment, 'PYTHONPATH': str(PROJECT_ROOT)}, timeout=120)


def validation_files(trained):
    from mmaction.registry import DATASETS
    cfg = load_config(trained.config, trained.options)
    cfg.test_dataloader.dataset.update(subset='val', pipeline=[])
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return [dataset.get_data_info(index)['filename'] for index in range(len(dataset))]


def check_output(run, files, trained, validation_clips):
    """The output is JSON, and the scores are those of the trained model."""
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    assert [result['file'] for result in results] == files
    expected_NK = TorchBackend(load_config(trained.config, trained.options),
                               trained.checkpoint)(validation_clips)
    for result, expected_K in zip(results, expected_NK, strict=True):
        found = {row['class']: row['score'] for row in result['top5']}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        # One decoder: from the file to the score, the same.
        np.testing.assert_allclose(
            [found[name] for name in trained.options['classes']], expected_K, atol=1e-4)


@pytest.mark.parametrize('kind', ['openvino', 'onnx'])
def test_without_torch(kind, trained, validation_clips, request, tmp_path):
    folder = request.getfixturevalue(f'{kind}_folder')
    files = validation_files(trained)
    run = run_reader(sys.executable, folder, *files, '--threads', 1, program=BLOCKED,
                     cwd=tmp_path)
    check_output(run, files, trained, validation_clips)


def test_blocker_blocks(tmp_path):
    program = BLOCKED.replace("'hri30_ext.deploy.run'", "'hri30_ext.modules'")
    run = run_reader(sys.executable, program=program, cwd=tmp_path)
    assert run.returncode == 1 and 'is blocked' in run.stderr


def test_bad_clips_are_named_and_others_predicted(onnx_folder, trained, tmp_path, capsys):
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'RIFF' + bytes(500))
    good = validation_files(trained)[0]
    code = main([str(onnx_folder), str(broken), good, str(tmp_path / 'none.avi'), 'rtsp://x',
                 str(tmp_path), '--threads', '1'])
    results = json.loads(capsys.readouterr().out)
    assert code == 1
    assert ['error' in result for result in results] == [True, False, True, True, True]
    assert 'broken.avi' in results[0]['error'] and 'no such file' in results[2]['error']
    assert len(results[1]['top5']) == 3  # as many as there are classes


def test_no_model_is_one_message(tmp_path, capsys):
    assert main([str(tmp_path), 'clip.avi']) == 2
    output = capsys.readouterr()
    assert output.out == '' and output.err.startswith(f'error: {tmp_path}/model.json: ')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['openvino', 'onnx'])
def test_in_an_environment_of_its_own(kind, trained, validation_clips, request, tmp_path):
    """numpy, av, msgspec and one runtime are all that is installed."""
    folder = request.getfixturevalue(f'{kind}_folder')
    venv.create(tmp_path / 'venv', with_pip=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    packages = ['numpy>=2,<2.3', 'av>=14', 'msgspec',
                'onnxruntime' if kind == 'onnx' else 'openvino']
    install = subprocess.run([str(python), '-m', 'pip', 'install', '-q',
                              '--disable-pip-version-check', *packages],
                             capture_output=True, text=True, timeout=600)
    if install.returncode:
        pytest.skip(f'cannot be installed: {install.stderr.strip()[-200:]}')
    present = subprocess.run(
        [str(python), '-c', 'import importlib.util as u; print([name for name in '
         f'{HEAVY!r} if u.find_spec(name)])'], capture_output=True, text=True)
    assert present.stdout.strip() == '[]'
    files = validation_files(trained)
    run = run_reader(python, folder, *files, cwd=tmp_path)
    check_output(run, files, trained, validation_clips)
    other = request.getfixturevalue('onnx_folder' if kind == 'openvino' else
                                    'openvino_folder')
    run = run_reader(python, other, files[0], cwd=tmp_path)
    assert run.returncode == 2 and 'is not installed' in run.stderr
    assert Path(files[0]).is_file()
