"""What a new user meets: the table, nothing overwritten, one training a folder."""

import os
import re
import shutil

import pytest
import torch
from conftest import DEMO_CONFIG, PRIMITIVE, call_hri30

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.overview import describe_training
from hri30_ext.config import load_config
from hri30_ext.engine.recovery import lock_folder
from hri30_ext.errors import HRI30Error


@pytest.fixture(scope='module')
def settings(demo):
    return demo[1]


@pytest.fixture(scope='module')
def work(demo, tmp_path_factory):
    """A work folder after two epochs."""
    return shutil.copytree(demo[0], tmp_path_factory.mktemp('a first') / 'run')


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob('*.pth')}


# ---- The work folder --------------------------------------------------------------------


def test_checkpoints_are_not_overwritten(settings, work):
    before = files(work)
    with pytest.raises(HRI30Error, match=r'best_top1_epoch_1\.pth') as error:
        train(DEMO_CONFIG, str(work), options=settings)
    assert error.value.exit_code == 2
    assert all(way in str(error.value) for way in ('--resume', '--work-dir', '--overwrite'))
    assert files(work) == before


def test_complete_training_says_so_and_continues_with_more_epochs(settings, work, capfd,
                                                                  monkeypatch):
    before = files(work)
    train(DEMO_CONFIG, str(work), resume=True, options=settings)
    out = capfd.readouterr().out
    assert files(work) == before
    assert f'start                    resumes from {work / "epoch_2.pth"}' in out
    assert 'This training was complete already: 2 of 2 epochs.' in out
    monkeypatch.chdir('/')
    assert call_hri30('train', '--resume', work, '--cfg-options', 'max_epochs=4') == 0
    out = capfd.readouterr().out
    assert re.search(r'^epoch 4/4  loss \d.*clips/s  val top1 \d', out, re.M)
    assert out.count('epoch 3/4') == 1 and 'Epoch(' not in out
    log = max(work.glob('*/*.log')).read_text()
    assert 'Epoch(train)' in log and 'differs from the config' in log
    assert 'complete already' not in out


def test_overwriting_leaves_nothing_of_the_earlier_training(settings, tmp_path):
    (tmp_path / 'mine.pth').touch()
    for name in ('best_top1_epoch_43.pth', 'best_top1_epoch_43.calibration.json',
                 'epoch_50.pth', 'best.safetensors'):
        (tmp_path / name).touch()
    before = files(tmp_path)
    with pytest.raises(HRI30Error, match='no such checkpoint'):
        train(DEMO_CONFIG, str(tmp_path), overwrite=True,
              options={**settings, 'load_from': '/absent.pth'})
    assert files(tmp_path) == before
    train(DEMO_CONFIG, str(tmp_path), options={**settings, 'max_epochs': 1}, overwrite=True)
    assert files(tmp_path).keys() == {'mine.pth', 'best.pth', 'epoch_1.pth',
                                     'best_top1_epoch_1.pth'}
    assert not list(tmp_path.glob('*_43*'))
    assert (tmp_path / 'best.safetensors').stat().st_size > 1000


def test_second_training_in_a_folder_is_refused(settings, tmp_path):
    with lock_folder(tmp_path), pytest.raises(
            HRI30Error, match='another training uses this folder: process '
            f'{os.getpid()} on {os.uname().nodename}'):
        train(DEMO_CONFIG, str(tmp_path), options=settings)
    with lock_folder(tmp_path):
        pass


# ---- The table --------------------------------------------------------------------------


class FakeRunner:
    model = torch.nn.Linear(999, 1000)
    model.backbone = torch.nn.Identity()


def describe(config, clips=(), **options):
    cfg = load_config(config, options)
    cfg.resume = False
    return describe_training(cfg, FakeRunner, {'train': clips, 'val': ()}, cfg.changed)


def test_table_says_what_takes_effect(tmp_path):
    clips = [dict(group=group) for group in (3, 1, 3)]
    text = describe(PRIMITIVE, clips, num_frames=8, lr=0.0003, max_epochs=10,
                    precision='fp32', accumulate=2, cache_dir=str(tmp_path),
                    clip_cache='jpeg', data_root='/nowhere')
    rows = dict(re.split('  +', line, maxsplit=1) for line in text.splitlines()[1:-1])
    for name, *values in (
            ('data', '/nowhere'), ('split', 'group', '3 clips', '1, 3'),
            ('model', '1.0 M', '30 classes'), ('start', 'https://download.openmmlab.com/'),
            ('input', '8 frames', '224 x 224'), ('batch', '16 clips', '32 clips'),
            ('optimizer', 'SGD', '0.0003', '0.9', '0.0001', 'full'),
            ('schedule', '10 epochs', 'cosine', '15'), ('clip cache', 'jpeg'),
            ('differs from the config', 'lr=0.0003', 'data_root=/nowhere')):
        assert all(value in rows[name] for value in values), name
    assert text.count('a flip swaps') == 6
    assert 'MoveLeftWhileDrilling and MoveRightWhileDrilling\n' in text
    assert 'num_frames' not in rows['differs from the config']  # it does not differ
    assert 'warmup_epochs=3' in text.splitlines()[-1]


def test_table_of_classes_without_a_partner():
    classes = ['TurnLeft', 'TurnRight', 'LookLeft', 'Stop']
    text = describe(PRIMITIVE, classes=classes)
    assert 'a flip swaps TurnLeft and TurnRight\n' in text
    assert 'not flipped, as its mirror image is no class: LookLeft\n' in text
    assert 'warning' not in text
    assert '3 left/right classes' in describe(PRIMITIVE, classes=classes, flip='keep_label')
    assert 'a flip' not in describe(PRIMITIVE, flip=None)


def test_settings_are_listed_without_warnings(monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '250')
    assert call_hri30('train', '--help-settings', DEMO_CONFIG) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert output.err == ''
    assert lines[0].split() == ['setting', 'default', 'values', 'meaning']
    assert any(re.match(r'optimizer +\'adamw\' +one of sgd, adam, adamw +opt', line)
               for line in lines)


# ---- Testing ----------------------------------------------------------------------------


def test_missing_checkpoint_names_what_there_is(work):
    with pytest.raises(HRI30Error, match='This folder has:\n') as error:
        run_test(DEMO_CONFIG, str(work / 'best_top1_epoch_9.pth'))
    assert str(work / 'best.safetensors') in str(error.value)
