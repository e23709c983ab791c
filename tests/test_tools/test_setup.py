"""tools/setup.sh and what it decides by, without installing anything."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENV_CHECK = ROOT / 'hri30_ext' / 'utils' / 'env_check.py'

# By its path, as tools/setup.sh runs it: it must work without the package.
spec = importlib.util.spec_from_file_location('env_check', ENV_CHECK)
env_check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(env_check)


@pytest.fixture
def clone(tmp_path):
    """A clone with the files that a set-up starts from, under an awkward name."""
    clone = tmp_path / 'prüf stand'
    for name in (
        'setup.cfg',
        'pyproject.toml',
        'tools/setup.sh',
        'tools/_common.sh',
        'hri30_ext/utils/env_check.py',
    ):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    return clone


def bash(*command, cwd=None, **environ):
    environ = {**os.environ, **environ}
    return subprocess.run(
        ['bash', *map(str, command)],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python_stub(path, version):
    """A program that answers like a Python of some version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho {version} {path}\n')
    path.chmod(0o755)
    return path


# --- tools/setup.sh -------------------------------------------------------------


@pytest.mark.parametrize('script', ['setup.sh', 'check.sh'])
def test_help_is_answered_without_an_environment(clone, script, tmp_path):
    shutil.copy(ROOT / 'tools' / script, clone / 'tools' / script)
    done = bash(clone / 'tools' / script, '--help', cwd=tmp_path)
    assert done.returncode == 0
    assert f'bash tools/{script}' in done.stdout
    assert done.stderr == ''
    assert not (clone / '.venv').exists()


def test_an_environment_behind_a_link_is_left_alone(clone, tmp_path):
    other = tmp_path / 'other'
    (other / 'lib').mkdir(parents=True)
    (other / 'pyvenv.cfg').touch()
    (clone / '.venv').symlink_to(other)
    done = bash(clone / 'tools' / 'setup.sh')
    assert done.returncode == 1
    assert f'is a link to {other}' in done.stderr and 'remove the link' in done.stderr
    assert (other / 'lib').is_dir()


def test_unknown_option(clone):
    done = bash(clone / 'tools' / 'setup.sh', '--chekc')
    assert done.returncode == 2
    assert 'unknown option: --chekc' in done.stderr
    assert 'Usage:' in done.stderr
    assert done.stdout == ''


def test_python_that_is_not_there(clone):
    done = bash(clone / 'tools' / 'setup.sh', PYTHON='/nowhere/python3')
    assert done.returncode == 1
    assert 'PYTHON=/nowhere/python3 is not a Python that runs' in done.stderr
    assert done.stdout == ''
    assert not (clone / '.venv').exists()


@pytest.mark.parametrize('version', ['3.9.18', '3.14.0', '3.1.0'])
def test_python_of_another_version(clone, tmp_path, version):
    python = python_stub(tmp_path / 'python', version)
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=str(python))
    assert done.returncode == 1
    assert f'is Python {version}; 3.10 to 3.13 is needed' in done.stderr


def test_falls_back_to_a_python_of_a_versioned_name(clone, tmp_path):
    programs = tmp_path / 'bin'
    python_stub(programs / 'python3', '3.14.0')
    for name in ('python3.13', 'python3.12'):
        python_stub(programs / name, '3.9.0')
    chosen = python_stub(programs / 'python3.11', '3.11.4')
    # The stub "makes" an environment without a Python, so that pip does not start.
    done = bash(
        clone / 'tools' / 'setup.sh', PATH=f'{programs}:{os.environ["PATH"]}', PYTHON=''
    )
    assert f'making .venv with Python 3.11.4 ({chosen})' in done.stdout
    assert done.returncode != 0
    assert not (clone / '.venv' / '.hri30-setup').exists()


