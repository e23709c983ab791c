"""The Dockerfile, without a builder: names, sources and the files that stay outside."""

import re
import shutil
import subprocess
import sys

from conftest import PROJECT_ROOT

LINES = re.sub(r'#.*\n', '', (PROJECT_ROOT / 'Dockerfile').read_text()).replace(
    '\\\n', ' ').splitlines()


def test_sources_exist_and_arguments_are_used():
    copied = [word for line in LINES if line.startswith('COPY')
              for word in line.split()[1:-1] if not word.startswith('--')]
    assert 'requirements.lock' in copied and 'tools/setup.sh' in copied
    assert all((PROJECT_ROOT / name).exists() for name in copied)
    declared = {line.split()[1].partition('=')[0] for line in LINES
                if line.startswith('ARG')}
    assert declared == set(re.findall(r'\$\{(\w+)\}', '\n'.join(LINES)))
    users = [i for i, line in enumerate(LINES) if line.startswith('USER')]
    runs = [i for i, line in enumerate(LINES) if 'setup.sh' in line and line[:3] == 'RUN']
    assert users[-1] < runs[0] and 'root' not in LINES[users[-1]]


def test_what_git_ignores_stays_outside():
    ignored = {name: {line.strip('/').replace('!/', '!').replace('**/', '')
                      for line in (PROJECT_ROOT / name).read_text().splitlines()
                      if line and not line.startswith('#')}
               for name in ('.gitignore', '.dockerignore')}
    own = {'.venv', 'data/*', '!data/README.md', 'work_dirs/*', 'configs/custom',
           '__pycache__'}
    assert own <= ignored['.gitignore'] & ignored['.dockerignore']
    assert ignored['.dockerignore'] <= ignored['.gitignore']


def test_the_package_is_installed_from_what_is_copied_before(tmp_path):
    for name in ('setup.cfg', 'pyproject.toml'):
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    shutil.copytree(PROJECT_ROOT / 'hri30_ext', tmp_path / 'hri30_ext')
    program = ('import setuptools.build_meta as b; '
               'print(b.prepare_metadata_for_build_editable("."))')
    made = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, text=True,
                          capture_output=True, check=True)
    assert made.stdout.split()[-1].startswith('hri30_ext-')
