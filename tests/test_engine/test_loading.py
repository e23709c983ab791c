"""Batches on their way from the loading processes to the device."""

import os
import resource

import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

from hri30_ext.config import load_config
from hri30_ext.engine import HRI30Runner


class Clips:
    """Clip i is full of i and has the label i."""

    def __len__(self):
        return 256

    def __getitem__(self, i):
        sample = ActionDataSample(metainfo=dict(video_id=str(i))).set_gt_label(i)
        return dict(inputs=torch.full((1, 3, 2, 4, 4), i, dtype=torch.uint8),
                    data_samples=sample)


@pytest.fixture
def few_files():
    """Allows 200 files more than are open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir('/proc/self/fd'))) + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def collate(options):
    cfg = load_config(DEMO_CONFIG, options)
    return FUNCTIONS.get(cfg.train_dataloader.get('collate_fn', {'type': 'pseudo_collate'})
                         ['type'])


def test_batches_of_128_need_few_files(few_files, options):
    loader = DataLoader(Clips(), batch_size=128, num_workers=16, timeout=60,
                        collate_fn=collate(options))
    batches = list(loader)
    inputs = torch.cat([batch['inputs'] for batch in batches])
    assert inputs.shape == (256, 1, 3, 2, 4, 4)
    assert inputs[:, 0, 0, 0, 0, 0].tolist() == list(range(256))
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert [sample.gt_label.tolist() for sample in samples] == [[i] for i in range(256)]
    assert [sample.video_id for sample in samples] == list(map(str, range(256)))


def test_clips_of_different_sizes_stay_apart(options):
    items = [dict(Clips()[i], inputs=torch.zeros(1, i)) for i in (1, 2)]
    assert [clip.shape for clip in collate(options)(items)['inputs']] == [(1, 1), (1, 2)]


def test_a_run_may_open_as_many_files_as_the_system_allows(few_files, tmp_path):
    HRI30Runner.from_cfg(Config(dict(model=torch.nn.Linear(1, 1), work_dir=str(tmp_path))))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard > few_files
