"""Every config builds without a network, and its name agrees with what it builds."""

import math
import re
import socket
from collections import Counter
from pathlib import Path

import mmaction
import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.video.preprocessing import linspace_indices

#: Frozen models have tests of their own, on small sizes: test_models/test_foundation.py.
CONFIGS = sorted(path for path in (PROJECT_ROOT / 'configs').glob('*/*.py')
                 if path.parent.name not in ('_base_', 'custom', 'foundation'))
NAME = re.compile(
    r'(?P<algorithm>[a-z0-9-]+)_(?P<start>k400-pretrained|imagenet-pretrained|scratch)-'
    r'(?P<backbone>[a-z0-9-]+)_1xb(?P<batch>\d+)-'
    r'(?:uniform(?P<uniform>\d+)|(?P<clip>\d+)x(?P<interval>\d+)x1)'
    r'(?P<suffixes>(?:-[a-z0-9]+)*)-(?P<epochs>\d+)e_(?P<data>hri30|embedded)-rgb')

#: By the first part of a name: recognizer, backbone and head.
ALGORITHMS = {
    'cnn-lstm': ('Recognizer2D', 'ResNet', 'LSTMHead'),
    'ircsn': ('Recognizer3D', 'ResNet3dCSN', 'I3DHead'),
    'mvitv2': ('Recognizer3D', 'MViT', 'MViTHead'),
    'r2plus1d': ('Recognizer3D', 'ResNet2Plus1d', 'I3DHead'),
    'slowfast': ('Recognizer3D', 'ResNet3dSlowFast', 'SlowFastHead'),
    'slowonly': ('Recognizer3D', 'ResNet3dSlowOnly', 'I3DHead'),
    'swin': ('Recognizer3D', 'SwinTransformer3D', 'I3DHead'),
    'tin': ('Recognizer2D', 'ResNetTIN', 'TSMHead'),
    'tsm': ('Recognizer2D', 'ResNetTSM', 'TSMHead'),
    'tsn': ('Recognizer2D', 'ResNet', 'TSNHead'),
    'uniformerv2': ('Recognizer3D', 'UniFormerV2', 'UniFormerHead'),
    'videomae': ('Recognizer3D', 'VisionTransformer', 'TimeSformerHead'),
    'x3d': ('Recognizer3D', 'X3D', 'X3DHead'),
}

#: By the backbone in a name, where that is not a ResNet's depth: whether the config and
#: the backbone built are of that size.
SIZES = {
    'base': lambda cfg, backbone: len(backbone.transformer.resblocks) == 12,
    'm': lambda cfg, backbone: (cfg.num_frames, cfg.input_size) == (16, (224, 224)),
    's': lambda cfg, backbone: (cfg.num_frames, cfg.input_size) == (13, (160, 160)),
    'small': lambda cfg, backbone: len(backbone.blocks) == 16,
    'tiny': lambda cfg, backbone: (
        [len(layer.blocks) for layer in backbone.layers] == [2, 2, 6, 2]),
    'vit-base': lambda cfg, backbone: (
        (len(backbone.blocks), backbone.embed_dims) == (12, 768)),
}


def _has_order(cfg, order):
    return any(step.get('order') == order for step in cfg.test_pipeline)


#: By a word between clip and epochs in a name: whether the config does what it says.
SUFFIXES = {
    '256px': lambda cfg: cfg.input_size == (256, 256),
    'adamw': lambda cfg: cfg.optim_wrapper.optimizer.type == 'AdamW',
    'centercrop': lambda cfg: any(step.type == 'CenterCrop' for step in cfg.test_pipeline),
    'features': lambda cfg: cfg.cache_features == 'plain',
    'frozen': lambda cfg: cfg.strategy == 'frozen_backbone',
    'keepflip': lambda cfg: any(step.type == 'Flip' for step in cfg.train_pipeline),
    'noflip': lambda cfg: not any('Flip' in step.type for step in cfg.train_pipeline),
    'paper': lambda cfg: cfg.split.type == 'paper' and cfg.split.val_groups == 0,
    'progressive': lambda cfg: cfg.strategy == 'progressive',
    'reversed': lambda cfg: _has_order(cfg, 'reversed'),
    'scripts': lambda cfg: cfg.sampling == 'linspace' and not cfg.split.stratified,
    'stagewise': lambda cfg: cfg.strategy == 'stagewise',
    'still': lambda cfg: _has_order(cfg, 'still'),
    'tenth': lambda cfg: cfg.strategy == 'backbone_tenth',
}


