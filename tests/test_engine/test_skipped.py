"""Training with clips that cannot be read: named, counted, listed, and not too many."""

import csv
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from conftest import DEMO_CONFIG, TINY
from mmaction.registry import HOOKS
from mmaction.structures import ActionDataSample
from mmengine.hooks import Hook

from hri30_ext.apis import train
from hri30_ext.config import load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.engine import SkippedVideosHook
from hri30_ext.engine.skipped import SKIPPED, TooManySkipped
from hri30_ext.errors import HRI30Error


def clip(root, class_id, group):
    return root / 'train_set' / f'CID{class_id:02}_SID{group:02}_VID01.avi'


def run(root, options, folder, **changes):
    resume = changes.pop('resume', False)
    train(DEMO_CONFIG, str(folder), resume, overwrite=True, options={
        **options, **TINY, 'data_root': str(root), 'leak_check': None, **changes})


def rows(folder):
    with open(folder / SKIPPED, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


@pytest.fixture
def held_out(options):
    """The group of the validation clips, and one that is trained on."""
    cfg = load_config(DEMO_CONFIG, options)
    dataset = dict(cfg.val_dataloader.dataset, pipeline=[])
    dataset.pop('type')
    val = HRI30Dataset(**dataset).get_data_info(0)['group']
    return val, 1 + val % 3


@HOOKS.register_module()
class DeleteClip(Hook):
    """Removes a clip after the first epoch."""

    def __init__(self, path):
        self.path = path

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            Path(self.path).unlink()


def test_broken_clips_are_named_once_counted_and_listed(
        root, options, tmp_path, held_out, capsys):
    val, group = held_out
    broken, unscored, gone = (clip(root, 1, group), clip(root, 2, val),
                              clip(root, 3, group))
    broken.write_bytes(b'not a video')
    unscored.write_bytes(unscored.read_bytes()[:2000])
    hooks = ['${early_stopping}',
             dict(type='SkippedVideosHook', max_skipped='${max_skipped}'),
             dict(type='DeleteClip', path=str(gone))]
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / SKIPPED).write_text('of an earlier run')
    run(root, options, work_dir, max_skipped=0.5, max_epochs=3, custom_hooks=hooks)
    found = rows(work_dir)
    assert [row['File'] for row in found] == sorted(map(str, (broken, unscored, gone)))
    times = {row['Video']: int(row['Times']) for row in found}
    # Once an epoch; and where it would have stood in for another, once more.
    assert 3 <= times[broken.stem] <= 5
    assert 2 <= times[gone.stem] <= 4
    assert times[unscored.stem] == 3
    assert all(row['Reason'] for row in found)
    out = capsys.readouterr().out
    for path in (broken, unscored, gone):
        assert sum(str(path) in line for line in out.splitlines()) == 1
    assert (f'3 clips could not be read: '
            f'{work_dir / SKIPPED}') in out
    assert torch.load(work_dir / 'epoch_3.pth', weights_only=True)['skipped_videos']


def test_more_than_the_share_ends_the_training(root, options, tmp_path, held_out):
    _, group = held_out
    for class_id in (1, 2):
        clip(root, class_id, group).write_bytes(b'')
    with pytest.raises(TooManySkipped, match='2 of 6 training clips could not be read, '
                       r'more than max_skipped=0\.2 allows') as raised:
        run(root, options, tmp_path / 'work', max_skipped=0.2, max_epochs=50,
            num_workers=1)
    assert raised.value.exit_code == 3
    assert [row['Video'] for row in rows(tmp_path / 'work')] == [
        clip(root, class_id, group).stem for class_id in (1, 2)]


def test_a_resumed_training_goes_on_with_its_list(root, options, tmp_path, held_out):
    _, group = held_out
    broken = clip(root, 1, group)
    content = broken.read_bytes()
    broken.write_bytes(b'')
    work_dir = tmp_path / 'work'
    run(root, options, work_dir, max_skipped=0.5, max_epochs=1)
    before = rows(work_dir)
    run(root, options, work_dir, max_skipped=0.5, max_epochs=2, resume=True)
    after = rows(work_dir)
    assert before[0]['Reason'] == after[0]['Reason']
    assert int(after[0]['Times']) > int(before[0]['Times'])
    broken.write_bytes(content)
    run(root, options, work_dir, max_skipped=0, max_epochs=1)
    assert not (work_dir / SKIPPED).exists()


@pytest.mark.slow
def test_features_of_broken_clips(root, options, tmp_path, held_out):
    val, group = held_out
    clip(root, 1, group).write_bytes(b'')
    clip(root, 2, val).write_bytes(b'')
    for features in ('plain', 'augmented'):
        work_dir = tmp_path / features
        run(root, options, work_dir, max_skipped=0.5, strategy='frozen_backbone',
            cache_features=features)
        assert [row['Video'] for row in rows(work_dir)] == [
            path.stem for path in sorted([clip(root, 1, group), clip(root, 2, val)])]


def test_no_validation_clip_can_be_read(root, options, tmp_path, held_out):
    for class_id in (1, 2, 3):
        clip(root, class_id, held_out[0]).write_bytes(b'')
    with pytest.raises(HRI30Error, match='none of the 3 clips could be read'):
        run(root, options, tmp_path / 'work', max_epochs=1)
    assert len(rows(tmp_path / 'work')) == 3


def batch(*skipped):
    return dict(data_samples=[ActionDataSample(metainfo=dict(skipped=list(one)))
                              for one in skipped])


def test_several_processes_add_up_at_the_end_of_an_epoch(tmp_path, monkeypatch):
    runner = MagicMock(work_dir=str(tmp_path), world_size=2,
                       **{'train_dataloader.dataset': range(100)})
    hook, other = SkippedVideosHook(0.01), SkippedVideosHook(0.01)
    hook.after_train_iter(runner, 0, batch([('a', '/a\x1b.avi', 'x')], []))
    other.after_train_iter(MagicMock(world_size=2), 0, batch(
        [('a', '/a\x1b.avi', 'y'), ('=b', '/b.avi', 'z')]))
    monkeypatch.setattr('hri30_ext.engine.skipped.all_gather_object',
                        lambda own: [own, other._own])
    with pytest.raises(TooManySkipped, match='2 of 100'):
        hook.after_train_epoch(runner)
    assert [call.args[0] for call in runner.logger.warning.call_args_list] == [
        r'/a\x1b.avi: x Another clip takes its place.',
        '/b.avi: z Another clip takes its place.']
    assert [(row['Reason'], row['Times']) for row in rows(tmp_path)] == [
        ('x', '2'), ('z', '1')]
