"""What is trained when, at which rate, and that resuming changes nothing."""

import pytest
import torch
from conftest import DEMO_CONFIG, TINY
from mmaction.registry import HOOKS, MODELS
from mmengine.optim import build_optim_wrapper

from hri30_ext.apis import train
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.engine import UnfreezeHook
from hri30_ext.engine.fine_tuning import freeze_all_but
from hri30_ext.engine.hooks import learning_rates
from hri30_ext.errors import HRI30Error

STRATEGIES = ('full', 'frozen_backbone', 'backbone_tenth', 'progressive', 'stagewise')


def build(options, **changes):
    cfg = load_config(DEMO_CONFIG, {**options, **changes})
    model = MODELS.build(cfg.model)
    return cfg, model, build_optim_wrapper(model, cfg.optim_wrapper)


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_parameter_names_of_each_group(strategy, options):
    _, model, wrapper = build(options, strategy=strategy, optimizer='sgd')
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {group['name']: [names[id(parameter)] for parameter in group['params']]
              for group in wrapper.optimizer.param_groups}
    assert set(groups) == {'backbone', 'cls_head'}
    assert groups['cls_head'] == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert groups['backbone'][0] == 'backbone.conv1.conv.weight'
    assert all(name.startswith('backbone.') for name in groups['backbone'])
    # Every parameter once, those that are frozen at first included.
    assert sorted(name for group in groups.values() for name in group) == sorted(
        names.values())
    factor = 1 if strategy in ('full', 'frozen_backbone') else 0.1
    rates = {group['name']: group['lr'] for group in wrapper.optimizer.param_groups}
    assert rates == pytest.approx({'backbone': 0.004 * factor, 'cls_head': 0.004})
    logged = learning_rates(wrapper)
    assert set(logged) == ({'lr'} if factor == 1 else {'backbone_lr', 'cls_head_lr'})


@pytest.mark.parametrize(('optimizer', 'decayed'), [
    ('adamw', {'blocks.0.weight', 'decomposition', 'fc_token.weight'}), ('sgd', None)])
def test_adamw_decays_no_norms_biases_tokens_and_position_tables(
        optimizer, decayed, options):
    model = torch.nn.ModuleDict(dict(
        blocks=torch.nn.ModuleList([torch.nn.Conv2d(2, 2, 3), torch.nn.LayerNorm(2)]),
        fc_token=torch.nn.Linear(2, 2), bn=torch.nn.BatchNorm3d(2),
        lstm=torch.nn.ParameterDict(dict(bias_ih_l0=torch.zeros(8)))))
    for name in ('cls_token', 'temporal_cls_token', 'pos_embed', 'pos_embed_spatial',
                 'rel_pos_h', 'relative_position_bias_table', 'positional_embedding',
                 'position_embeddings', 'class_embedding', 'decomposition'):
        model.register_parameter(name, torch.nn.Parameter(torch.zeros(1, 3, 2)))
    cfg = load_config(DEMO_CONFIG, {**options, 'optimizer': optimizer})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert {names[id(parameter)] for group in groups if group['weight_decay']
            for parameter in group['params']} == (decayed or set(names.values()))


def test_rules_of_mmengine_still_hold_and_their_groups_are_few(options):
    cfg, model, _ = build(options)
    cfg.optim_wrapper.paramwise_cfg = dict(
        norm_decay_mult=0, part_lr_mult={'backbone': 0.1, 'backbone.layer4': 0.5})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {group['name']: (round(group['lr'] / 0.004, 6), group['weight_decay'])
              for group in wrapper.optimizer.param_groups}
    assert groups == {
        'backbone': (0.1, 0.05), 'backbone.no_decay': (0.1, 0),
        'backbone.layer4': (0.5, 0.05), 'backbone.layer4.no_decay': (0.5, 0),
        'cls_head': (1, 0.05), 'cls_head.no_decay': (1, 0)}
    assert set(learning_rates(wrapper)) == {'backbone_lr', 'backbone.layer4_lr',
                                            'cls_head_lr'}


