"""What the benchmark calls stock is mmaction2's own config."""


import pytest
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmaction.registry import DATASETS, MODELS
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from benchmark.stock import CHANGED, STOCK, demo_config, same_view, stock_config
from hri30_ext.config import load_config
from hri30_ext.datasets.hri30 import list_clips


@pytest.fixture
def ours(clips_root):
    return load_config(PRIMITIVE, {'data_root': str(clips_root), 'classes': CLASSES,
                                   'batch_size': 5, 'load_from': None})


def changed_keys(a, b, prefix=''):
    """Lists the dotted keys in which two configs differ."""
    keys = []
    for key in sorted({*a, *b}, key=str):
        path = f'{prefix}{key}'
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            keys += changed_keys(a[key], b[key], f'{path}.')
        elif key not in a or key not in b or a[key] != b[key]:
            keys.append(path)
    return keys


def test_stock_is_changed_in_the_documented_keys_alone(ours, tmp_path):
    cfg = stock_config(ours, str(tmp_path))
    found = changed_keys(get_config(STOCK).to_dict(), cfg.to_dict())
    assert set(found) <= set(CHANGED)
    assert 'train_dataloader.dataset.ann_file' in found
    assert cfg.model.cls_head.num_classes == 3
    assert cfg.train_dataloader.batch_size == 5
    assert cfg.test_dataloader.batch_size == 1  # stock's own
    assert cfg.train_dataloader.num_workers <= 8


@pytest.mark.parametrize('loader, subset', [('train', 'train'), ('val', 'val'),
                                            ('test', 'test')])
def test_stock_reads_the_same_clips_in_the_same_order(ours, tmp_path, loader, subset):
    init_default_scope('mmaction')
    cfg = stock_config(ours, str(tmp_path), subset='test')
    theirs = DATASETS.build(cfg[f'{loader}_dataloader'].dataset)
    own = DATASETS.build(dict(ours[f'{loader}_dataloader'].dataset, subset=subset))
    assert len(theirs) == len(own) > 0
    for a, b in zip(list_clips(theirs), list_clips(own), strict=True):
        assert (a['filename'], a['label']) == (b['filename'], b['label'])
    assert theirs[0]['inputs'].shape[0] == (30 if loader == 'test' else 1)


def test_same_view_is_one_view_of_the_whole_frame(ours, tmp_path):
    init_default_scope('mmaction')
    cfg = same_view(stock_config(ours, str(tmp_path)), ours)
    inputs_VCTHW = DATASETS.build(cfg.test_dataloader.dataset)[0]['inputs']
    own_VCTHW = DATASETS.build(ours.val_dataloader.dataset)[0]['inputs']
    assert inputs_VCTHW.shape == own_VCTHW.shape == (1, 3, 8, 224, 224)
    # Another decoder and another order of scaling: alike, not equal.
    difference = (inputs_VCTHW.float() - own_VCTHW.float()).abs().mean()
    assert difference < 6


def test_stock_trains_the_model_of_the_demo(clips_root, tmp_path):
    init_default_scope('mmaction')
    ours = load_config(DEMO_CONFIG, {'data_root': str(clips_root), 'classes': CLASSES,
                                     'split.val_groups': 1})
    cfg = demo_config(ours, str(tmp_path))
    weights = MODELS.build(cfg.model).state_dict()
    assert {k: v.shape for k, v in weights.items()} == {
        k: v.shape for k, v in MODELS.build(ours.model).state_dict().items()}
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', ours.lr)
    assert not {'fused', 'foreach'} & set(optimizer)
    assert cfg.optim_wrapper.type == 'OptimWrapper'  # fp32
    assert cfg.train_cfg.max_epochs == ours.max_epochs
    width, height = ours.input_size
    shapes = {name: DATASETS.build(cfg[f'{name}_dataloader'].dataset)[0]['inputs'].shape
              for name in ('train', 'val', 'test')}
    assert shapes['train'] == shapes['val'] == (1, 3, 8, height, width)
    assert shapes['test'] == (30, 3, 8, ours.decode_size, width)
    # Steps are those of stock, but for sizes.
    for name in ('train', 'val', 'test'):
        kinds, stock = ([step.type for step in each[f'{name}_dataloader'].dataset.pipeline]
                        for each in (cfg, get_config(STOCK)))
        assert kinds == stock
