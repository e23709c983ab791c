"""Hostile checkpoints through every path that loads weights: refused, and nothing run."""

import functools
import itertools
import os
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG, random_checkpoint, run_tool
from hostile import HOSTILE, RUN_CODE
from mmaction.apis import init_recognizer
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mm_checkpoint
from mmengine.runner import load_checkpoint
from watch import watch

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.exporting import export
from hri30_ext.apis.recognizer import Recognizer
from hri30_ext.apis.reporting import report
from hri30_ext.apis.views import compare_views
from hri30_ext.checkpoints import load_from_local
from hri30_ext.config import load_config
from hri30_ext.deploy.torch_backend import build_recognizer
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results


@pytest.fixture(scope='module')
def hostile(request, tmp_path_factory):
    """A path with a hostile checkpoint, and the mark that it would leave."""
    folder = tmp_path_factory.mktemp('hostile')
    HOSTILE[request.param](folder / 'hostile.pth', folder / 'mark')
    return folder / 'hostile.pth', folder / 'mark'


def refuse(load, path, mark, alone=False):
    """Checks that a call refuses a checkpoint with a message, and runs nothing.

    Args:
        load (Callable): The call.
        path (Path): The checkpoint.
        mark (Path): What it would leave.
        alone (bool): Whether the call does nothing but load: no file is written, and no
            process is started.
    """
    with watch() as seen, pytest.raises(HRI30Error) as error:
        load()
    text = str(error.value)
    assert str(path) in text and ('refused' in text or 'not a readable checkpoint' in text)
    assert len(text) < 1000 and 'Expected' in text
    assert not mark.exists()
    never = 'socket.', 'urllib.', 'pickle.', 'os.system'
    assert not [event for event in seen if alone or event.startswith(never)]


LOADERS = {
    'load_from_local': load_from_local,
    'load_checkpoint of mmengine': lambda path: load_checkpoint(
        torch.nn.Linear(1, 1), path),
    'CheckpointLoader': mm_checkpoint.CheckpointLoader.load_checkpoint,
    'part of a checkpoint': lambda path: (
        mm_checkpoint._load_checkpoint_with_prefix('a', path)),
}


SLOW = 'many tensors'  # a few seconds each time
KINDS = [kind for kind in HOSTILE if kind != SLOW]


@pytest.mark.parametrize(('hostile', 'name'), [
    (SLOW, 'load_from_local'), *itertools.product(KINDS, LOADERS)], indirect=['hostile'],
    scope='module')
def test_every_loader_refuses(name, hostile):
    path, mark = hostile
    refuse(lambda: LOADERS[name](str(path)), path, mark, alone=True)


@pytest.mark.parametrize('hostile', KINDS, indirect=True)
def test_download_refuses(hostile, tmp_path):
    path, mark = hostile
    with pytest.raises(HRI30Error):
        mm_checkpoint.load_from_http(path.as_uri(), model_dir=str(tmp_path))
    assert not mark.exists()


def _make_results(folder):
    Results(['a'], [[1, 0, 0]], CLASSES).save(Path(folder) / 'scores.npz')
    return folder


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
    'views': lambda path, options, out: compare_views(DEMO_CONFIG, path, out,
                                                      options=options),
    'report': lambda path, options, out: report(
        _make_results(out), DEMO_CONFIG, path, options),
    'init_recognizer of mmaction2': lambda path, options, out: init_recognizer(
        load_config(DEMO_CONFIG, options), path, device='cpu'),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', list(WHOLE_PATHS))
def test_every_path_refuses(name, options, tmp_path):
    for number, kind in enumerate(('os.system', 'poisoned HistoryBuffer')):
        path, mark = tmp_path / f'{number}.pth', tmp_path / 'mark'
        HOSTILE[kind](path, mark)
        refuse(functools.partial(WHOLE_PATHS[name], str(path), options,
                                 str(tmp_path / 'out')), path, mark)


@pytest.mark.slow
def test_command_line_refuses(clips_root, tmp_path):
    path, mark = tmp_path / 'hostile.pth', tmp_path / 'mark'
    RUN_CODE['poisoned HistoryBuffer'](path, mark)
    result = run_tool(
        'test', DEMO_CONFIG, path, '--cfg-options', f'data_root={clips_root}',
        'split.val_groups=1', f'classes={",".join(CLASSES)}', f'cache_dir={tmp_path}',
        cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert f'{path}: refused' in result.stderr and 'Traceback' not in result.stderr
    assert not mark.exists()


def test_config_in_a_checkpoint_is_not_run(options, tmp_path):
    """mmengine runs ``meta['config']`` when it resumes."""
    path, mark = tmp_path / 'epoch_1.pth', tmp_path / 'mark'
    train(DEMO_CONFIG, str(tmp_path), options={**options, 'max_epochs': 1})
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta'].update(dict.fromkeys(('config', 'cfg'), f'open({str(mark)!r}, "w")'))
    torch.save(checkpoint, path)
    assert not {'config', 'cfg'} & set(load_from_local(str(path))['meta'])
    train(DEMO_CONFIG, str(tmp_path), resume=str(path), options=options)
    assert (tmp_path / 'epoch_2.pth').exists() and not mark.exists()


def test_statistics_stay_as_they_are(tmp_path):
    before = dict(HistoryBuffer()._statistics_methods)
    allowed = set(map(str, torch.serialization.get_safe_globals()))
    for kind in ('poisoned HistoryBuffer', 'attributes of HistoryBuffer'):
        path = tmp_path / 'hostile.pth'
        RUN_CODE[kind](path, tmp_path / 'mark')
        # Also without this project's loader.
        with pytest.raises(Exception, match='Weights only load failed'):
            torch.load(path)
    assert HistoryBuffer._statistics_methods == before
    assert set(map(str, torch.serialization.get_safe_globals())) == allowed
    assert not any('HistoryBuffer' in name or 'numpy' in name for name in allowed)


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
