"""The verbs of hri30: their help, and what they share."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import call_hri30

from hri30_ext import cli
from hri30_ext.cli.__main__ import VERBS, describe
from hri30_ext.config import PROJECT_ROOT

#: Asks a verb for help, and tells whether that imports what is not needed for it.
ASK = """
import sys
from hri30_ext.cli.__main__ import main
sys.argv = ['hri30', *sys.argv[1:], '--help']
try:
    main()
finally:
    assert not {'torch', 'mmengine', 'cv2', 'numpy'} & sys.modules.keys()
"""


@pytest.mark.parametrize('verb', [[], *([verb] for verb in VERBS)],
                         ids=lambda verb: ''.join(verb))
def test_help_needs_only_the_standard_library(verb, tmp_path):
    done = subprocess.run([sys.executable, '-c', ASK, *verb], capture_output=True,
                          text=True, cwd=tmp_path, env={**os.environ, 'COLUMNS': '90'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'usage: hri30 {"".join(verb) or "VERB"} ')


def test_the_help_of_all_verbs_is_one_screen():
    lines = describe().splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 80
    modules = {path.stem for path in Path(cli.__file__).parent.glob('[a-z]*.py')}
    assert modules == {verb.replace('-', '_') for verb in VERBS}


def test_an_unknown_verb_is_refused_with_the_nearest(capsys):
    assert call_hri30('tran') == 2
    assert 'train' in capsys.readouterr().err


@pytest.mark.parametrize('option, launched', [([], True), (['--dry-run'], False),
                                              (['--launcher', 'pytorch'], False)])
def test_several_processes_are_started_by_the_launcher(monkeypatch, option, launched):
    monkeypatch.setenv('GPUS', '2')
    started = Mock(side_effect=SystemExit)
    monkeypatch.setattr(os, 'execv', started)
    monkeypatch.setattr('hri30_ext.cli.__main__.run', Mock())
    call_hri30('train', 'config.py', *option)
    assert started.called is launched
    if launched:
        program, arguments = started.call_args.args
        assert Path(arguments[1]) == PROJECT_ROOT / 'tools' / '_launch.py'
        assert Path(arguments[2]).name == 'hri30'
        assert arguments[3:] == ['train', 'config.py']


def test_a_reader_that_ends_is_no_traceback():
    code = 'from hri30_ext import cli; cli.run(lambda: [print(i) for i in range(10**5)])'
    with subprocess.Popen([sys.executable, '-c', code], cwd=PROJECT_ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == '' and process.wait() == 141


def test_a_file_of_somebody_else_is_no_traceback(capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(Mock(side_effect=PermissionError(13, 'Permission denied', 'x')))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith('error: x: Permission denied.')


@pytest.mark.parametrize(('device', 'visible', 'expected'), [
    ('cuda:1', '4,5', '5'), ('cuda:1', 'GPU-a,GPU-b', 'GPU-b'), ('cuda:1', None, '1'),
    ('cuda', '4,5', '4,5')])
def test_a_device_is_one_of_the_visible_ones(monkeypatch, device, visible, expected):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    cli.choose_device(device)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == expected
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible or '0')  # restored afterwards


def test_a_device_that_is_hidden_is_refused(monkeypatch, capsys):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5')
    with pytest.raises(SystemExit):
        cli.choose_device('cuda:2')
    assert 'CUDA_VISIBLE_DEVICES=4,5 leaves 2' in capsys.readouterr().err
