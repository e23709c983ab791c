"""A checkpoint knows its split: no clip that it was trained on scores it."""

import hashlib
import shutil

import pytest
import torch
from conftest import DEMO_CONFIG, as_arguments, call_hri30, run_tool, small_settings

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.degrading import measure_early
from hri30_ext.apis.lineage import compare_clips
from hri30_ext.apis.teaching import teach
from hri30_ext.apis.views import compare_views
from hri30_ext.checkpoints import META_KEY, TrainedOn, read_essentials
from hri30_ext.config import load_config
from hri30_ext.datasets.digests import digest_clips
from hri30_ext.datasets.hri30 import list_split
from hri30_ext.errors import HRI30Error
from hri30_ext.names import PROJECT_ROOT, name_part


@pytest.fixture(scope='module')
def settings(clips_root, tmp_path_factory):
    return {**small_settings(clips_root, tmp_path_factory.mktemp('cache')),
            'split.val_groups': [1], 'max_epochs': 1}


@pytest.fixture(scope='module')
def first(settings, tmp_path_factory):
    """A work folder after an epoch on groups 2 and 3, validated with group 1."""
    folder = tmp_path_factory.mktemp('work') / 'first'
    train(DEMO_CONFIG, str(folder), options=settings)
    return folder


@pytest.fixture(scope='module')
def second(settings, first):
    """A model that was fine-tuned from the first, on groups 1 and 2."""
    folder = first.with_name('second')
    root = folder.parent / 'data'  # the same contents under other names
    (root / 'train_set').mkdir(parents=True)
    for group, other in ((1, 8), (2, 9)):
        for i in (1, 2, 3):
            shutil.copy(f'{settings["data_root"]}/train_set/CID0{i}_SID0{group}_VID01.avi',
                        root / 'train_set' / f'CID0{i}_SID0{other}_VID01.avi')
    train(DEMO_CONFIG, str(folder), options={
        **settings, 'data_root': str(root), 'split.val_groups': [8],
        'load_from': str(first / 'best.safetensors')})
    return folder


def digests(settings, *groups):
    return sorted(hashlib.sha256(open(
        f'{settings["data_root"]}/train_set/CID0{i}_SID0{group}_VID01.avi', 'rb').read())
        .hexdigest()[:16] for i in (1, 2, 3) for group in groups)


def state(folder):
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(*groups):
    return pytest.raises(HRI30Error, match=f'of groups {", ".join(map(str, groups))}:')


# ---- The record -------------------------------------------------------------------------


def test_every_checkpoint_says_what_it_was_trained_on(settings, first):
    files = [*first.glob('*.pth'), first / 'best.safetensors']
    assert len(files) == 4
    for file in files:
        assert read_essentials(file).trained_on == TrainedOn(
            groups=[2, 3], train=digests(settings, 2, 3), val=digests(settings, 1))


def test_fine_tuning_inherits(settings, second):
    assert read_essentials(second / 'best.safetensors').trained_on == TrainedOn(
        groups=[9], train=digests(settings, 2, 3), val=digests(settings, 1))


@pytest.mark.slow
def test_frozen_features_and_several_processes(settings, tmp_path):
    config = next((PROJECT_ROOT / 'configs' / 'foundation').glob('*embedded-rgb.py'))
    frozen = {**settings, 'backbones.efficientnet-lite0.name': 'test_efficientnet',
              'backbones.efficientnet-lite0.pretrained': None}
    train(str(config), str(tmp_path), options=frozen)
    record = TrainedOn(groups=[2, 3], train=digests(settings, 2, 3),
                       val=digests(settings, 1))
    assert read_essentials(tmp_path / 'best.pth').trained_on == record
    arguments = DEMO_CONFIG, '--work-dir', tmp_path / 'two', *as_arguments(settings)
    done = run_tool('train', *arguments, cwd=tmp_path, GPUS='2')
    assert done.returncode == 0, done.stderr
    assert read_essentials(tmp_path / 'two' / 'best.safetensors').trained_on == record
    done = run_tool('train', *arguments, 'split.val_groups=[2]', '--resume', cwd=tmp_path,
                    GPUS='2')
    assert done.returncode == 2 and 'of groups 2:' in done.stderr, done.stderr


def test_digests_are_of_contents_and_parts(clips_root, tmp_path, monkeypatch):
    source = next((clips_root / 'train_set').iterdir())
    recording, copy = tmp_path / 'a.avi', tmp_path / 'b.avi'
    for path in (recording, copy):
        shutil.copy(source, path)
    parts = [name_part(str(recording), 0, end) for end in (1, 2)]
    files = [str(recording), str(copy), *parts, str(tmp_path / 'absent.avi')]
    found = digest_clips(files, tmp_path)
    assert found.keys() == set(files[:4]) and len(set(found.values())) == 3
    assert found[files[0]] == found[files[1]]
    recording.write_bytes(b'another')  # copy is known, also by a new process
    monkeypatch.setattr('hri30_ext.datasets.digests.sha256_of', lambda path: (
        '0' * 64 if path == str(recording) else pytest.fail(path)))
    again = digest_clips(files, tmp_path)
    assert again[files[0]] == '0' * 16 and again[files[1]] == found[files[1]]
    assert not {again[part] for part in parts} & set(found.values())


def test_a_damaged_record_is_named(settings, first, tmp_path):
    path = tmp_path / 'a.pth'
    checkpoint = torch.load(first / 'epoch_1.pth', weights_only=True)
    checkpoint['meta'][META_KEY]['trained_on']['train'] = ['../x']
    torch.save(checkpoint, path)
    with pytest.raises(HRI30Error, match=r'a\.pth'):
        run_test(DEMO_CONFIG, str(path), options=settings)


