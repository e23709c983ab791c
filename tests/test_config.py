"""Settings reach the loaders and the head, whenever they change."""

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import mmaction
import pytest
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmengine.config import Config

from hri30_ext.config import PROJECT_ROOT, load_config, parse_options
from hri30_ext.errors import HRI30Error


def test_settings_reach_loaders_and_head():
    cfg = load_config(PRIMITIVE, {
        'data_root': '/data', 'classes': CLASSES, 'num_frames': 16, 'batch_size': 3,
        'num_workers': 0, 'split.type': 'file', 'split.val_file': 'v.txt'})
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == '/data'
        assert loader.dataset.metainfo.classes == CLASSES
        assert loader.dataset.split.type == 'file'
        assert loader.dataset.split.val_file == str(Path('v.txt').resolve())
        assert loader.dataset.pipeline[1].clip_len == 16
        assert loader.batch_size == 3
        assert loader.num_workers == 0 and loader.persistent_workers is False
    assert cfg.model.cls_head.num_classes == 3
    assert cfg.test_pipeline[1].clip_len == 16
    assert '${' not in cfg.pretty_text


def test_options_beat_the_environment_beat_the_config(monkeypatch, tmp_path):
    assert load_config(PRIMITIVE).data_root == str(PROJECT_ROOT / 'data' / 'hri30')
    monkeypatch.setenv('HRI30_ROOT', '/from/environment')
    assert load_config(PRIMITIVE).data_root == '/from/environment'
    assert load_config(PRIMITIVE, {'data_root': '/option'}).data_root == '/option'
    monkeypatch.chdir(tmp_path)
    relative = str(Path(PRIMITIVE).relative_to(PROJECT_ROOT))  # found from any folder
    assert load_config(relative, {'data_root': 'x'}).data_root == str(tmp_path / 'x')


def test_nested_option_beats_a_setting():
    cfg = load_config(PRIMITIVE, {'val_dataloader.batch_size': 2})
    assert (cfg.train_dataloader.batch_size, cfg.val_dataloader.batch_size) == (16, 2)


