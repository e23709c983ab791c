"""What this project saves: plain data, essentials and safetensors, and loading them."""

import json
import struct
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG, PRIMITIVE
from mmaction.apis import init_recognizer
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler import OneCycleLR
from same_training import assert_same

from hri30_ext.apis import train
from hri30_ext.apis.recognizer import find_config_of
from hri30_ext.checkpoints import (
    Essentials,
    load_from_local,
    read_essentials,
    save_safetensors,
    write_message_hub,
)
from hri30_ext.checkpoints.essentials import read_message_hub
from hri30_ext.config import load_config
from hri30_ext.engine import ValidatedCheckpointHook
from hri30_ext.errors import HRI30Error

RECORD = dict(algorithm='slowonly_r50', classes=['A', 'B'], num_frames=8,
              input_size=[224, 224], decode_size=256, sampling='UniformViews',
              input_format='NCTHW', mean=[1.0], std=[2.0], data='hri30')


def test_own_checkpoints_need_no_allow_list(demo):
    for path in demo[0].glob('*.pth'):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint['message_hub']['log_scalars']['val/loss']['log'].dtype == (
            torch.float64)


def test_best_weights_are_written_as_safetensors_too(demo):
    folder, options = demo
    best, = folder.glob('best_top1_epoch_*.pth')
    assert best.samefile(folder / 'best.pth')
    weights = folder / 'best.safetensors'
    assert weights.stat().st_mode == best.stat().st_mode
    cfg, expected = load_config(DEMO_CONFIG, options), torch.load(best, weights_only=True)
    for found in (load_from_local(str(weights))['state_dict'],
                  init_recognizer(cfg, str(weights), device='cpu').state_dict()):
        assert_same(dict(sorted(found.items())), dict(sorted(
            expected['state_dict'].items())))
    with pytest.raises(HRI30Error, match='best.safetensors'):
        train(DEMO_CONFIG, str(folder), resume=str(weights), options=options)
    essentials = read_essentials(weights)
    assert essentials == read_essentials(best)
    assert msgspec.structs.replace(essentials, trained_on=None) == (
        Essentials.from_config(cfg))
    assert (essentials.algorithm, essentials.classes, essentials.num_frames,
            essentials.input_size, essentials.sampling) == (
        'slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb', CLASSES, 4, [32, 32],
        'UniformViews')
    assert str(folder) not in json.dumps(essentials.to_dict())


def test_record_of_the_sampling_and_of_a_config_with_another_name(options, tmp_path):
    cfg = load_config(DEMO_CONFIG, {**options, 'sampling': 'mmaction2'})
    save_safetensors({}, tmp_path / 'a.safetensors', Essentials.from_config(cfg))
    config, settings = find_config_of(tmp_path / 'a.safetensors')
    assert config == DEMO_CONFIG and settings['sampling'] == 'mmaction2'
    # The record has the normalisation of the start, whichever the config begins with.
    cfg = load_config(PRIMITIVE, {'start': 'pytorchvideo'})
    save_safetensors({}, tmp_path / 'b.safetensors', Essentials.from_config(cfg))
    found = load_config(*find_config_of(tmp_path / 'b.safetensors'))
    assert found.model.data_preprocessor.mean == [114.75] * 3 != (
        load_config(PRIMITIVE).model.data_preprocessor.mean)
    (tmp_path / 'my config.py').write_text(f'_base_ = {DEMO_CONFIG!r}\n')
    cfg = load_config(str(tmp_path / 'my config.py'), options)
    assert Essentials.from_config(cfg).algorithm == 'my_config'


def test_safetensors_of_others_are_loaded(tmp_path):
    weight = torch.rand(2, 3)
    save_safetensors({'a': weight.t(), 'b': weight}, tmp_path / 'a.safetensors', None)
    found = load_from_local(str(tmp_path / 'a.safetensors'))
    assert torch.equal(found['state_dict']['a'], weight.t()) and found['meta'] == {}
    torch.save({'meta': [1]}, tmp_path / 'b.pth')
    for name in ('a.safetensors', 'b.pth'):
        with pytest.raises(HRI30Error, match='does not say which model'):
            read_essentials(tmp_path / name)


