"""tools/setup.sh and the lock, without installing anything."""

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hri30_ext import env_check

ROOT = Path(__file__).resolve().parents[2]
#: What tools/setup.sh installs in place of other packages, or apart from the lock.
EXCLUDED = {'torch', 'torchvision', 'opencv-python', 'opencv-contrib-python', 'decord'}


@pytest.fixture
def clone(tmp_path):
    """A clone with the files that a set-up reads, in a folder with an awkward name."""
    clone = tmp_path / 'prüf stand'
    for name in ('setup.cfg', 'pyproject.toml', 'requirements.lock',
                 'requirements-dev.lock', 'tools/setup.sh', 'tools/check.sh',
                 'tools/_common.sh', 'hri30_ext/env_check.py'):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    return clone


def bash(*command, cwd=None, **environment):
    return subprocess.run(['bash', *map(str, command)], cwd=cwd, capture_output=True,
                          env={**os.environ, **environment}, text=True, timeout=60)


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\n{text}\n')
    path.chmod(0o755)
    return path


def fake_python(path, version):
    """A program that answers like a Python of some version."""
    return write_program(path, f'echo {version} {path}')


# ---- tools/setup.sh ---------------------------------------------------------------------


@pytest.mark.parametrize('script', ['setup.sh', 'check.sh'])
def test_help_needs_no_environment(clone, script, tmp_path):
    done = bash(clone / 'tools' / script, '--help', cwd=tmp_path)
    assert done.returncode == 0 and f'bash tools/{script}' in done.stdout
    assert done.stderr == '' and not (clone / '.venv').exists()
    assert bash(clone / 'tools' / 'setup.sh', '--chekc').returncode == 2


@pytest.mark.parametrize('version', [None, '3.9.18', '3.14.0', '3.1.0'])
def test_python_that_cannot_be_used(clone, tmp_path, version):
    python = fake_python(tmp_path / 'a python', version) if version else '/nowhere/python3'
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=str(python))
    assert (done.returncode, done.stdout) == (1, '')
    found = f'Python {version}' if version else 'no Python'
    assert f'PYTHON={python}: found {found}; 3.10 to 3.13' in done.stderr
    assert not (clone / '.venv').exists()


def test_falls_back_to_a_versioned_python(clone, tmp_path):
    programs = tmp_path / 'bin'
    fake_python(programs / 'python3', '3.14.0')
    for name in ('python3.13', 'python3.12'):
        fake_python(programs / name, '3.9.0')
    chosen = fake_python(programs / 'python3.11', '3.11.4')
    done = bash(clone / 'tools' / 'setup.sh', PATH=f'{programs}:{os.environ["PATH"]}',
                PYTHON='')
    assert f'creating .venv with Python 3.11.4 ({chosen})' in done.stdout
    assert done.returncode != 0 and not (clone / '.venv' / '.hri30-setup').exists()


def test_missing_venv_module_names_the_package(clone, tmp_path):
    python = write_program(tmp_path / 'python', (
        'case "$3" in *ensurepip*) exit 1 ;; esac\necho 3.12.3 "$0"'))
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=str(python))
    assert done.returncode == 1 and 'python3-venv (or python3.12-venv)' in done.stderr


@pytest.mark.parametrize('linked', [False, True])
def test_what_is_no_environment_of_this_clone_is_left_alone(clone, tmp_path, linked):
    other = tmp_path / 'other' if linked else clone / '.venv'
    other.mkdir()
    (other / ('pyvenv.cfg' if linked else 'notes.txt')).touch()
    if linked:
        (clone / '.venv').symlink_to(other)
    done = bash(clone / 'tools' / 'setup.sh', PYTHON=sys.executable)
    assert done.returncode == 1 and '.venv' in done.stderr
    assert len(list(other.iterdir())) == 1


