"""The schema: what it accepts, refuses and lists."""

import copy
import functools
import string

import pytest
from conftest import PRIMITIVE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hri30_ext.config import load_config, merge_options, parse_options, resolve, unresolved
from hri30_ext.errors import HRI30Error
from hri30_ext.settings import (
    OF_SOME_MODELS,
    SETTINGS,
    TABLES,
    accepted_arguments,
    list_settings,
)


@functools.cache
def raw():
    """The unresolved default config."""
    return unresolved(load_config(PRIMITIVE))


def load(option):
    return load_config(PRIMITIVE, parse_options([option]))


@pytest.mark.parametrize('option, message', [
    ('lr=fast', "lr='fast': expected a number from 0"),
    ('lr=1e999', 'lr=inf: expected a number from 0'),
    ('lr=None', 'lr=None: expected a number from 0'),
    ('batch_size=0', r'batch_size=0: expected a whole number from 1.*\(clips\)'),
    ('max_epochs=two', r"max_epochs='two': expected a whole number from 1.*\(epochs\)"),
    ('input_size=224', r'input_size=224: expected 2 values, each .*\(pixels\); width and'),
    ('peer_timeout=0', r'peer_timeout=0: expected a number above 0 \(seconds\)'),
    ('max_skipped=True', 'max_skipped=True: expected a number from 0 to 1'),
    ('split.val_groups=x', "split.val_groups='x': expected a whole number.*or a list of"),
    ('split.val_ratio=1', 'expected a number above 0 and below 1'),
    ('split=5', 'split=5: expected a dict'),
    ('color_jitter.contrast=2', 'color_jitter.contrast=2: expected a number from 0 to 1'),
    ('clip_cache=png', "clip_cache='png': expected 'auto' or 'jpeg' or 'memmap', or None"),
    ('optimizers=5', 'optimizers=5: expected a dict of choices'),
    ('flip=no', 'Expected one of: label_aware, keep_label, None'),
    ('decay=no', r'Expected one of: constant, cosine, step, exponential \('),
    ('betas=(0.9,0.99)', 'optimizer=sgd has no betas.\nExpected betas=None, or '
                         'optimizer=adam or adamw.'),
])
def test_wrong_value_is_one_message(option, message):
    with pytest.raises(HRI30Error, match=message) as error:
        load(option)
    if ': expected ' in message:
        assert '\nSet it in the config' in str(error.value)


@pytest.mark.parametrize('option, message', [
    ('batchsize=4', 'batchsize: the nearest known name is batch_size'),
    ('learning_rate=0.1', 'learning_rate is called lr here'),
    ('BATCH_SIZE=8', 'BATCH_SIZE is called batch_size here'),
    ('zzz=1', 'zzz: no known name is near'),
    ('drop_path=0.1', 'drop_path: the model of this config has none'),
    ('split.val_group=1', 'split.val_group: the nearest known name is val_groups'),
    ('random_crop.area=1', 'random_crop.area: expected one of area_range, aspect_ratio'),
    ('color_jitter.saturatoin=0', r'Unknown setting:\n  color_jitter.saturatoin: the '
                                  'nearest known name is saturation\n'),
    ('optimizers.sgd.momentm=1', 'optimizers.sgd.momentm: the nearest .* momentum'),
    ('model.backbone.depht=18', 'model.backbone.depht: the nearest known name is depth'),
    ('train_dataloader.batchsize=1', 'train_dataloader.batchsize: .* is batch_size'),
    ('train_pipeline.0.cache_dirs=1', r'train_pipeline\[0\].cache_dirs: .* cache_dir'),
    ('train_pipeline.1.clip_len=1', 'cfg-options .*train_pipeline.1.clip_len'),
])
def test_unknown_name_is_refused_with_the_nearest_one(option, message):
    with pytest.raises(HRI30Error, match=message):
        load(option)


def test_several_unknown_names_are_one_message():
    with pytest.raises(HRI30Error, match='2 unknown settings:\n  num_epochs.*\n  batchsiz'):
        load_config(PRIMITIVE, {'num_epochs': 3, 'batchsize': 4})


