"""Hostile checkpoints through every path that loads weights: refused, and nothing run."""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from conftest import DEMO_CONFIG, random_checkpoint
from hostile import HOSTILE, hidden_program
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mm_checkpoint
from mmengine.runner import load_checkpoint
from watch import watch

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.exporting import export
from hri30_ext.apis.recognizer import Recognizer
from hri30_ext.checkpoints import load_from_local
from hri30_ext.config import load_config
from hri30_ext.deploy.torch_backend import build_recognizer
from hri30_ext.errors import HRI30Error


@pytest.fixture
def hostile(tmp_path):
    """Writes a hostile checkpoint; returns its path, and the mark that it would leave."""
    def write(kind):
        HOSTILE[kind](tmp_path / 'hostile.pth', tmp_path / 'mark')
        return str(tmp_path / 'hostile.pth'), tmp_path / 'mark'
    return write


def refuse(load, path, mark, alone=False):
    """Checks that a call refuses a checkpoint with a message, and runs nothing.

    Args:
        load (Callable): The call; takes the path.
        path (str): The checkpoint.
        mark (Path): What it would leave.
        alone (bool): Whether the call does nothing but load: apart from the temporary
            folder that torch makes for a tar archive, no file is written.
    """
    with watch() as seen, pytest.raises(HRI30Error, match=re.escape(path)) as error:
        load(path)
    assert len(str(error.value)) < 1000 and not mark.exists()
    assert 'False' not in str(error.value)  # torch recommends weights_only=False
    temporary = 'os.mkdir', 'os.rmdir', 'os.remove', 'shutil.rmtree', 'tempfile'
    never = 'socket.', 'urllib.', 'pickle.', 'os.system'
    assert not [event for event in seen if event.startswith(never)
                or (alone and not event.startswith(temporary))]


LOADERS = {
    'load_checkpoint of mmengine': lambda path: load_checkpoint(
        torch.nn.Linear(1, 1), path),
    'CheckpointLoader': mm_checkpoint.CheckpointLoader.load_checkpoint,
    'part of a checkpoint': lambda path: (
        mm_checkpoint._load_checkpoint_with_prefix('a', path)),
    'download': lambda path: mm_checkpoint.load_from_http(
        Path(path).as_uri(), model_dir=str(Path(path).parent)),
}


@pytest.mark.parametrize('kind', list(HOSTILE))
def test_hostile_checkpoint_is_refused(kind, hostile):
    refuse(load_from_local, *hostile(kind), alone=True)


@pytest.mark.parametrize('name', list(LOADERS))
def test_every_loader_refuses(name, hostile):
    refuse(LOADERS[name], *hostile('os.system'), alone=True)


WHOLE_PATHS = {
    'train': lambda path, options, out: train(DEMO_CONFIG, out, options={
        **options, 'load_from': path}),
    'resume': lambda path, options, out: train(DEMO_CONFIG, out, resume=path,
                                               options=options),
    'test': lambda path, options, out: run_test(DEMO_CONFIG, path, out=out,
                                                options=options),
    'export': lambda path, options, out: export(DEMO_CONFIG, path, 'onnx', 'fp32', out,
                                                options=options),
    'Recognizer': lambda path, options, out: Recognizer(
        DEMO_CONFIG, path, device='cpu', options=options),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', list(WHOLE_PATHS))
def test_every_path_refuses(name, options, tmp_path, hostile):
    for kind in 'os.system', 'statistics of HistoryBuffer':
        refuse(lambda path: WHOLE_PATHS[name](path, options, str(tmp_path / 'out')),
               *hostile(kind))


def test_config_in_a_checkpoint_is_not_run(demo, tmp_path):
    """mmengine runs ``meta['config']`` when it resumes."""
    path, mark = tmp_path / 'epoch_1.pth', tmp_path / 'mark'
    checkpoint = torch.load(demo[0] / 'epoch_1.pth', weights_only=True)
    checkpoint['meta'].update(dict.fromkeys(('config', 'cfg'), f'open({str(mark)!r}, "w")'))
    torch.save(checkpoint, path)
    assert not {'config', 'cfg'} & set(load_from_local(str(path))['meta'])
    train(DEMO_CONFIG, str(tmp_path), resume=str(path), options=demo[1])
    assert (tmp_path / 'epoch_2.pth').exists() and not mark.exists()


def test_config_is_found_by_other_means_than_the_methods_of_a_dict(tmp_path):
    hidden_program(tmp_path / 'a.pth', 'open("mark", "w")')
    assert 'config' in torch.load(tmp_path / 'a.pth', weights_only=True)['meta']
    checkpoint = load_from_local(str(tmp_path / 'a.pth'))
    assert checkpoint == {'state_dict': {}, 'meta': {}} and checkpoint.copy() == checkpoint


def test_state_of_the_process_stays(hostile):
    before = dict(HistoryBuffer()._statistics_methods)
    allowed = set(map(str, torch.serialization.get_safe_globals()))
    assert not any('mmengine' in name or 'numpy' in name for name in allowed)
    path, _ = hostile('statistics of HistoryBuffer')
    for load in load_from_local, torch.load:
        with pytest.raises((HRI30Error, pickle.UnpicklingError)):
            load(path)
    assert HistoryBuffer._statistics_methods == before
    assert set(map(str, torch.serialization.get_safe_globals())) == allowed


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'absent', 'device'])
def test_what_is_no_file_is_not_waited_for(kind, tmp_path):
    path = tmp_path / 'checkpoint.pth'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    with pytest.raises(HRI30Error, match='no such checkpoint'):
        load_from_local(str(path))


@pytest.mark.parametrize('address', ['s3://bucket/a.pth', 'cluster:s3://bucket/a.pth',
                                     'petrel://a.pth', 'pavi://a.pth'])
def test_storage_services_are_refused(address):
    with pytest.raises(HRI30Error, match='not loaded from there'):
        mm_checkpoint._load_checkpoint(address)


@pytest.mark.parametrize('change', [dict(state_dict=5), dict(meta=dict(dataset_meta='x'))])
def test_another_form_is_one_message(change, options, tmp_path):
    path = random_checkpoint(DEMO_CONFIG, options, tmp_path / 'form.pth')
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(HRI30Error, match='a part of it does not fit this config'):
        build_recognizer(load_config(DEMO_CONFIG, options), path)