def test_leaves_a_foreign_folder_alone(clone):
    notes = clone / '.venv' / 'notes.txt'
    notes.parent.mkdir()
    notes.write_text('mine')
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=sys.executable)
    assert done.returncode == 1
    assert 'is not a Python environment, so it is left alone' in done.stderr
    assert notes.read_text() == 'mine'
    assert [path.name for path in notes.parent.iterdir()] == ['notes.txt']


def test_missing_venv_module_names_the_package(clone, tmp_path):
    python = tmp_path / 'python'
    python.write_text(
        '#!/bin/sh\ncase "$3" in *ensurepip*) exit 1 ;; esac\necho 3.12.3 "$0"\n'
    )
    python.chmod(0o755)
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=str(python))
    assert done.returncode == 1
    assert 'python3-venv (or python3.12-venv)' in done.stderr


# --- tools/_common.sh -----------------------------------------------------------


def launched(clone, *arguments, **environ):
    """The command line that `launch` runs, with a Python that prints it."""
    python = clone / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"; echo "$OMP_NUM_THREADS"\nexit 7\n')
    python.chmod(0o755)
    script = clone / 'tools' / 'run.sh'
    script.write_text(
        'set -euo pipefail\nsource "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"\n'
        'launch "$@"\n'
    )
    unset = dict.fromkeys(('GPUS', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT'), '')
    done = bash(script, *arguments, **{**unset, **environ})
    return done.returncode, done.stdout.rstrip('\n').split('|')[:-1], done.stderr


def test_launch_plainly(clone):
    code, command, _ = launched(clone, 'a b.py', '--x', 'é')
    assert (code, command) == (7, ['a b.py', '--x', 'é'])


def test_launch_on_one_node(clone):
    code, command, _ = launched(clone, 'a b.py', 'cfg', GPUS='2')
    assert code == 7
    assert command == [
        str(clone / 'tools' / '_launch.py'),
        '--nproc-per-node=2',
        '--master-addr=127.0.0.1',
        '--master-port=0',
        'a b.py',
        'cfg',
        '--launcher',
        'pytorch',
    ]


def test_launch_on_two_nodes(clone):
    _, command, _ = launched(
        clone, 'a.py', NNODES='2', NODE_RANK='1', MASTER_ADDR='node0', PORT='29501'
    )
    assert command[1:-3] == [
        '--nproc-per-node=1',
        '--nnodes=2',
        '--node-rank=1',
        '--master-addr=node0',
        '--master-port=29501',
    ]


def test_help_is_not_launched_in_several_processes(clone):
    _, command, _ = launched(clone, 'a.py', '--help', GPUS='2')
    assert command == ['a.py', '--help']


@pytest.mark.parametrize(
    'environ, message',
    [
        (dict(GPUS='two'), 'GPUS=two: expected a whole number, 1 or more'),
        (dict(GPUS='0'), 'GPUS=0: expected'),
        (dict(NNODES='2'), 'NNODES=2 also needs NODE_RANK'),
    ],
)
def test_launch_refuses(clone, environ, message):
    code, command, stderr = launched(clone, 'a.py', **environ)
    assert (code, command) == (2, [])
    assert message in stderr


# --- whether an environment is trusted ------------------------------------------

NOW = dict(config='c', clone='/clone', python='3.12')
VERSIONS = {'torch': '2.13.0', 'numpy': '2.2.6'}
RECORD = dict(NOW, packages=VERSIONS)


@pytest.mark.parametrize(
    'record, checked, missing, expected, reason',
    [
        (RECORD, True, [], 'ready', ''),
        (RECORD, False, [], 'check', ''),
        (None, False, [], 'rebuild', 'not finished'),
        ({}, True, [], 'rebuild', 'another folder'),
        (dict(RECORD, clone='/old'), True, [], 'rebuild', 'another folder'),
        (dict(RECORD, python='3.11'), True, [], 'rebuild', 'made for Python 3.11'),
        (RECORD, True, ['torch'], 'rebuild', 'missing from it: torch'),
        (dict(RECORD, config='old'), True, [], 'update', 'setup.cfg'),
        (
            dict(RECORD, packages=dict(VERSIONS, torch='2.12')),
            True,
            [],
            'update',
            ': torch',
        ),
        (dict(RECORD, packages=None), True, [], 'update', 'torch, numpy'),
    ],
)
def test_verdict(record, checked, missing, expected, reason):
    verdict, why = env_check.verdict(record, checked, NOW, VERSIONS, missing)
    assert verdict == expected
    assert reason in why


def test_fingerprint_follows_the_files_and_the_folder(clone):
    before = env_check.fingerprint(clone)
    assert before == env_check.fingerprint(clone)
    (clone / 'setup.cfg').write_text('[metadata]\n')
    changed = env_check.fingerprint(clone)
    assert changed['config'] != before['config']
    assert changed['clone'] == before['clone']
    moved = clone.rename(clone.with_name('moved'))
    assert env_check.fingerprint(moved)['clone'] != changed['clone']


def test_record_is_read_back_and_leaves_no_draft(tmp_path):
    path = tmp_path / 'stamp'
    env_check.write_record(path)
    assert env_check.read_record(path)['packages'] == env_check.installed_versions()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('content', ['', '{"clone": "/cl', '[1]', '\x00'])
def test_damaged_record_is_none(tmp_path, content):
    path = tmp_path / 'stamp'
    path.write_text(content)
    assert env_check.read_record(path) is None
    assert env_check.read_record(tmp_path / 'none') is None


def test_state_where_another_python_is_asked_for(tmp_path):
    verdict, why = env_check.state(tmp_path, python='3.10.1')
    assert verdict == 'rebuild'
    assert 'PYTHON asks for 3.10.1' in why


def test_missing_modules_sees_emptied_and_foreign_packages(tmp_path, monkeypatch):
    (tmp_path / 'emptied_package').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    packages = {'emptied_package': 'a', 'not_there_at_all': 'b', 'pathlib': 'c'}
    monkeypatch.setattr(env_check, 'PACKAGES', packages)
    assert env_check.missing_modules() == ['emptied_package', 'not_there_at_all']
    monkeypatch.setattr(env_check, 'PACKAGES', {'hri30_ext': 'hri30_ext'})
    assert env_check.missing_modules(ROOT) == []
    assert env_check.missing_modules(tmp_path) == ['hri30_ext']


# --- the checks -----------------------------------------------------------------


@pytest.mark.parametrize(
    'library, packages',
    [
        ('libGL.so.1', ['libgl1', 'mesa-libGL']),
        ('libgthread-2.0.so.0', ['libglib2.0-0', 'glib2']),
        ('libfoo-1.2.so.7', ['apt-file search', "dnf provides '*/libfoo-1.2.so.7'"]),
    ],
)
def test_library_hint(library, packages):
    hint = env_check.library_hint(
        f'{library}: cannot open shared object file: No such file or directory'
    )
    assert library in hint
    for package in packages:
        assert package in hint


@pytest.mark.parametrize(
    'message',
    [
        "No module named 'cv2'",
        'libcudnn.so.9: cannot open shared object file: No such file or directory',
        'libtorch_cpu.so: cannot open shared object file: No such file or directory',
    ],
)
def test_library_hint_is_for_libraries_of_the_system_only(message):
    assert env_check.library_hint(message) is None


@pytest.mark.parametrize(
    'source, code, message',
    [
        (
            'raise ImportError("libGL.so.1: cannot open shared object file: No such")',
            env_check.MACHINE_OR_CODE,
            'apt-get install libgl1',
        ),
        ('import not_there_at_all', env_check.BROKEN_PACKAGE, 'installs everything'),
        ('1 / 0', env_check.BROKEN_PACKAGE, 'ZeroDivisionError'),
    ],
)
def test_failed_import_becomes_advice(tmp_path, monkeypatch, source, code, message):
    (tmp_path / 'broken_cv2.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(env_check.CheckError, match=message) as caught:
        env_check.import_checked('broken_cv2')
    assert caught.value.code == code
