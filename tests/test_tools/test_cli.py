"""The programs in tools/: their help, and the parser that they share."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from hri30_ext import cli
from hri30_ext.config import PROJECT_ROOT

PROGRAMS = sorted(str(path.relative_to(PROJECT_ROOT)) for path in
                  (PROJECT_ROOT / 'tools').rglob('*.py') if path.name != '_launch.py'
                  and PROJECT_ROOT / 'tools' / 'ros2' not in path.parents)
#: Asks a program for help, and tells which parser it has and whether it imports torch.
ASK = """
import runpy, sys
from hri30_ext import cli
parsers, init = [], cli.Parser.__init__
cli.Parser.__init__ = lambda self, *args, **kwargs: (
    init(self, *args, **kwargs), parsers.append(self))[0]
sys.argv = [sys.argv[1], '--help']
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    assert not end.code and parsers
    assert not {'torch', 'mmengine', 'cv2', 'numpy'} & sys.modules.keys()
else:
    raise AssertionError('no help')
"""


@pytest.mark.parametrize('program', PROGRAMS)
def test_help_is_quick_and_parsers_are_alike(program, tmp_path):
    done = subprocess.run([sys.executable, '-c', ASK, str(PROJECT_ROOT / program)],
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')


def test_options_are_not_abbreviated(capsys):
    parser = cli.Parser(prog='a tool')
    cli.add_runtime_arguments(parser)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--dev', 'cpu'])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('error: unrecognized arguments: --dev cpu\nusage: a tool')


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


def test_slurm_parameters(capsys):
    parser = cli.Parser()
    cli.add_slurm_argument(parser)
    for arguments, expected in (
            ([], None), (['--slurm'], {}),
            (['--slurm', 'slurm_partition=gpu', 'timeout_min=60'],
             {'slurm_partition': 'gpu', 'timeout_min': 60})):
        assert parser.parse_args(arguments).slurm == expected
    with pytest.raises(SystemExit):
        parser.parse_args(['--slurm', 'gpu'])
    assert '--slurm gpu: expected KEY=VALUE' in capsys.readouterr().err


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