#: Small transformers: what makes the config's model small, and layers of some parameters.
TRANSFORMERS = {
    'videomae': ({'depth': 3, 'embed_dims': 16, 'num_heads': 2, 'img_size': 32}, 16, 4, {
        'patch_embed.projection.weight': 0, 'blocks.0.norm1.weight': 1,
        'blocks.2.mlp.layers.1.bias': 3, 'fc_norm.weight': 4}),
    'mvit': ({'arch': dict(_delete_=True, embed_dims=8, num_layers=3, num_heads=1,
                           downscale_indices=[1]),
              'spatial_size': 32, 'temporal_size': 4}, 16, 4, {
        'cls_token': 0, 'patch_embed.projection.bias': 0, 'blocks.0.norm1.weight': 1,
        'blocks.1.attn.qkv.weight': 2, 'blocks.2.attn.rel_pos_h': 3, 'norm1.weight': 4}),
    'swin': ({'arch': dict(_delete_=True, embed_dims=8, depths=[1, 2], num_heads=[1, 2]),
              'window_size': (2, 2, 2), 'out_indices': (1, )}, 16, 4, {
        'patch_embed.proj.weight': 0, 'layers.0.blocks.0.norm1.weight': 1,
        'layers.0.downsample.reduction.weight': 1,
        'layers.1.blocks.0.attn.relative_position_bias_table': 2,
        'layers.1.blocks.1.mlp.fc1.weight': 3, 'norm1.weight': 4}),
    'uniformerv2': ({'input_resolution': 32, 'width': 16, 'layers': 3, 'heads': 2,
                     't_size': 4, 'return_list': [1, 2], 'n_layers': 2, 'n_dim': 16,
                     'n_head': 2, 'mlp_dropout': [.5, .5]}, 16, 4, {
        'conv1.weight': 0, 'class_embedding': 0, 'positional_embedding': 0,
        'ln_pre.bias': 0, 'transformer.resblocks.0.attn.in_proj_weight': 1,
        'transformer.resblocks.2.mlp.c_fc.weight': 3,
        'transformer.temporal_cls_token': 4, 'transformer.dec.0.ln_1.weight': 4,
        'transformer.dpe.0.weight': 4}),
}


