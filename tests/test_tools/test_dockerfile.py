"""The Dockerfile, without a builder: names, sources and the files that stay outside."""

import re

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
