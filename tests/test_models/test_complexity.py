"""What a clip costs, counted by hand; and the tables that say it."""

import re

import pytest
import torch
import yaml
from conftest import PRIMITIVE, call_hri30
from torch import nn

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.models.complexity import count, make_test_view

CONFIGS = PROJECT_ROOT / 'configs'
METAFILE = yaml.safe_load((CONFIGS / 'metafile.yml').read_text(encoding='utf-8'))
ROWS = {model['Name']: model for model in METAFILE['Models']}
#: Folders of one model each; of SlowOnly's many configs the primitive stands for all.
ZOO = sorted(path for path in CONFIGS.glob('*/*.py')
             if path.parent.name not in (
                 '_base_', 'debug', 'demo', 'foundation', 'slowonly'))
#: The first cells of a row of configs/README.md, by config.
README = {config: [cell.strip() for cell in cells.split('|')[:4]] for config, cells in
          re.findall(r'^\| \[[^]]+\]\(([^)]+)\) \|(.*)$', (CONFIGS / 'README.md').read_text(
              encoding='utf-8'), re.MULTILINE)}


def test_lstm_by_hand():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    parameters, flops = count(Last(), torch.zeros(2, 7, 6))
    assert parameters == 4 * 5 * (6 + 5 + 2) + 4 * 5 * (5 + 5 + 2)
    # 2 clips of 7 steps: four gates of 5 units read the input and the state.
    assert flops == 2 * 7 * (4 * 5 * (6 + 5) + 4 * 5 * (5 + 5))


def test_fused_attention_by_hand():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    # 2 heads of 7 tokens: 7 x 7 scores of 4 products each, and as many to weigh values.
    assert count(Attention(), torch.zeros(1, 2, 7, 4)) == (0, 2 * 7 * 7 * (4 + 4))


@pytest.mark.parametrize('config, shape', [
    ('slowonly/slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py',
     (1, 3, 8, 224, 224)),
    ('slowonly/slowonly_k400-pretrained-r50_1xb16-8x4x1-256px-100e_hri30-rgb.py',
     (1, 3, 8, 256, 256)),
    ('tsn/tsn_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py', (8, 3, 224, 224)),
    ('demo/slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb.py', (1, 3, 8, 72, 112)),
])
def test_test_view_is_what_the_pipeline_makes(config, shape):
    assert make_test_view(load_config(str(CONFIGS / config))).shape == shape


def test_pipeline_without_decoding_is_refused():
    cfg = load_config(PRIMITIVE)
    cfg.test_pipeline = cfg.test_pipeline[3:]
    with pytest.raises(HRI30Error, match='no step with a type that ends with Decode'):
        make_test_view(cfg)


def test_every_config_of_the_zoo_has_a_row_and_every_row_a_config():
    primitive = PRIMITIVE.rsplit('/', 1)[1].removesuffix('.py')
    assert set(ROWS) == {path.stem for path in ZOO} | {primitive}
    assert set(README) == {row['Config'].removeprefix('configs/') for row in ROWS.values()}
    collections = {collection['Name'] for collection in METAFILE['Collections']}
    for name, row in ROWS.items():
        assert (PROJECT_ROOT / row['Config']).stem == name
        assert row['In Collection'] in collections
        assert 'Weights' not in row  # none are published


@pytest.mark.parametrize('name', ROWS)
def test_row_agrees_with_its_config_and_the_readme(name):
    metadata = ROWS[name]['Metadata']
    cfg = load_config(str(PROJECT_ROOT / ROWS[name]['Config']))
    assert metadata['Batch Size'] == cfg.batch_size
    assert metadata['Epochs'] == cfg.max_epochs
    assert metadata['Resolution'] == '{}x{}'.format(*cfg.input_size)
    assert ('Kinetics-400' in metadata['Pretrained']) == bool(cfg.load_from)
    assert README[ROWS[name]['Config'].removeprefix('configs/')] == [
        metadata['Pretrained'], f'{cfg.num_frames} x {metadata["Resolution"]}',
        metadata['Parameters'].removesuffix('M'), metadata['FLOPs'].removesuffix('G')]


@pytest.mark.slow
@pytest.mark.parametrize('name', ROWS)
def test_rows_are_as_measured(name, capsys):
    assert call_hri30('complexity', PROJECT_ROOT / ROWS[name]['Config']) == 0
    parameters, flops, *_ = capsys.readouterr().out.splitlines()[1].replace(',', '').split()
    assert f'{int(parameters) / 1e6:.2f}M' == ROWS[name]['Metadata']['Parameters']
    assert f'{int(flops) / 1e9:.2f}G' == ROWS[name]['Metadata']['FLOPs']