@pytest.fixture
def environment(clone, tmp_path):
    """An environment whose Python writes down what it is told, and a Python that makes it.

    ``python.sh`` in the clone may define what an env_check command answers.
    """
    log = tmp_path / 'log'
    python = clone / '.venv' / 'bin' / 'python'
    (clone / 'python.sh').touch()
    fake = write_program(tmp_path / 'fake', f"""
echo "$@" >> {log}
source '{clone}/python.sh'
case "$*" in
*"import pip"*) echo 3.11.4 ;;
esac""")
    base = write_program(tmp_path / 'base', f"""
case "$*" in
*'-m venv'*) mkdir -p '{python.parent}' && cp {fake} '{python}' ;;
*) echo 3.11.4 "$0" ;;
esac""")
    write_program(tmp_path / 'bin' / 'uv', 'exit 1')

    def set_up(*arguments, answer=''):
        log.write_text('')
        (clone / 'python.sh').write_text(answer)
        done = bash(clone / 'tools' / 'setup.sh', *arguments, PYTHON=str(base),
                    PATH=f'{tmp_path / "bin"}:{os.environ["PATH"]}')
        return done, re.findall(r'pip install .*?(torch==\S+|-[re] ).*$|'
                                r'env_check.py (packages|check)\b.*$', log.read_text(),
                                re.M)

    return set_up


INSTALLED = [('torch==2.13.0', ''), ('-r ', ''), ('-e ', '')]
CHECK, PACKAGES = ('', 'check'), ('', 'packages')
NO_TORCH = 'case "$*" in *"env_check.py torch"*) exit 1 ;; esac'


def test_a_set_up_from_nothing_and_again(environment, clone):
    done, commands = environment(answer=NO_TORCH)
    assert done.returncode == 0, done.stderr
    assert commands == [*INSTALLED, CHECK]
    done, commands = environment()
    assert done.returncode == 0 and commands == [PACKAGES]
    assert done.stdout.startswith('setup: ready')
    assert environment('--check')[1] == [PACKAGES, CHECK]
    # What is outdated is updated, and the torch that is there is kept.
    with open(clone / 'requirements.lock', 'a') as lock:
        lock.write('# changed\n')
    done, commands = environment()
    assert commands == [*INSTALLED[1:], CHECK] and 'the list of packages' in done.stdout
    done, commands = environment(answer=(
        'case "$*" in *packages*) echo numpy missing; exit 1 ;; esac'))
    assert commands == [PACKAGES, PACKAGES, *INSTALLED[1:], CHECK]
    assert 'updating .venv: numpy missing' in done.stdout


def test_the_two_sets_do_not_undo_each_other(environment, clone):
    stamp = clone / '.venv' / '.hri30-setup'
    environment(answer=NO_TORCH)
    assert 'requirements.lock' in stamp.read_text()
    _, commands = environment('--dev')
    assert commands == [*INSTALLED[1:], CHECK]
    assert 'requirements-dev.lock' in stamp.read_text()
    for arguments in ([], ['--dev']):
        assert environment(*arguments)[1] == [PACKAGES]


@pytest.mark.parametrize('status, stage, commands', [
    (3, 'updating', [*INSTALLED[1:], CHECK]),  # the machine or our code
    (4, 'because its set-up was not finished', [*INSTALLED[1:], CHECK])])  # a package
def test_after_a_failed_check(environment, status, stage, commands):
    done, _ = environment(answer=f'case "$*" in *" check") exit {status} ;; esac')
    assert done.returncode == 1 and f'(status {status})' in done.stderr
    done, found = environment()
    assert done.returncode == 0 and stage in done.stdout and found == commands


@pytest.mark.parametrize('harm, reason', [
    (lambda clone: (clone / '.venv' / '.hri30-setup').unlink(), 'was not finished'),
    (lambda clone: (clone / '.venv' / 'bin' / 'python').unlink(), 'does not run'),
    (lambda clone: (clone / '.venv' / '.hri30-setup').write_text('/elsewhere\n'),
     'for another folder')])
def test_what_is_interrupted_broken_or_moved_is_rebuilt(environment, clone, harm, reason):
    environment()
    (clone / '.venv' / 'left over').touch()
    harm(clone)
    done, commands = environment(answer=NO_TORCH)
    assert done.returncode == 0 and commands == [*INSTALLED, CHECK]
    assert reason in done.stdout and not (clone / '.venv' / 'left over').exists()


def test_two_set_ups_at_once(environment, clone, tmp_path):
    environment()
    (clone / '.venv' / '.hri30-setup').unlink()
    with open(clone / '.venv.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            ['bash', clone / 'tools' / 'setup.sh'], text=True, stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHON': str(tmp_path / 'base')})
        assert 'waiting for another set-up' in waiting.stdout.readline()
        assert not (clone / '.venv' / '.hri30-setup').exists()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and (clone / '.venv' / '.hri30-setup').exists()