def parse_name(config):
    match = NAME.fullmatch(config.stem)
    assert match, f'{config.stem}: not a name of this project'
    return match


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request):
    return request.param


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test on a download, even of what lies in torch's cache."""
    def refuse(*args, **kwargs):
        # Not an Exception: mmengine and mmaction2 catch those in places.
        pytest.fail(f'reaches for the network: {args[-1:]}')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(mmengine.runner.checkpoint, 'load_url', refuse)
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', refuse)


def test_name_agrees_with_what_is_built(config, no_network):
    match = parse_name(config)
    cfg = load_config(str(config))
    model = MODELS.build(cfg.model)
    assert ALGORITHMS[match['algorithm']] == tuple(
        type(part).__name__ for part in (model, model.backbone, model.cls_head))
    depth = re.fullmatch(r'r(\d+)', match['backbone'])
    if depth:
        backbone = getattr(model.backbone, 'slow_path', model.backbone)
        assert backbone.depth == int(depth[1])
    else:
        assert SIZES[match['backbone']](cfg, model.backbone)
    assert model.cls_head.num_classes == 30
    assert bool(model.data_preprocessor.blending) == bool(cfg.mixing)
    assert model.data_preprocessor.format_shape == cfg.input_format == (
        'NCHW' if type(model).__name__ == 'Recognizer2D' else 'NCTHW')
    assert cfg.train_dataloader.batch_size == int(match['batch'])
    assert cfg.train_cfg.max_epochs == int(match['epochs'])
    assert cfg.data_root.rsplit('/', 1)[1] == match['data']
    frames = int(match['uniform'] or match['clip'])
    for loader, test_mode in ((cfg.train_dataloader, False), (cfg.val_dataloader, True),
                              (cfg.test_dataloader, True)):
        sampler = loader.dataset.pipeline[1]
        always = test_mode or cfg.sampling == 'linspace'
        uniform = 'UniformViews' if always else 'UniformSegments'
        assert sampler.type == (uniform if match['uniform'] else 'SampleFrames')
        assert sampler.clip_len == cfg.num_frames == frames
        assert sampler.get('frame_interval') == (
            int(match['interval']) if match['interval'] else None)
        assert sampler.get('test_mode', False) == test_mode
    assert bool(cfg.load_from) == (match['start'] == 'k400-pretrained')
    start = cfg.starts[cfg.start]
    assert (cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std) == (
        start.mean, start.std)
    # A model that loads weights of its own would download what load_from replaces.
    assert ('://' in str(cfg.model)) == (match['start'] == 'imagenet-pretrained')
    for word in match['suffixes'].split('-')[1:]:
        assert word in SUFFIXES, f'{config.stem}: add {word} to SUFFIXES'
        assert SUFFIXES[word](cfg), f'{config.stem}: not {word}'
    names = [name for name, _ in model.named_parameters()]
    for strategy in cfg.strategies.values():
        steps = (strategy.schedule or {}).get('schedule', ())
        for part in (*(strategy.part_lr_mult or ()), *(
                part for step in steps for part in step.parts)):
            assert any(f'{name}.'.startswith(f'{part}.') for name in names), part


