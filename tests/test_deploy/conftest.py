"""A small SlowOnly with weights that mean something, as a checkpoint and exported."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import CLASSES, PRIMITIVE
from mmaction.registry import MODELS

from hri30_ext.apis.exporting import export
from hri30_ext.config import load_config
from hri30_ext.datasets.hri30 import list_split
from hri30_ext.deploy.torch_backend import Whole
from hri30_ext.video.decode import read_clip
from hri30_ext.video.preprocessing import Preprocessing


class Trained(NamedTuple):
    """A config with options, and weights for it."""
    config: str
    checkpoint: str
    options: dict


def read_clips(cfg, subset):
    """Reads clips as the test pipeline does, (N, T, H, W, C) uint8, and labels, (N, )."""
    preprocessing = Preprocessing.from_config(cfg)
    clips = list_split(cfg.test_dataloader, subset=subset)
    return (np.concatenate([read_clip(clip['filename'], preprocessing) for clip in clips]),
            np.array([clip['label'] for clip in clips]))


@pytest.fixture(scope='session')
def trained(clips_root, tmp_path_factory):
    """A small SlowOnly whose first two stages see single frames, and which was trained for
    a moment, on all clips.

    Random weights are of no use here: they saturate, or what tells clips apart is so small
    that int8 rounds it away. Smoothed labels keep probabilities from 0 and 1.
    """
    options = {'load_from': None, 'data_root': str(clips_root), 'classes': CLASSES,
               'num_frames': 4, 'input_size': (48, 32), 'num_workers': 0, 'batch_size': 2,
               'clip_cache': None, 'model.backbone.depth': 18,
               'model.backbone.base_channels': 8, 'model.cls_head.in_channels': 64}
    torch.manual_seed(0)
    cfg = load_config(PRIMITIVE, options)
    clips, labels = (torch.from_numpy(np.concatenate(parts)) for parts in zip(
        read_clips(cfg, 'train'), read_clips(cfg, 'val'), strict=True))
    cfg.model.cls_head.dropout_ratio = 0
    model = MODELS.build(cfg.model)
    whole = Whole(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        loss = torch.nn.functional.nll_loss(whole(clips).log(), labels)
        loss = 0.7 * loss - 0.3 * whole(clips).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for norm in model.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.momentum = None  # statistics of the batch that comes, as it is in training
            norm.reset_running_stats()
    with torch.no_grad():
        whole(clips)
    path = tmp_path_factory.mktemp('trained') / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(dataset_meta=dict(classes=CLASSES))), path)
    return Trained(PRIMITIVE, str(path), options)


def _exported(trained, folder, *kind):
    export(trained.config, trained.checkpoint, *kind, folder, options=trained.options)
    return folder


@pytest.fixture(scope='session')
def openvino_folder(trained, tmp_path_factory):
    """The small SlowOnly, exported for OpenVINO in float32. Read only."""
    return _exported(trained, tmp_path_factory.mktemp('exported') / 'openvino',
                     'openvino', 'fp32')


@pytest.fixture(scope='session')
def onnx_folder(trained, tmp_path_factory):
    """The small SlowOnly, exported for ONNX Runtime in float32. Read only."""
    return _exported(trained, tmp_path_factory.mktemp('exported') / 'onnx', 'onnx', 'fp32')


@pytest.fixture(scope='session')
def validation_clips(trained):
    """Prepared frames of the validation clips, (N, T, H, W, C) uint8."""
    return read_clips(load_config(trained.config, trained.options), 'val')[0]


@pytest.fixture
def preprocessing(trained):
    """Of the small SlowOnly."""
    return Preprocessing.from_config(load_config(trained.config, trained.options))