CHANGES = {
    'attribute': lambda cfg: setattr(cfg, 'num_frames', 16),
    'item': lambda cfg: cfg.__setitem__('num_frames', 16),
    'update': lambda cfg: cfg.update(num_frames=16),
    'merge': lambda cfg: cfg.merge_from_dict({'num_frames': 16}),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize('copied', [lambda cfg: cfg, copy.deepcopy, copy.copy,
                                    lambda cfg: pickle.loads(pickle.dumps(cfg))],
                         ids=['itself', 'deepcopy', 'copy', 'pickle'])
def test_setting_changed_after_reading_takes_effect(change, copied):
    cfg = Config.fromfile(PRIMITIVE)
    assert cfg.test_pipeline[1].clip_len == 8
    cfg.model.backbone.depth = 18  # other changes stay
    cfg.train_dataloader.dataset.pipeline[0].keep = False
    cfg = copied(cfg)
    change(cfg)
    assert cfg.num_frames == cfg.test_pipeline[1].clip_len == 16
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[1].clip_len == 16
    assert cfg.model.backbone.depth == 18
    assert cfg.train_dataloader.dataset.pipeline[0].keep is False


def test_change_within_a_setting_takes_effect():
    cfg = load_config(PRIMITIVE)
    cfg.split.val_groups = [2]
    cfg.test_pipeline[1].num_clips = 3
    cfg.test_pipeline.insert(2, dict(type='FrameOrder', order='still'))
    cfg.optimizers.sgd.momentum = 0.5
    cfg.classes = CLASSES
    cfg.lr = 0.02
    assert cfg.val_dataloader.dataset.split.val_groups == [2]
    steps = cfg.test_dataloader.dataset.pipeline
    assert (steps[1].num_clips, steps[2].order, steps[3].type) == (3, 'still', 'ClipDecode')
    cfg.num_frames = 4
    assert cfg.test_dataloader.dataset.pipeline[1].clip_len == 4
    assert cfg.optim_wrapper.optimizer.momentum == 0.5
    assert cfg.optim_wrapper.optimizer.lr == 0.02
    assert cfg.model.cls_head.num_classes == 3
    cfg.flip = None
    assert not any('Flip' in step.type for step in cfg.train_dataloader.dataset.pipeline)
    assert cfg.unresolved.train_dataloader.dataset.pipeline == '${train_pipeline}'
    cfg.lr = 'fast'
    with pytest.raises(HRI30Error, match="lr='fast': expected a number"):
        cfg.model  # noqa: B018


@pytest.mark.slow
def test_tools_of_mmaction2_train_and_test_a_config(clips_root, tmp_path):
    """In a process of their own, which has not imported this package before."""
    tools = Path(mmaction.__file__).parent / '.mim' / 'tools'
    root = tmp_path / 'clips'  # mmengine drops spaces from options
    root.symlink_to(clips_root)
    options = ['--cfg-options', f'data_root={root}', f'classes={",".join(CLASSES)}',
               'num_frames=4', 'input_size=(32,32)', 'max_epochs=1', 'batch_size=3',
               'precision=fp32', f'cache_dir={tmp_path / "cache"}', 'split.val_groups=1']
    for command in (['train.py', DEMO_CONFIG],
                    ['test.py', DEMO_CONFIG, str(tmp_path / 'epoch_1.pth')]):
        subprocess.run([sys.executable, str(tools / command[0]), *command[1:], '--work-dir',
                        str(tmp_path), *options], check=True, timeout=300, cwd=tmp_path)
    dumped = Config.fromfile(tmp_path / Path(DEMO_CONFIG).name)
    assert dumped.train_dataloader.dataset.pipeline[1].clip_len == 4


@pytest.mark.parametrize('options, message', [
    ({'classes': ['A', 'B', 'A']}, 'can be listed once'),
    ({'num_classes': 7}, 'num_classes=7, but classes has 30'),
    ({'train_pipeline.99.x': 1}, '--cfg-options'),
])
def test_contradicting_options(options, message):
    with pytest.raises(HRI30Error, match=message):
        load_config(PRIMITIVE, options)


@pytest.mark.parametrize('text, message', [
    ("model = dict(a='${absent}')", r'model\.a refers to \$\{absent\}'),
    ("a = '${b}'\nb = '${a}'\nmodel = dict(c='${a}')", 'refers to itself'),
    ('model = dict(', 'line 1'),
    ('x = 1', 'not a complete config: it has no model'),
    ("_base_ = 'nowhere.py'\nmodel = dict()", 'not a readable config'),
])
def test_broken_config_is_named(tmp_path, text, message):
    path = tmp_path / 'broken.py'
    path.write_text(text + '\n')
    with pytest.raises(HRI30Error, match=message):
        load_config(str(path))


def test_missing_config_names_those_that_are_there():
    with pytest.raises(HRI30Error) as error:
        load_config(PRIMITIVE.replace('slowonly', 'slowony'))
    lines = str(error.value).splitlines()
    assert PRIMITIVE.endswith(lines[2].strip())  # the nearest first
    assert len(lines) == 11 and re.search(r'and \d+ more', lines[-1])


def test_parse_options():
    assert parse_options(['a.b=1', 'classes=A,B', 'v=[1]', 'root=/my, clips', 'n=None',
                          'size=(1, 2)', "x=/it's (a) copy/b"]) == {
        'a.b': 1, 'classes': ['A', 'B'], 'v': [1], 'root': '/my, clips', 'n': None,
        'size': (1, 2), 'x': "/it's (a) copy/b"}
    with pytest.raises(HRI30Error, match='expected KEY=VALUE'):
        parse_options(['batch_size'])


def test_start_chooses_weights_or_says_what_there_is():
    assert load_config(PRIMITIVE).load_from.endswith('-2132fc87.pth')
    cfg = load_config(PRIMITIVE, {'start': 'imagenet'})
    assert cfg.load_from is None and 'resnet50' in cfg.model.backbone.pretrained
    cfg = load_config(PRIMITIVE, {'start': 'none'})
    assert cfg.load_from is cfg.model.backbone.pretrained is None
    tsm = str(next((PROJECT_ROOT / 'configs' / 'tsm').glob('*.py')))
    assert 'sthv2' in load_config(tsm, {'start': 'ssv2'}).load_from
    assert load_config(tsm, {'start': 'ssv2', 'load_from': 'a.pth'}).load_from == 'a.pth'
    with pytest.raises(HRI30Error, match="start='ssv2': .*\n.*one of: none, k400, imagen"):
        load_config(PRIMITIVE, {'start': 'ssv2'})