#: By the weights of a start that mmaction2 has no config for: mean and deviation in [0, 1].
OTHER_SOURCES = {
    'resnet50-11ad3fa6.pth': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision
    'SLOW_8x8_R50.safetensors': ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),  # PyTorchVideo
    'videomae-base-finetuned-ssv2.safetensors': (  # as all recipes of VideoMAE
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


#: Configs that set starts; the others inherit theirs.
WITH_STARTS = [path for path in CONFIGS if '\nstarts = ' in path.read_text()]


@pytest.mark.parametrize('config', WITH_STARTS, ids=lambda path: path.stem)
def test_each_start_brings_the_normalisation_of_its_source(config):
    """That of the config in mmaction2 whose name its weights begin with."""
    sources = Path(mmaction.__file__).parent / '.mim' / 'configs' / 'recognition'
    for name, start in load_config(str(config)).starts.items():
        weights = (start.weights or start.image_weights or '').rsplit('/', 1)[-1]
        if name == 'none':
            continue
        if weights in OTHER_SOURCES:
            mean, std = ([255 * value for value in values]
                         for values in OTHER_SOURCES[weights])
        else:
            stem = re.sub(r'_\d{8}-[0-9a-f]{8}\.pth', '', weights)
            source, = sources.glob(f'*/{stem}.py')
            preprocessor = Config.fromfile(source).model.data_preprocessor
            mean, std = preprocessor.mean, preprocessor.std
        assert (start.mean, start.std) == (pytest.approx(mean), pytest.approx(std)), name
        model = load_config(str(config), {'start': name}).model
        assert model.data_preprocessor.mean == start.mean, name
        assert model.data_preprocessor.std == start.std, name


#: The config of mmaction2 that a recipe is of, and how the rate of the backbone is given.
RECIPES = {
    'mvitv2': 'mvit/mvit-small-p244_k400-maskfeat-pre_8xb32-16x4x1-100e_kinetics400-rgb',
    'swin': 'swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb',
    'uniformerv2': 'uniformerv2/uniformerv2-base-p16-res224_clip-kinetics710-kinetics-k400-'
                   'pre_16xb32-u8_mitv1-rgb'}


def _list_steps(pipeline, kind):
    return [step for step in pipeline if step['type'] == kind]


@pytest.mark.parametrize('algorithm', RECIPES)
def test_recipes_of_transformers_are_those_of_mmaction2(algorithm):
    config, = (path for path in CONFIGS if path.stem.startswith(f'{algorithm}_'))
    cfg = load_config(str(config))
    source = Config.fromfile(Path(mmaction.__file__).parent / '.mim' / 'configs' /
                             'recognition' / f'{RECIPES[algorithm]}.py')
    ours, theirs = cfg.optim_wrapper, source.optim_wrapper
    for name in ('type', 'betas', 'weight_decay'):
        assert ours.optimizer[name] == theirs.optimizer[name], name
    # The rate of the last layer of the backbone, for so many clips.
    parts = ours.paramwise_cfg.part_lr_mult or {}
    assert ours.optimizer.lr * parts.get('backbone', 1) == pytest.approx(
        theirs.optimizer.lr * theirs.paramwise_cfg.get('backbone', {}).get('lr_mult', 1))
    assert cfg.base_batch_size == source.auto_scale_lr.base_batch_size
    assert cfg.scale_lr == 'linear'
    assert cfg.layer_decay == theirs.paramwise_cfg.get('decay_rate')
    assert ours.clip_grad == theirs.get('clip_grad')
    for name in ('drop_path_rate', 'backbone_drop_path_rate'):
        assert cfg.model.backbone.get(name) == source.model.backbone.get(name), name
    head, their_head = cfg.model.cls_head, source.model.cls_head
    assert head.label_smooth_eps == their_head.get('label_smooth_eps', 0)
    assert head.get('dropout_ratio') == their_head.get('dropout_ratio')
    expected = MODELS.build(their_head)
    assert cfg.head_std == pytest.approx(
        expected.init_std * getattr(expected, 'init_scale', 1))
    blending = source.model.data_preprocessor.get('blending')
    assert cfg.model.data_preprocessor.blending == (blending and {
        **blending, 'augments': [{**one, 'num_classes': 30} for one in blending.augments]})
    assert cfg.repeats == source.train_dataloader.dataset.get('num_repeats', 1)
    their_steps = source.train_dataloader.dataset.pipeline
    assert (_list_steps(cfg.train_pipeline, 'RandomErasing')
            == _list_steps(their_steps, 'RandomErasing'))
    drawn = _list_steps(their_steps, 'PytorchVideoWrapper')
    layers = drawn[0].get('num_layers', 2) if drawn else None  # 2: pytorchvideo's default
    assert cfg.rand_augment == (f'm7-n{layers}' if drawn else None)
    assert not drawn or drawn[0].magnitude == 7


def test_recipe_of_videomae_is_its_authors():
    """mmaction2 has no training of it: run_class_finetuning.py of MCG-NJU/VideoMAE."""
    config, = (path for path in CONFIGS if path.stem.startswith('videomae_'))
    cfg = load_config(str(config))
    assert {name: cfg[name] for name in (
        'lr', 'base_batch_size', 'scale_lr', 'layer_decay', 'clip_grad', 'label_smoothing',
        'warmup_epochs', 'drop_path', 'rand_augment', 'repeats', 'mixing')} == dict(
        lr=5e-4, base_batch_size=256, scale_lr='linear', layer_decay=0.75, clip_grad=None,
        label_smoothing=0.1, warmup_epochs=5, drop_path=0.1, rand_augment='m7-n4',
        repeats=2, mixing='both')
    assert cfg.head_std == pytest.approx(0.02 * 0.001)  # init_scale
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.999), 0.05)
    erasing, = _list_steps(cfg.train_pipeline, 'RandomErasing')
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    mixup, cutmix = cfg.model.data_preprocessor.blending.augments
    assert (mixup.alpha, cutmix.alpha) == (0.8, 1)


