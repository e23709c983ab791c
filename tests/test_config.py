"""Settings reach the loaders and the head, whenever they change."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import mmaction
import pytest
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmengine.config import Config
from mmengine.runner import Runner

from hri30_ext.config import (
    PROJECT_ROOT,
    load_config,
    parse_options,
    refuse_late_changes,
    unresolved,
)
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


@pytest.mark.parametrize('copied', [lambda cfg: cfg, copy.deepcopy, copy.copy],
                         ids=['itself', 'deepcopy', 'copy'])
@pytest.mark.parametrize('change, name', [
    (lambda cfg: setattr(cfg, 'num_frames', 16), 'num_frames'),
    (lambda cfg: cfg.merge_from_dict({'num_frames': 16}), 'num_frames'),
    (lambda cfg: setattr(cfg.split, 'val_groups', [2]), 'split'),
    (lambda cfg: setattr(cfg.optimizers.sgd, 'momentum', 0.5), 'optimizers'),
    (lambda cfg: cfg.test_pipeline.insert(2, dict(type='Flip')), 'test_pipeline')])
def test_setting_changed_after_loading_is_refused_at_the_start(change, name, copied):
    cfg = copied(Config.fromfile(PRIMITIVE))
    cfg.model.backbone.depth = 18  # no setting
    cfg.work_dir, cfg.load_from = 'elsewhere', None  # nothing refers to them
    refuse_late_changes(cfg)
    change(cfg)
    with pytest.raises(HRI30Error, match=f'{name}\\.\n.*--cfg-options'):
        Runner.from_cfg(cfg)


def test_loaded_config_survives_pickling():
    cfg = pickle.loads(pickle.dumps(load_config(PRIMITIVE, {'num_frames': 16})))
    assert cfg.test_pipeline[1].clip_len == 16


def test_unresolved_config_has_references_and_options(tmp_path):
    cfg = load_config(PRIMITIVE, {'num_frames': 16})
    source = unresolved(cfg)
    assert source.train_dataloader.dataset.pipeline == '${train_pipeline}'
    source.dump(tmp_path / 'work.py')
    again = load_config(str(tmp_path / 'work.py'), {'batch_size': 3})
    assert (again.test_pipeline[1].clip_len, again.train_dataloader.batch_size) == (16, 3)
    assert unresolved(Config(dict(a=1))).a == 1


@pytest.mark.slow
def test_tools_of_mmaction2_train_and_test_a_config(clips_root, tmp_path):
    """In a process of their own, which has not imported this package before."""
    tools = Path(mmaction.__file__).parent / '.mim' / 'tools'
    config = tmp_path / 'small.py'
    config.write_text(f"""_base_ = {DEMO_CONFIG!r}
data_root, cache_dir, classes = {str(clips_root)!r}, {str(tmp_path / 'cache')!r}, {CLASSES}
num_frames, input_size, max_epochs, batch_size = 4, (32, 32), 1, 3
precision, split = 'fp32', dict(val_groups=1)
""")

    def run(tool, *arguments):
        return subprocess.run(
            [sys.executable, str(tools / tool), str(config), *arguments, '--work-dir',
             str(tmp_path / 'work')],
            timeout=300, cwd=tmp_path, capture_output=True, text=True)

    assert run('train.py').returncode == 0
    assert run('test.py', str(tmp_path / 'work' / 'epoch_1.pth')).returncode == 0
    late = run('train.py', '--cfg-options', 'num_frames=8')
    assert late.returncode and 'num_frames' in late.stderr


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
    # The nearest first.
    assert PRIMITIVE.endswith(str(error.value).splitlines()[2].strip())


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
    with pytest.raises(HRI30Error, match="start='ssv2': .*\n.*one of: none, k400"):
        load_config(PRIMITIVE, {'start': 'ssv2'})
