"""README and docs: links lead somewhere, commands parse, the recipe's lines load."""

import re
import shlex
from glob import glob
from unittest import mock

import nbformat
import pytest
from conftest import PRIMITIVE
from mmengine.config import Config

from hri30_ext.cli.__main__ import load
from hri30_ext.config import PROJECT_ROOT, load_config, parse_options
from hri30_ext.settings import list_settings

PAGES = [PROJECT_ROOT / name for name in ('README.md', 'CHANGELOG.md', 'data/README.md',
                                          'configs/README.md')]
PAGES += sorted((PROJECT_ROOT / 'docs').glob('*.md'))
NAMES = [str(page.relative_to(PROJECT_ROOT)) for page in PAGES]
#: Environment variables that may stand before a command.
VARIABLES = {'GPUS', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'SBATCH_OPTIONS',
             'HRI30_ROOT', 'PYTHON', 'PYTHONPATH', 'MMACTION2_SOURCE'}
#: The verb of hri30 that reads the arguments of a shell script.
PROGRAMS = {'train.sh': 'train', 'slurm_train.sh': 'train', 'test.sh': 'test',
            'predict.sh': 'predict'}
#: What stands for a config; the last is written by a command before.
PLACEHOLDER = re.compile(r'[A-Z_]+$|configs/custom/')
NOTEBOOK = PROJECT_ROOT / 'docs' / 'your_data.ipynb'


# ---- Links ------------------------------------------------------------------------------


def without_code(text):
    """Removes fenced blocks."""
    return re.sub(r'^( *)```.*?^\1```$', '', text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', without_code(page.read_text(encoding='utf-8')),
                          re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
            for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)\s]+)\)', without_code(page.read_text(encoding='utf-8')))
    for link in links:
        if link.startswith('https://'):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_is_short_and_links_every_page():
    text = (PROJECT_ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 150
    for page in (PROJECT_ROOT / 'docs').glob('*.md'):
        assert f'(docs/{page.name})' in text


# ---- Commands ---------------------------------------------------------------------------


def find_commands(text):
    """Returns the commands of a page: lines of bash blocks, and inline ones."""
    commands = []
    for block in re.findall(r'^ *```bash\n(.*?)^ *```$', text, re.MULTILINE | re.DOTALL):
        commands += block.replace('\\\n', ' ').splitlines()
    inline = re.findall(r'`([^`\n]+)`', without_code(text))
    commands += [code for code in inline if re.match(
        r'(\w+=\S* )*(bash tools/\S+|\.venv/bin/\w+ \S+|tests/\S+\.py) ?',
        code)]
    return [command.strip() for command in commands if command.strip()]


COMMANDS = sorted({(name, command) for name, page in zip(NAMES, PAGES, strict=True)
                   if name != 'CHANGELOG.md'
                   for command in find_commands(page.read_text(encoding='utf-8'))})


#: The cells of the notebook that are commands.
CELLS = [cell.source for cell in nbformat.read(NOTEBOOK, 4).cells
         if cell.source.startswith('%%bash\n')]
COMMANDS += [(NOTEBOOK.name, command) for cell in CELLS for command in
             find_commands(f'```bash\n{cell.partition(chr(10))[2]}\n```')]


def test_the_notebook_is_valid_and_holds_no_results():
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert len(CELLS) >= 7
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    for cell in cells:
        if cell.source not in CELLS:
            compile(cell.source, NOTEBOOK.name, 'exec')


def parse_command(words):
    """Parses a command; returns the arguments of a verb, or None for another program."""
    if words[0] in ('bash', '.venv/bin/python', 'python3'):
        words = words[1:]
    if words[:2] == ['-m', 'hri30_ext.cli']:
        words = ['hri30', *words[2:]]
    if words[0] in ('.venv/bin/hri30', 'hri30'):
        return None if words[1] == '--help' else parse_verb(words[1], words[2:])
    program = PROJECT_ROOT / words[0]
    if program.name in PROGRAMS:
        return parse_verb(PROGRAMS[program.name], words[1:])
    text = program.read_text(encoding='utf-8')
    assert all(word in text for word in words if word.startswith('--'))
    return None


def parse_verb(verb, arguments):
    parser = load(verb).parser
    known = arguments in (['--help'], ['--help-settings'])
    return None if known else parser.parse_args(arguments)


@pytest.mark.parametrize('page, command', COMMANDS)
def test_command_parses(page, command):
    words = shlex.split(command, comments=True)
    while re.match(r'\w+=', words[0]):
        assert words.pop(0).partition('=')[0] in VARIABLES
    if words[0] in ('curl', 'docker') or words[1:4] == ['-m', 'pip', 'install']:
        return
    args = parse_command(words)
    config, found = getattr(args, 'config', None), [PRIMITIVE]
    if isinstance(config, str) and not PLACEHOLDER.match(config):
        found = glob(config, root_dir=PROJECT_ROOT)
        assert found
    if getattr(args, 'cfg_options', None):
        load_config(found[0], parse_options(args.cfg_options))


# ---- The recipe -------------------------------------------------------------------------

RECIPE_PAGE = PROJECT_ROOT / 'docs' / 'recipe.md'
RECIPE = RECIPE_PAGE.read_text(encoding='utf-8')
MARKS = '<!-- settings -->\n', '<!-- /settings -->\n'
#: Defaults that are too long for the table, or depend on the machine.
SHOWN = {'classes': "HRI30's 30", 'load_from': 'a URL of mmaction2', 'num_workers': 'None'}
TABLE = RECIPE.split('## Each part in one line')[1].split('\n##')[0]
LINES = re.findall(r'\| `([\w.]+=[^`]+)` \|$', TABLE, re.MULTILINE)


def settings_table():
    """Returns the table of all settings, from the schema and the primitive's defaults."""
    lines = ['| setting | default | values | meaning |', '| --- | --- | --- | --- |']
    for row in list_settings(Config.fromfile(PRIMITIVE)):
        default = SHOWN.get(row.name, f'`{row.default}`' if row.default else '')
        unit = f' ({row.unit})' if row.unit else ''
        values = row.kind.replace(' to 1,000,000', '')  # only keeps absurd numbers out
        lines.append(f'| `{row.name}` | {default} | {values}{unit} | {row.description} |')
    return ''.join(f'{line}\n' for line in lines)


def test_settings_are_those_of_the_schema():
    """To write the table again: .venv/bin/python tests/test_readme.py."""
    assert RECIPE.split(MARKS[0])[1].split(MARKS[1])[0] == settings_table()


@pytest.fixture(scope='module')
def default():
    """The primitive, as on a machine that has bf16."""
    with mock.patch('hri30_ext.config.best_precision', lambda: 'bf16'):
        yield load_config(PRIMITIVE)


@pytest.mark.parametrize('line', LINES)
def test_line_changes_the_primitive(line, default):
    changed = load_config(PRIMITIVE, parse_options([line]))
    # Not only the setting: what is built from it.
    assert any(changed[key] != default[key] for key in (
        'train_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'model',
        'default_hooks', 'randomness', 'visualizer'))


if __name__ == '__main__':
    before, after = RECIPE.split(MARKS[0])[0], RECIPE.split(MARKS[1])[1]
    RECIPE_PAGE.write_text(f'{before}{MARKS[0]}{settings_table()}{MARKS[1]}{after}',
                           encoding='utf-8')
