"""A config for clips of one's own, and the training that it gives."""

import shutil

import pytest
from conftest import DEMO_CONFIG
from mmaction.registry import DATASETS

from hri30_ext.apis import train
from hri30_ext.apis.new_dataset import FROZEN, _choose_epochs, choose_base, new_dataset
from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error


@pytest.fixture
def folders(clips_root, tmp_path):
    """The rendered clips in class folders, under other names."""
    root = tmp_path / 'own'
    for file in (clips_root / 'train_set').iterdir():
        label, group = int(file.stem[3:5]) - 1, file.stem[9:11]
        target = root / ('TurnLeft', 'TurnRight', 'Stop')[label] / f's{group}_x.avi'
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return root


def test_it_says_what_it_found_and_names_a_clip_in_two_classes(folders, tmp_path):
    lines, out = [], tmp_path / 'custom'
    (folders.parent / 'classes.txt').write_text('Of other data\n')

    def make(**settings):
        return new_dataset(str(folders), 'mine', DEMO_CONFIG, folder=out,
                           report=lines.append, **settings)

    config = make(group_pattern=r'(?P<group>s\d+)_')
    text = '\n'.join(lines)
    for expected in ('3 classes, 9 clips', '3 groups: 1 = s01', 'TurnLeft <-> TurnRight',
                     'not applied', '96 x 64 (9)'):
        assert expected in text
    assert config.with_suffix('.png').stat().st_size > 1000
    cfg = load_config(str(config))
    assert cfg.classes == ['Stop', 'TurnLeft', 'TurnRight'] and cfg.split.type == 'group'
    assert all('Flip' not in step.type for step in cfg.train_pipeline)
    assert len(config.read_text().splitlines()) == 10
    with pytest.raises(HRI30Error, match='exists'):
        make()
    assert load_config(str(make(overwrite=True))).split.type == 'random'
    shutil.copy(folders / 'Stop' / 's01_x.avi', folders / 'TurnLeft' / 's09_x.avi')
    lines.clear()
    make(overwrite=True)
    assert 'error duplicate: 1' in '\n'.join(lines)


def test_the_base_is_chosen_for_the_machine(monkeypatch):
    import importlib.util
    find = importlib.util.find_spec
    monkeypatch.setattr('hri30_ext.apis.new_dataset.get_device', lambda: 'cpu')
    assert 'efficientnet-lite0' in choose_base()  # the tests have all extras
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name: None if name == 'timm' else find(name))
    assert 'slowonly_k400' in choose_base()
    monkeypatch.undo()
    monkeypatch.setattr('hri30_ext.apis.new_dataset.get_device', lambda: 'cuda')
    assert 'slowonly_k400' in choose_base()


def test_a_frozen_model_trains_longer_on_few_clips(folders, tmp_path):
    config = new_dataset(str(folders), 'few', FROZEN, folder=tmp_path / 'few',
                         report=lambda line: None)
    assert load_config(str(config)).max_epochs == 100


@pytest.mark.parametrize('clips, epochs', [
    (4, 100), (27, 100), (112, 100), (113, 87), (1380, 8), (100_000, 8)])
def test_epochs_follow_the_number_of_batches(clips, epochs):
    assert _choose_epochs(clips) == epochs


@pytest.mark.slow
def test_folders_and_a_table_of_parts_train_untouched(folders, tmp_path, options):
    """Only the model is shrunk, by the base; the config is as it was written."""
    names = ('num_frames', 'input_size', 'batch_size', 'num_workers', 'precision',
             'cache_dir')
    base = tmp_path / 'small.py'
    base.write_text('\n'.join([f'_base_ = {DEMO_CONFIG!r}', 'max_epochs = 1', *(
        f'{name} = {options[name]!r}' for name in names)]))
    table = folders.with_name('table')
    shutil.copytree(folders, table / 'clips')
    rows = [f'clips/{file.relative_to(folders)},{file.parent.name},{file.stem[:3]},'
            f'{start},{start + .5}' for file in sorted(folders.rglob('*.avi'))
            for start in (0, .5)]
    (table / 'clips.csv').write_text('\n'.join(['path,label,subject,start,end', *rows]))
    past = table.with_name('past')
    past.mkdir()
    shutil.copytree(folders, past / 'clips')
    (past / 'clips.csv').write_text('\n'.join(
        ['path,label,subject,start,end', *rows[:-1], rows[-1].replace(',1.0', ',99')]))
    with pytest.raises(HRI30Error, match=r'line 19: .*99 s is not within'):
        new_dataset(str(past), 'past', str(base), folder=tmp_path / 'custom')
    assert not (tmp_path / 'custom').exists()
    for root, clips, settings in ((folders, 9, dict(group_pattern=r'(?P<group>s\d+)_')),
                                  (table, 18, {})):
        config = new_dataset(str(root), root.name, str(base), folder=tmp_path / 'custom',
                             **settings)
        out = tmp_path / 'runs' / root.name
        train(str(config), str(out))
        assert (out / 'last_checkpoint').is_file()
        dataset = DATASETS.build({**load_config(str(config)).val_dataloader.dataset,
                                  'pipeline': []})
        assert len(dataset) == clips / 3  # one of three groups
