"""A clip that cannot be read costs one sample in training, and keeps its row in testing."""

import pytest
import torch
from conftest import DEMO_CONFIG
from torch.utils.data import DataLoader

from hri30_ext.config import load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.engine.distributed import PeerLost
from hri30_ext.errors import HRI30Error
from hri30_ext.video.sandbox import IsolatedProcess, ProcessDied


def damage(path, kind):
    """Makes a file unreadable in one of several ways."""
    if kind == 'gone':
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:len(content) // 3 if kind == 'truncated' else 0])


def build(root, options, subset='train', **changes):
    cfg = load_config(DEMO_CONFIG, {**options, 'data_root': str(root)})
    name = 'train' if subset == 'train' else 'val'
    dataset = dict(cfg[f'{name}_dataloader'].dataset, subset=subset, **changes)
    dataset.pop('type')
    return HRI30Dataset(**dataset)


def filename(dataset, index):
    return dataset.get_data_info(index)['filename']


@pytest.mark.parametrize('kind', ['truncated', 'gone'])
def test_training_goes_on_with_another_clip_of_the_class(root, options, kind):
    dataset = build(root, options)
    healthy = [dataset.draw(i, 0, 0) for i in range(6)]
    info = dataset.get_data_info(2)
    damage(root / 'train_set' / f'{info["video_id"]}.avi', kind)
    sample = dataset.draw(2, 0, 0)
    assert sample['inputs'].shape == healthy[2]['inputs'].shape
    found = sample['data_samples']
    ((video, path, reason), ) = found.skipped
    assert (video, path) == (info['video_id'], info['filename'])
    assert reason and '\n' not in reason and path not in reason
    assert found.video_id != video
    # Two clips of each class are there; a flip changes none of these classes' labels.
    assert found.gt_label.item() == info['label']
    # The others are what they were; one that stands in elsewhere is drawn anew.
    for i in {0, 1, 3, 4, 5}:
        again = dataset.draw(i, 0, 0)
        assert torch.equal(again['inputs'], healthy[i]['inputs'])
        assert 'skipped' not in again['data_samples']
        assert not torch.equal(sample['inputs'], again['inputs'])


def test_the_substitute_is_a_function_of_seed_epoch_and_index(root, options):
    dataset = build(root, options)
    damage(root / 'train_set' / f'{dataset.get_data_info(2)["video_id"]}.avi', 'empty')
    dataset.set_epoch(1, 2)
    expected = [dataset[i] for i in range(6)]
    assert 'skipped' in expected[2]['data_samples']
    for workers in (0, 2):
        again = build(root, options)
        again.set_epoch(1, 2)
        loader = DataLoader(again, sampler=[5, 4, 3, 2, 1, 0], num_workers=workers,
                            collate_fn=list)
        for one, (other, ) in zip(expected[::-1], loader, strict=True):
            assert torch.equal(one['inputs'], other['inputs'])
            assert one['data_samples'].video_id == other['data_samples'].video_id


class Trips:
    """A transform that fails with some clips."""

    def __init__(self, error, videos=None):
        self.error, self.videos, self.calls = error, videos, []

    def __call__(self, results):
        self.calls.append(results['video_id'])
        if self.videos is None or results['video_id'] in self.videos:
            raise self.error
        return dict(results, label=results['label'])


@pytest.mark.parametrize('error, reason', [
    (ZeroDivisionError('a \x1b[31mred\nlie'), r'ZeroDivisionError: a \x1b[31mred'),
    (PermissionError(13, 'Permission denied'),
     'PermissionError: [Errno 13] Permission denied'),
    (KeyError(), 'KeyError'), (ValueError('x' * 1000), 'ValueError: ' + 'x' * 188),
    (HRI30Error('no frames (out of memory).\nExpected'), 'no frames (out of memory).')])
def test_whatever_a_transform_raises_with_one_clip(clips_root, options, error, reason):
    dataset = build(clips_root, options, pipeline=[])
    broken = dataset.get_data_info(0)['video_id']
    dataset = build(clips_root, options, pipeline=[Trips(error, [broken])])
    assert dataset[0]['skipped'] == [(broken, filename(dataset, 0), reason)]
    assert dataset[0]['video_id'] != broken and 'skipped' not in dataset[1]


def test_a_mistake_that_fails_with_every_clip_ends_at_once(clips_root, options):
    trips = Trips(TypeError('no such argument'))
    dataset = build(clips_root, options, pipeline=[trips])
    with pytest.raises(HRI30Error, match='6 training clips in a row could not be read'
                       r'[\s\S]*TypeError: no such argument') as raised:
        dataset[0]
    assert isinstance(raised.value.__cause__, TypeError)
    assert len(trips.calls) == len(set(trips.calls)) == 6


@pytest.mark.parametrize('error', [
    MemoryError(), RuntimeError('CUDA out of memory'),
    OSError(12, 'Cannot allocate memory'), OSError(28, 'No space left on device'),
    PeerLost('rank 1 is gone'),
    RuntimeError('DataLoader worker (pid 1) exited unexpectedly')])
def test_what_is_not_the_clips_fault_ends_the_run(clips_root, options, error):
    for subset in ('train', 'val'):
        dataset = build(clips_root, options, subset, pipeline=[Trips(error)])
        with pytest.raises(type(error)) as raised:
            dataset[0]
        assert raised.value is error


@pytest.mark.parametrize('kind, tries', [('hung', 1), ('crashed', 3), ('memory', 3)])
def test_a_clip_that_hangs_is_not_tried_again(
        clips_root, options, monkeypatch, kind, tries):
    for subset in ('train', 'val'):
        asked = []
        dataset = build(clips_root, options, subset)
        slow = filename(dataset, 0)

        def call(self, function, path, *arguments, real=IsolatedProcess.call, asked=asked,
                 slow=slow, **options):
            if path == slow:
                asked.append(function)
                raise ProcessDied('took more than 30 seconds', kind)
            return real(self, function, path, *arguments, **options)

        monkeypatch.setattr(IsolatedProcess, 'call', call)
        found = [dataset[0]['data_samples'] for _ in range(3)]
        reason, = {one.skipped[0][2] if subset == 'train' else one.failed for one in found}
        assert reason.startswith('cannot be decoded (the decoder took more than 30 seconds')
        assert len(asked) == tries
        monkeypatch.undo()


def test_a_test_pipeline_that_fails_without_any_clip_is_no_clips_fault(clips_root, options):
    error = TypeError('no such argument')
    dataset = build(clips_root, options, 'val', pipeline=[Trips(error)])
    with pytest.raises(TypeError) as raised:
        dataset[0]
    assert raised.value is error