VARIANTS = [
    'num_frames = 4\nlr = 0\nmax_skipped = 1',
    'optimizer = "adamw"\nbetas = (0.9, 0.95)\nweight_decay = 0.1',
    'momentum = 0.8',
    'optimizers = dict(rprop=dict(type="Rprop", lr="${lr}"))\noptimizer = "rprop"',
    'split = dict(_delete_=True, type="random", val_ratio=0.2)',
    'early_stopping = None\nclip_grad = dict(type="value", clip_value=1, _delete_=True)',
    'color_jitter = dict(type="ColorJitter", hue=0.1, _delete_=True)',
    'color_jitter = dict(brightness=[0.9, 1.2])',
    'custom_hooks = [dict(type="EMAHook", momentum=0.01, priority=49)]',
    'default_hooks = dict(timing=dict(type="ProfilerHook", by_epoch=False))',
    'default_hooks = dict(logger=dict(interval=1), sync_buffer=None)',
    'train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=3)',
    'model = dict(backbone=dict(norm_cfg=dict(type="BN3d", requires_grad=False)))',
    'model = dict(cls_head=dict(loss_cls=dict(type="CrossEntropyLoss", loss_weight=2.0)))',
    'my_size = (64, 64)\ninput_size = "${my_size}"',
    '_note = "mine"\nauto_scale_lr = dict(enable=False, base_batch_size=16)',
    'train_dataloader = dict(drop_last=True, pin_memory=True, prefetch_factor=None)',
    'visualizer = dict(vis_backends=[dict(type="TensorboardVisBackend")], name="mine")',
    'param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=10)]',
    'classes = ["Wave", "Jump"]\nflip = None\nfailed_class = "Wave"',
]


@pytest.mark.parametrize('text', VARIANTS)
def test_legitimate_variant_is_accepted(tmp_path, text):
    path = tmp_path / 'variant.py'
    path.write_text(f'_base_ = {PRIMITIVE!r}\n{text}\n')
    load_config(str(path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(
        string.printable, max_size=20) | st.sampled_from(
        ['${lr}', '${lr', '${optimizers[lr]}', '${early_stopping.patience}', 'group']),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner, max_size=3),
    max_leaves=5)


@settings(max_examples=300, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*SETTINGS, *sorted(TABLES), 'classes']), VALUES,
                       min_size=1, max_size=2))
def test_no_value_of_a_setting_is_a_traceback(options):
    cfg = copy.deepcopy(raw())
    try:
        merge_options(cfg, options)
        assert '${' not in str(resolve(cfg._cfg_dict)['model'])
    except HRI30Error as error:
        assert str(error).strip()


def test_every_setting_has_a_default_and_a_description():
    rows = {row.name: row for row in list_settings(raw())}
    assert list(rows) == [name for name in SETTINGS if name not in OF_SOME_MODELS]
    optional = {'early_stopping.rule', 'clip_grad.type', 'clip_grad.clip_value'}
    for name, row in rows.items():
        of, _, entry = name.partition('.')
        assert of in raw(), name
        assert not entry or entry in raw()[of] or name in optional, name
        assert row.description and row.kind, name
    assert rows['lr'][1:4] == ('0.001', 'a number from 0', '')
    assert rows['optimizer'].kind == 'one of sgd, adam, adamw'
    assert rows['peer_timeout'].unit == 'seconds'


def test_top_of_the_base_configs_is_the_schema():
    """What stands under "Frequently modified" is exactly what the schema has."""
    names = {name for name in SETTINGS if '.' not in name}
    derived = {'warmup', *TABLES}
    others = {name for name, value in raw().items() if name not in names | derived
              and not isinstance(value, dict | list)}
    assert others <= {'default_scope', 'log_level', 'resume'}


def test_arguments_of_a_class_include_those_of_its_bases():
    class Base:
        def __init__(self, a, **kwargs):
            pass

    class Closed(Base):
        def __init__(self, a):
            pass

    class Derived(Closed):
        def __init__(self, b, **kwargs):
            super().__init__(**kwargs)

    assert accepted_arguments(Base) is None
    assert accepted_arguments(Derived) == {'self', 'a', 'b', 'kwargs'}