@pytest.mark.parametrize('error', [
    PermissionError('Permission denied'), MemoryError('no'),
    torch.OutOfMemoryError('CUDA out of memory.')])
def test_the_error_of_the_system_is_named(error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    torch.save({}, tmp_path / 'a.pth')
    monkeypatch.setattr(torch, 'load', fail)
    with pytest.raises(HRI30Error, match=f'{type(error).__name__}: {error}'):
        load_from_local(str(tmp_path / 'a.pth'))


def header(text: bytes) -> bytes:
    return struct.pack('<Q', len(text)) + text


@pytest.mark.parametrize('content', [
    b'', b'\xff' * 100, header(b'{"a": 1}'), header(b'{'),
    header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    header(b'{"__metadata__":{"hri30":"{}"}}'),
    header(b'{"__metadata__":{"hri30":"[1"}}')])
def test_damaged_safetensors_are_named(content, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises(HRI30Error, match=r'a\.safetensors: not a readable checkpoint'):
        load_from_local(str(path))


@pytest.mark.parametrize('change', [
    dict(algorithm='../x'), dict(algorithm='a\x1b'), dict(classes=[]), dict(classes=[1]),
    dict(num_frames=0), dict(num_frames=2**40), dict(input_size=[1]), dict(program='x'),
    dict(mean='1'), dict(sampling=None), dict(trained_on={}),
    dict(trained_on=dict(groups=[], val=[], train=['../x']))])
def test_other_essentials_are_refused(change, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {}, 'meta': {'hri30': RECORD}}, path)
    assert read_essentials(path) == Essentials(**RECORD)
    torch.save({'state_dict': {}, 'meta': {'hri30': dict(RECORD, **change)}}, path)
    with pytest.raises(HRI30Error, match=r'a\.pth: not a readable .*ValidationError'):
        read_essentials(path)


def test_history_is_restored_bit_for_bit():
    hub = MessageHub.get_instance('bits')
    for value in (0.1, 1e-320, float('inf')):
        hub.update_scalar('train/loss', value)
    hub.update_scalar('val/num', 3)
    hub.update_info('best_score', np.float64(0.3))
    state = hub.state_dict()
    found = read_message_hub(write_message_hub(state))
    for name, history in state['log_scalars'].items():
        other = found['log_scalars'][name]
        assert isinstance(other, HistoryBuffer) and other.max_length == history.max_length
        for one, another in zip(history.data, other.data, strict=True):
            assert one.dtype == another.dtype and one.tobytes() == another.tobytes()
    assert found['runtime_info'] == {'best_score': 0.3}
    assert found['resumed_keys'] == state['resumed_keys']


def test_names_that_mmengine_would_print_are_left_out():
    hub = dict(log_scalars={'a\x1b[2J': HistoryBuffer(), 'b': 5}, runtime_info={'\n': 1},
               resumed_keys={'other': True, 'b\udc80': True})
    assert read_message_hub(hub) == dict(log_scalars={}, runtime_info={}, resumed_keys={})


@pytest.mark.parametrize('seed', ['\x1b[2J', 0.5, [1]])
def test_seed_that_is_no_integer_is_not_shown(seed, tmp_path):
    torch.save({'meta': {'seed': seed, 'epoch': 1}}, tmp_path / 'a.pth')
    assert load_from_local(str(tmp_path / 'a.pth'))['meta'] == {
        'seed': f'a {type(seed).__name__}', 'epoch': 1}


def test_functions_of_a_schedule_are_not_saved():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    checkpoint = dict(meta={}, state_dict=torch.nn.Module().state_dict(),
                      param_schedulers=[schedule.state_dict()],
                      message_hub=MessageHub.get_instance('empty').state_dict())
    runner = SimpleNamespace(cfg=load_config(DEMO_CONFIG))
    ValidatedCheckpointHook(save_best='top1').before_save_checkpoint(runner, checkpoint)
    state, = checkpoint['param_schedulers']
    assert 'anneal_func' in schedule.state_dict() and 'anneal_func' not in state
    other = OneCycleLR(optimizer, eta_max=0.2, total_steps=10)
    other.load_state_dict(state)
    assert other.state_dict() == schedule.state_dict()
