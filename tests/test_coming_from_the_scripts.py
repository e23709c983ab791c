"""docs/coming_from_the_scripts.md: everything that it names exists."""

import re

import pytest
from conftest import PRIMITIVE

from hri30_ext.config import PROJECT_ROOT, load_config, parse_options
from hri30_ext.errors import HRI30Error

TEXT = (PROJECT_ROOT / 'docs' / 'coming_from_the_scripts.md').read_text(encoding='utf-8')
CONTRACTS = ''.join((PROJECT_ROOT / 'docs' / name).read_text(encoding='utf-8')
                    for name in ('protocol.md', 'models.md'))
ROWS = [[re.findall(r'`([^`]+)`', cell) for cell in line.strip('|').split('|')]
        for line in TEXT.splitlines() if line.startswith('| ')]
HERE = [code for _, *cells in ROWS for codes in cells for code in codes]
LINES = [code for code in HERE if re.fullmatch(r'[\w.]+=\S+', code)]
FORMER = {there[0]: here[0] for there, here in (row[:2] for row in ROWS)
          if there and re.fullmatch(r'[A-Z_]+', there[0])}


@pytest.mark.parametrize('line', LINES)
def test_settings_exist(line):
    assert load_config(PRIMITIVE, parse_options([line]))


@pytest.mark.parametrize('former', sorted(FORMER.keys() - {'PLOT_LOSS'}))
def test_a_former_setting_is_refused_with_its_name_here(former):
    here = re.match(r'[\w.-]+', FORMER[former])[0]
    with pytest.raises(HRI30Error, match=f'{former} is called {here} here'):
        load_config(PRIMITIVE, parse_options([f'{former}=1']))


def test_files_are_in_the_contracts():
    files = {code for code in HERE if re.fullmatch(r'\w+\.(csv|png|json|html|safetensors)',
                                                   code)}
    assert len(files) >= 8
    for file in files:
        name, _, ending = file.partition('.')
        # "`training_curves.png`, `.csv`" names two.
        assert f'`{file}`' in CONTRACTS or re.search(
            rf'`{name}\.\w+`, `\.{ending}`', CONTRACTS)
