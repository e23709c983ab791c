"""Every config builds without a network, and its name agrees with what it builds."""

import re

import pytest
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from hri30_ext.config import PROJECT_ROOT, load_config

CONFIGS = sorted(path for path in (PROJECT_ROOT / 'configs').glob('*/*.py')
                 if path.parent.name != '_base_')
NAME = re.compile(
    r'(?P<model>[a-z]+)_(?P<start>k400-pretrained|imagenet-pretrained|scratch)-r(?P<depth>'
    r'\d+)_1xb(?P<batch>\d+)-(?:uniform(?P<uniform>\d+)|(?P<clip>\d+)x(?P<interval>\d+)x1)'
    r'(?:-(?P<view>centercrop|still|reversed|\d+px))?-(?P<epochs>\d+)e_(?P<data>hri30|embedded)-rgb')


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request):
    return request.param


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmaction')


def test_name_agrees_with_what_is_built(config):
    match = NAME.fullmatch(config.stem)
    assert match, f'{config.stem}: not a name of this project'
    cfg = load_config(str(config))
    model = MODELS.build(cfg.model)
    assert model.backbone.depth == int(match['depth'])
    assert model.cls_head.num_classes == 30
    assert cfg.train_dataloader.batch_size == int(match['batch'])
    assert cfg.train_cfg.max_epochs == int(match['epochs'])
    assert (cfg.data_root.rsplit('/', 1)[1] == match['data'])
    frames = int(match['uniform'] or match['clip'])
    for loader, test_mode in ((cfg.train_dataloader, False), (cfg.val_dataloader, True),
                              (cfg.test_dataloader, True)):
        sampler = loader.dataset.pipeline[1]
        assert sampler.type == ('UniformSample' if match['uniform'] else 'SampleFrames')
        assert sampler.clip_len == cfg.num_frames == frames
        assert sampler.get('frame_interval') == (
            int(match['interval']) if match['interval'] else None)
        assert sampler.get('test_mode', False) == test_mode
    assert bool(cfg.load_from) == (match['start'] == 'k400-pretrained')
    assert bool(cfg.model.backbone.pretrained) == (match['start'] == 'imagenet-pretrained')


def test_loaders_serve_what_the_model_takes(config, clips_root, tmp_path):
    cfg = load_config(str(config), {'data_root': str(clips_root), 'batch_size': 2,
                                    'num_workers': 0, 'split.val_groups': 1,
                                    'cache_dir': str(tmp_path)})
    width, height = cfg.input_size
    centre = 'centercrop' in config.stem
    for loader, view in ((cfg.train_dataloader, False), (cfg.test_dataloader, centre)):
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
        # (views, C, T, H, W)
        assert batch['inputs'][0].shape == (
            1, 3, cfg.num_frames, *((224, 224) if view else (height, width)))
        assert batch['data_samples'][0].video_id.startswith('CID')
        assert 0 <= int(batch['data_samples'][0].gt_label) < 30


def test_test_pipeline_takes_a_bare_file_name(config, clips_root):
    from mmengine.dataset import Compose
    cfg = Config.fromfile(str(config))  # as mmaction2's init_recognizer reads it
    clip = next((clips_root / 'test_set').iterdir())
    if 'cache_dir' in cfg:
        assert not any(step.get('cache_dir') for step in cfg.test_pipeline)
    packed = Compose(cfg.test_pipeline)(dict(
        filename=str(clip), label=-1, start_index=0, modality='RGB'))
    assert packed['inputs'].shape[1:3] == (3, cfg.num_frames)


def test_nothing_is_inherited_that_does_not_exist(config):
    cfg = load_config(str(config))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
        assert 'kinetics' not in str(loader)