# ---- What is refused --------------------------------------------------------------------


@pytest.mark.parametrize('changes', [
    {'split.val_groups': [2]}, {'split.val_groups': [1, 3]},
    {'split.type': 'random', 'split.val_ratio': .4, 'leak_check': None}])
def test_resuming_keeps_the_sides(settings, first, changes):
    before = state(first)
    options = {**settings, 'max_epochs': 2, **changes}
    with pytest.raises(HRI30Error, match='epoch_1.pth: was .*of groups') as error:
        train(DEMO_CONFIG, str(first), resume=True, options=options)
    assert error.value.exit_code == 2
    with pytest.raises(HRI30Error, match='of groups'):
        train(None, resume=str(first), options={'max_epochs': 2, **changes})
    assert state(first) == before  # the config too


def test_test_clips_count_as_well(settings, first, tmp_path):
    (tmp_path / 'test').mkdir()
    for i in (1, 2):
        shutil.copy(f'{settings["data_root"]}/train_set/CID01_SID0{i}_VID01.avi',
                    tmp_path / 'test' / f'testvideo00{i}.avi')
    with pytest.raises(HRI30Error, match='1 of the 2 test clips:\n.*testvideo002.avi'):
        run_test(DEMO_CONFIG, str(first / 'best.pth'), out=str(tmp_path),
                 options={**settings, 'data_root': str(tmp_path)})


def test_fine_tuning_refuses_clips_of_its_ancestors(settings, first, second, tmp_path):
    for start, group in ((first, 2), (second, 3)):  # only the first saw group 3
        with refused(group):
            train(DEMO_CONFIG, str(tmp_path), options={
                **settings, 'split.val_groups': [group],
                'load_from': str(start / 'best.safetensors')})
    with refused(3):
        run_test(DEMO_CONFIG, str(second / 'best.safetensors'),
                 options={**settings, 'split.val_groups': [3]})
    assert not list(tmp_path.glob('*.p*'))


@pytest.mark.parametrize('weights, group, call', [
    ('best.safetensors', 2, run_test), ('epoch_1.pth', 3, run_test),
    ('best.pth', 2, compare_views), ('best.pth', 2, measure_early),
    ('best.pth', 2, lambda config, weights, out, options: teach(
        [config, weights], 'Wave', [f'{options["data_root"]}/test_set'], out,
        options=options))])
def test_measurements_refuse_clips_of_the_training(settings, first, tmp_path, weights,
                                                   group, call):
    before = state(first)
    with refused(group):
        call(DEMO_CONFIG, str(first / weights), out=str(tmp_path),
             options={**settings, 'split.val_groups': [group]})
    assert state(first) == before and not list(tmp_path.glob('*/*.csv'))


def test_a_taught_model_inherits_and_learned_clips_do_not_score(settings, first, tmp_path):
    model = str(first / 'best.pth')
    clips = [f'{settings["data_root"]}/train_set/CID0{i}_SID01_VID01.avi' for i in (1, 2)]
    _, taught = teach([model], 'Wave', clips, str(tmp_path), force=True)
    val = digests(settings, 1)
    learned = set(digest_clips(clips, tmp_path).values())
    assert learned < set(val)
    assert read_essentials(taught).trained_on == TrainedOn(
        groups=[2, 3], train=sorted(digests(settings, 2, 3) + [*learned]),
        val=sorted(set(val) - learned))
    with pytest.raises(HRI30Error, match='2 of the 3 val clips, of groups 1:'):
        run_test(None, taught, 'val')


def test_unknown_weights_pass(settings, tmp_path):
    cfg = load_config(DEMO_CONFIG, settings)
    splits = dict(val=list_split(cfg.val_dataloader))
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    cfg.load_from = str(tmp_path / 'a.pth')
    before, now = compare_clips(cfg, splits)
    assert before is None and now.val == digests(settings, 1) and now.train == []


# ---- The settings of the work folder ----------------------------------------------------


def test_a_checkpoint_alone_has_its_settings(settings, first):
    metrics = run_test(None, str(first / 'best.safetensors'))
    assert metrics['val']['num_videos'] == 3 and metrics['test']['num_videos'] == 3
    assert metrics == run_test(DEMO_CONFIG, str(first / 'best.pth'), options=settings)


def test_other_validation_clips_do_not_calibrate(settings, second, tmp_path, capsys):
    weights = tmp_path / 'best.pth'
    shutil.copy(second / 'best.pth', weights)
    calibration = weights.with_suffix('.calibration.json')
    (tmp_path / 'val.txt').write_text('CID01_SID01_VID01')
    other = {**settings, 'split.type': 'file', 'split.val_file': str(tmp_path / 'val.txt')}
    metrics = run_test(DEMO_CONFIG, str(weights), 'val', options=other)
    assert metrics['val']['num_videos'] == 1 and not calibration.exists()
    assert 'No calibration is fitted' in capsys.readouterr().out
    run_test(DEMO_CONFIG, str(weights), 'val', options=settings)  # the same contents
    assert calibration.exists()


def test_a_work_folder_alone_is_resumed(first, tmp_path):
    folder = tmp_path / 'moved'
    shutil.copytree(first, folder)
    assert call_hri30('train', '--resume', folder, '--cfg-options', 'max_epochs=2') == 0
    assert (folder / 'epoch_2.pth').is_file()
    for arguments in ((), ('--resume', tmp_path), ('--resume', )):
        assert call_hri30('train', *arguments) == 2