# ---- The lock ---------------------------------------------------------------------------


def normalize(name):
    return re.sub('[-_.]+', '-', name).lower()


def read_lock(name):
    requirements = env_check.read_requirements((ROOT / name).read_text())
    return {normalize(name): specifier for name, specifier in requirements.items()}


def test_the_locks_have_what_setup_cfg_names():
    """Names and ranges of all extras, after the exclusions of pyproject.toml."""
    locked = read_lock('requirements-dev.lock')
    named = {normalize(name): specifier for name, specifier
             in env_check.read_setup_cfg().items()}
    assert named.keys() - locked.keys() == {'torch', 'torchvision'}
    for name in named.keys() & locked.keys():
        version = str(locked[name])
        assert version.startswith('==') and version[2:] in named[name], (name, version)
    assert not EXCLUDED & locked.keys()
    assert not any(name.startswith(('nvidia', 'cuda', 'triton')) for name in locked)
    pin, = re.findall(r'^TORCH=(\S+)', (ROOT / 'tools' / 'setup.sh').read_text(), re.M)
    assert pin in named['torch']
    excluded = re.search(r'exclude-dependencies = \[(.*?)\]',
                         (ROOT / 'pyproject.toml').read_text(), re.S)[1]
    assert set(re.findall('"(.*?)"', excluded)) == EXCLUDED
    for name in ('requirements.lock', 'requirements-dev.lock'):
        assert not re.search('://|index', (ROOT / name).read_text())


def test_what_users_run_is_part_of_what_the_tests_need():
    users, tests = read_lock('requirements.lock'), read_lock('requirements-dev.lock')
    assert users.items() < tests.items()
    assert not {'pytest', 'playwright', 'schemathesis', 'bandit'} & users.keys()


#: Imports every module of the package where the named packages are missing.
IMPORT_ALL = """
import importlib, pkgutil, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in missing:
            raise ModuleNotFoundError(name, name=name)
missing = set(sys.argv[1:])
sys.meta_path.insert(0, Missing())
import hri30_ext.modules
for module in pkgutil.walk_packages(hri30_ext.__path__, 'hri30_ext.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
"""


@pytest.mark.slow
def test_the_package_imports_without_what_only_the_tests_need():
    dev = read_lock('requirements-dev.lock').keys() - read_lock('requirements.lock').keys()
    distributions = importlib.metadata.packages_distributions()
    missing = [name for name, packages in distributions.items()
               if all(normalize(package) in dev for package in packages)]
    assert {'pytest', 'playwright', 'hypothesis'} < set(missing)
    done = subprocess.run([sys.executable, '-c', IMPORT_ALL, *missing],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- hri30_ext.env_check ----------------------------------------------------------


def test_differences_are_named():
    required = env_check.read_requirements(
        "numpy>=1\n pytest<1\n\n# a comment\nnot_there==2\nnor_that ; python_version < '3'")
    first, second = env_check.find_differences(required)
    assert first.startswith('pytest ') and first.endswith(', expected <1')
    assert second == 'not_there missing, expected ==2'


@pytest.mark.parametrize('source, status, message', [
    ('raise ImportError("libx.so.1: cannot open shared object file: No such")', 3, 'libx'),
    ('import not_there_at_all', 4, 'ModuleNotFoundError'),
    ('1 / 0', 4, 'ZeroDivisionError')])
def test_an_import_that_fails(tmp_path, monkeypatch, capsys, source, status, message):
    (tmp_path / 'broken_module.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(env_check, 'MODULES', ('broken_module',))
    assert env_check.check() == status
    error = capsys.readouterr().err
    assert 'error: import broken_module: ' in error and message in error


def test_check_of_this_environment(capsys):
    assert env_check.check() == 0
    output = capsys.readouterr().out
    assert 'mmaction 1.2.0' in output and 'device: cpu' in output


def test_a_cpu_build_beside_a_driver_is_named(tmp_path, monkeypatch):
    write_program(tmp_path / 'nvidia-smi', '')
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    torch = SimpleNamespace(version=SimpleNamespace(cuda=None))
    assert 'see the top of tools/setup.sh' in env_check.why_no_cuda(torch)