def test_loaders_serve_what_the_model_takes(config, clips_root, tmp_path):
    cfg = load_config(str(config), {'data_root': str(clips_root), 'batch_size': 2,
                                    'num_workers': 0, 'split.val_groups': 1,
                                    'cache_dir': str(tmp_path)})
    width, height = cfg.input_size
    centre = 'centercrop' in config.stem
    for loader, view in ((cfg.train_dataloader, False), (cfg.test_dataloader, centre)):
        assert 'kinetics' not in str(loader)  # nothing is inherited that does not exist
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
        size = (224, 224) if view else (height, width)
        assert batch['inputs'][0].shape == {
            'NCTHW': (1, 3, cfg.num_frames, *size),  # the first: views
            'NCHW': (cfg.num_frames, 3, *size)}[cfg.input_format]
        assert batch['data_samples'][0].video_id.startswith('CID')
        assert 0 <= int(batch['data_samples'][0].gt_label) < 30
    # As mmaction2's init_recognizer reads a config, for a bare file name.
    steps = Config.fromfile(str(config)).test_pipeline
    assert not any(step.get('keep', False) for step in steps)
    assert Compose(steps)(dict(filename=str(next((clips_root / 'test_set').iterdir())),
                               label=-1, start_index=0, modality='RGB'))


#: What else must be smaller where the input is: models whose position embeddings are made
#: for one size.
SHRUNK = {'mvitv2': {'model.backbone.spatial_size': 64},
          'uniformerv2': {'model.backbone.input_resolution': 64},
          'videomae': {'model.backbone.img_size': 64}}


@pytest.fixture
def one_thread():
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures('no_network', 'one_thread')
def test_takes_a_training_step_without_a_network(config, clips_root, tmp_path):
    match = parse_name(config)
    options = {'data_root': str(clips_root), 'split.val_groups': 1, 'num_workers': 0,
               'cache_dir': str(tmp_path), 'batch_size': 2, 'input_size': (64, 64),
               'decode_size': 72, 'num_frames': min(
                   8, int(match['uniform'] or match['clip'])),
               **SHRUNK.get(match['algorithm'], {})}
    if match['start'] == 'imagenet-pretrained':
        options['model.backbone.pretrained'] = None
    cfg = load_config(str(config), options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    before = {name: parameter.detach().clone() for name, parameter
              in model.cls_head.named_parameters()}
    logs = model.train_step(batch, optim_wrapper)
    assert math.isfinite(logs['loss'].item())
    for name, parameter in model.cls_head.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), f'{name}: has not learnt'


def test_scripts_draw_crops_and_colours_for_half_of_the_clips(clips_root, tmp_path):
    """Frames are those of linspace; the validation sees the same ones."""
    config, = (path for path in CONFIGS if '-scripts-' in path.stem)
    cfg = load_config(str(config), {'data_root': str(clips_root), 'input_size': (32, 32),
                                    'flip': None, 'cache_dir': str(tmp_path)})
    file = str(next((clips_root / 'test_set').iterdir()))
    given = dict(filename=file, label=0, start_index=0, modality='RGB')
    train, test = Compose(cfg.train_pipeline[:-2]), Compose(cfg.test_pipeline[:-2])
    expected = test(dict(given))
    assert expected['frame_inds'].tolist() == linspace_indices(
        expected['total_frames'], 8).tolist()
    np.random.seed(0)
    seen = Counter()
    for _ in range(40):
        found = train(dict(given))
        assert found['frame_inds'].tolist() == expected['frame_inds'].tolist()
        assert found['imgs'].shape == expected['imgs'].shape
        same = np.array_equal(found['imgs'], expected['imgs'])
        seen['crop_quadruple' in found, same] += 1
    assert 10 <= seen[True, False] <= 30 and seen[False, False] and seen[False, True]