def small(name, options):
    """Options that make the config of a transformer small."""
    backbone, channels, _, _ = TRANSFORMERS[name]
    config, = (PROJECT_ROOT / 'configs' / name).glob('*.py')
    return str(config), {
        **options, 'load_from': None, 'max_epochs': 1, 'warmup_epochs': 0,
        'decode_size': 36, 'model.cls_head.in_channels': channels,
        **{f'model.backbone.{key}': value for key, value in backbone.items()}}


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_layers_of_transformers_and_their_rates(name, options):
    config, changes = small(name, options)
    cfg = load_config(config, {**changes, 'layer_decay': 0.5, 'strategy': 'backbone_tenth',
                               'lr': 1})
    model = MODELS.build(cfg.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {names[id(one)]: group['lr'] for group in groups for one in group['params']}
    assert rates.keys() == set(names.values())
    _, _, last, layers = TRANSFORMERS[name]
    for parameter, layer in layers.items():
        assert rates[f'backbone.{parameter}'] == pytest.approx(
            0.1 * 0.5 ** (last - layer)), parameter
    assert rates['cls_head.' + next(iter(model.cls_head.state_dict()))] == 1
    assert {group['name'].removesuffix('.no_decay') for group in groups} == {
        'backbone', 'cls_head', *(f'backbone.layer{i}' for i in range(last))}


@pytest.mark.parametrize('name', ['videomae', 'mvit'])
def test_rates_of_layers_are_those_of_mmaction2(name, options):
    config, changes = small(name, options)
    cfg = load_config(config, changes)
    model = MODELS.build(cfg.model)
    theirs = {**cfg.optim_wrapper, 'constructor': 'LearningRateDecayOptimizerConstructor',
              'paramwise_cfg': dict(decay_rate=cfg.layer_decay, num_layers=3)}
    rates = [{id(one): group['lr'] for group in build_optim_wrapper(
        model, wrapper).optimizer.param_groups for one in group['params']}
        for wrapper in (cfg.optim_wrapper, theirs)]
    assert rates[0] == pytest.approx(rates[1])


def test_layer_decay_needs_layers(options):
    with pytest.raises(HRI30Error, match='no blocks.*\n.*layer_decay=None'):
        build(options, layer_decay=0.75)


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_transformers_train_with_their_recipes(name, options, tmp_path):
    config, changes = small(name, options)
    work_dir = tmp_path / 'work'
    train(config, work_dir=str(work_dir), options={**changes, 'batch_size': 3})
    rows = (work_dir / 'training_curves.csv').read_text().splitlines()
    assert len(rows) == 2 and 'nan' not in rows[1]
    saved = torch.load(next(work_dir.glob('epoch_1.pth')), weights_only=True)
    assert saved['meta']['iter'] == 2
    assert all(value.isfinite().all() for value in saved['state_dict'].values())


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def norms_in_training(model):
    return {name.split('.')[1] for name, module in model.named_modules()
            if isinstance(module, torch.nn.BatchNorm3d) and module.training}


STAGES = ['conv1', 'layer1', 'layer2', 'layer3', 'layer4']


@pytest.mark.parametrize('strategy, trained', [
    ('frozen_backbone', {0: [], 9: [], 10: [], 99: []}),
    ('progressive', {0: [], 9: [], 10: STAGES, 99: STAGES}),
    ('stagewise', {0: [], 9: [], 10: ['layer4'], 14: ['layer4'],
                   15: ['layer3', 'layer4'], 20: STAGES, 99: STAGES}),
])
def test_trainable_count_and_norm_mode_of_each_epoch(strategy, trained, options):
    cfg, model, _ = build(options, strategy=strategy)
    hook = HOOKS.build(next(hook for hook in cfg.custom_hooks
                            if hook.type == 'UnfreezeHook'))
    head = sum(p.numel() for p in model.cls_head.parameters())
    for epoch, stages in trained.items():
        model.train()
        freeze_all_but(model, hook.trained_parts(epoch))
        expected = head + sum(p.numel() for stage in stages
                              for p in getattr(model.backbone, stage).parameters())
        assert count(model) == expected, epoch
        assert norms_in_training(model) == set(stages), epoch


def test_stagewise_begins_behind_the_last_block_of_x3d():
    cfg = load_config(str(next((PROJECT_ROOT / 'configs/x3d').glob('*-s_*.py'))),
                      dict(strategy='stagewise'))
    schedule = next(hook for hook in cfg.custom_hooks if hook.type == 'UnfreezeHook')
    assert schedule.schedule[1].parts == ['backbone.conv5', 'backbone.layer4']


def test_part_ends_at_a_dot(options):
    _, model, _ = build(options)
    freeze_all_but(model, ['backbone.layer'])
    assert count(model) == 0


@pytest.mark.parametrize('schedule, message', [
    ([dict(begin=5, parts=['cls_head'])], 'nothing is trained in the first epoch'),
    ([dict(begin=0, parts='cls_head')], 'expected dict'),
    ([dict(epoch=0, parts=['cls_head'])], 'expected dict'),
])
def test_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(HRI30Error, match=message):
        UnfreezeHook(schedule)


def test_part_that_names_nothing_is_refused_before_the_first_epoch(options, tmp_path):
    schedule = [dict(begin=0, parts=['cls_head', 'backbone.layer5'])]
    with pytest.raises(HRI30Error, match=r"'backbone.layer5' names no(.|\n)*layer4"):
        train(DEMO_CONFIG, work_dir=str(tmp_path), options={
            **options, 'strategy': 'stagewise',
            'strategies.stagewise.schedule.schedule': schedule})
    with pytest.raises(HRI30Error, match='part_lr_mult'):
        train(DEMO_CONFIG, work_dir=str(tmp_path), options={
            **options, 'strategies.full.part_lr_mult': {'trunk': 0.1}})


#: The head in epoch 1, layer4 from the second, all from the third.
QUICK = [dict(begin=0, parts=['cls_head']), dict(begin=1, parts=['backbone.layer4']),
         dict(begin=2, parts=['backbone'])]


def test_what_changes_in_a_progressive_run(options, tmp_path, capfd):
    train(DEMO_CONFIG, work_dir=str(tmp_path), options={
        **options, **TINY, 'strategy': 'stagewise', 'max_epochs': 3, 'snapshot_interval': 1,
        'strategies.stagewise.schedule.schedule': QUICK, 'early_stopping': None})
    said = [line for line in capfd.readouterr().out.splitlines() if 'trains' in line]
    assert [line.split(' (')[0] for line in said] == [
        'Epoch 1: trains cls_head', 'Epoch 2: trains cls_head, backbone.layer4',
        'Epoch 3: trains cls_head, backbone.layer4, backbone']
    first, second, third = (
        torch.load(tmp_path / f'snapshot_epoch_{epoch}.pth', weights_only=True)[
            'state_dict'] for epoch in (1, 2, 3))

    def changed(before, after):
        return {name.split('.')[1] for name in before if name.startswith('backbone')
                and not torch.equal(before[name], after[name])}

    # Running statistics of frozen stages are among what must not change.
    assert changed(first, second) == {'layer4'}
    assert changed(second, third) == set(STAGES)
